"""How different a model's samples of the same prompt are from one another.

A policy can please a judge by drawing one safe picture again and again; the mean distance between samples of the same
prompt falls then, and is compared with the base's. (Ruiz et al., "DreamBooth", arXiv:2208.12242, section 4.2, measures
diversity as the mean pairwise distance between pictures of the same prompt; we use cosine distance in any feature space
where they use LPIPS.)

Both distances are of the squared kind, (1 - cosine) and mean squared error, the same two as in `drift`, so a drift can
be read against the base's diversity: a drift as large as the diversity means that the policy's picture has no more to
do with the base's than another seed's has.

Shape legend: P prompts, S samples (seeds) a prompt, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from penchant.errors import PenchantError

Space = Literal["features", "pixels", "words", "runs of intervals", "dB of bands"]


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Mean pairwise distance between samples of a prompt: cosine distance of features, MSE of pixels in [0, 1], the
    share of words and pairs of words that two texts, or of runs of intervals that two tunes, do not share, or the
    difference of two sounds' bands in dB."""

    value: float
    space: Space
    prompts: int
    seeds: int

    def of(self, base: Diversity) -> float:
        """This diversity as a fraction of the base's.

        Raises:
            PenchantError: the two were measured in different spaces, or the base has no diversity at all.
        """
        if self.space != base.space:
            raise PenchantError(
                f"diversity of {self.space} cannot be compared with diversity of {base.space}.",
                remedy="measure policy and base in the same space.",
            )
        if base.value == 0:
            raise PenchantError(
                "all samples of the base are identical within each prompt.",
                remedy="sample the base with several seeds.",
            )
        return self.value / base.value


def feature_diversity(features_PSD: Float[np.ndarray, "P S D"]) -> Diversity:
    """Mean over prompts and pairs of samples of 1 - cosine(a, b).

    With unit vectors u the mean over pairs is 1 - (|sum u|^2 - S) / (S (S - 1)), so no pair is ever formed.

    Args:
        features_PSD: features of every sample, any scale; S >= 2.

    Raises:
        PenchantError: the shape is not [P, S >= 2, D], or a feature vector is zero or not finite.
    """
    unit_PSD = unit(features_PSD)
    if unit_PSD.ndim != 3:
        raise PenchantError(f"features have shape {unit_PSD.shape}.", remedy="give [prompts, seeds, features].")
    prompts, seeds, _ = _at_least_two(unit_PSD)
    squared_P = (unit_PSD.sum(1) ** 2).sum(-1)
    distance_P = 1 - (squared_P - seeds) / (seeds * (seeds - 1))
    return Diversity(value=max(0.0, float(distance_P.mean())), space="features", prompts=prompts, seeds=seeds)


def pixel_diversity(pixels_PS: ArrayLike) -> Diversity:
    """Mean over prompts and pairs of samples of the mean squared pixel difference: for when there are no features.

    The mean over pairs of (a - b)^2 is twice the unbiased variance over samples.

    Args:
        pixels_PS: pixels [P, S, ...], uint8, or float in [0, 1]; S >= 2.

    Raises:
        PenchantError: there are fewer than two samples a prompt, or the pixels are out of range.
    """
    pixels = np.asarray(pixels_PS)
    prompts, seeds = _at_least_two(pixels)[:2]
    # one prompt at a time: an evaluation of pictures as float64 would not fit beside a model
    value_P = [2 * unit_interval(pixels[p]).var(axis=0, ddof=1).mean() for p in range(prompts)]
    return Diversity(value=float(np.mean(value_P)), space="pixels", prompts=prompts, seeds=seeds)


def unit(features: ArrayLike) -> Float[np.ndarray, "... D"]:
    """Features as float64 unit vectors along the last dimension.

    Raises:
        PenchantError: a feature vector is zero or not finite.
    """
    values = np.asarray(features, dtype=np.float64)
    norm = np.linalg.norm(values, axis=-1, keepdims=True)
    if not (np.isfinite(norm).all() and (norm > 0).all()):
        raise PenchantError(
            "a feature vector is zero or not finite, so it has no direction.",
            remedy="look at the sample it came from, or use pixels.",
        )
    return values / norm


def unit_interval(pixels: ArrayLike) -> np.ndarray:
    """Pixels as float64 in [0, 1]; uint8 is divided by 255.

    Raises:
        PenchantError: float pixels outside [0, 1], or another dtype.
    """
    values = np.asarray(pixels)
    if values.dtype == np.uint8:
        return values.astype(np.float64) / 255
    if not np.issubdtype(values.dtype, np.floating):
        raise PenchantError(f"pixels are {values.dtype}.", remedy="give uint8, or floats in [0, 1].")
    if not (values.min() >= 0 and values.max() <= 1):  # also refuses NaN
        raise PenchantError("pixels are not all in [0, 1].", remedy="give uint8, or floats in [0, 1].")
    return values.astype(np.float64)


def _at_least_two(samples: np.ndarray) -> tuple[int, ...]:
    if samples.ndim < 3 or samples.shape[0] == 0 or samples.shape[1] < 2:
        raise PenchantError(
            f"samples have shape {samples.shape}; diversity needs two samples of each prompt or more.",
            remedy="sample every prompt with two seeds or more and give [prompts, seeds, ...].",
        )
    return samples.shape
