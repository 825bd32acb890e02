"""How far a policy has moved from its base: the price beside the gain.

Samples: the policy's and the base's sample of the same prompt and the same seed, compared in pixels, features or words.
Likelihood: on held data, the mean log-ratio log p_policy(x) - log p_base(x), and the divergence of the two models'
predictions; for texts the KL divergence on the policy's own samples (`sequence_kl`). These are measured where the
models live and are only carried here.

Shape legend: P prompts, S seeds, D features, M held samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from penchant.errors import PenchantError
from penchant.evaluate.diversity import unit, unit_interval


@dataclass(frozen=True, kw_only=True)
class SequenceKL:
    """KL(policy || base) of whole texts, in nats, estimated on `texts` of the policy's own; `error` is the standard
    error of `nats` over prompts, `per_token` the same sum over all tokens."""

    nats: float
    error: float
    per_token: float
    texts: int


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Distances of a policy from its base; what was not measured is None.

    `pixel_mse` in [0, 1], `feature_cosine` = mean of 1 - cosine, `word_distance` = mean of
    `penchant.evaluate.form.distance`, `tune_distance` = mean of `penchant.evaluate.tune_form.tune_distance`,
    `pitch_classes` and `durations` = Jensen-Shannon divergence in bits of what notes are, over all tunes,
    `spectrum_db` = mean of `penchant.evaluate.sound_form.spectral_distance`, `kl` of texts and tunes,
    `log_ratio` = mean of log p_policy - log p_base on held data (below zero: the policy finds them less likely),
    `divergence` = mean distance of the predictions there.
    """

    pixel_mse: float | None = None
    feature_cosine: float | None = None
    word_distance: float | None = None
    tune_distance: float | None = None
    pitch_classes: float | None = None
    durations: float | None = None
    spectrum_db: float | None = None
    kl: SequenceKL | None = None
    log_ratio: float | None = None
    divergence: float | None = None


def pixel_drift(policy_pixels: ArrayLike, base_pixels: ArrayLike) -> float:
    """Mean squared pixel difference at equal prompt and seed.

    Args:
        policy_pixels: pixels [P, S, ...], uint8, or float in [0, 1].
        base_pixels: the base's, of the same shape.

    Raises:
        PenchantError: the shapes differ, or the pixels are out of range.
    """
    policy, base = np.asarray(policy_pixels), np.asarray(base_pixels)
    _same_shape(policy, base, "pixels")
    errors = [((unit_interval(a) - unit_interval(b)) ** 2).mean() for a, b in zip(policy, base, strict=True)]
    return float(np.mean(errors))


def feature_drift(policy_features: ArrayLike, base_features: ArrayLike) -> float:
    """Mean of 1 - cosine between the features of the policy's and the base's sample of equal prompt and seed.

    Args:
        policy_features: features [..., D].
        base_features: the base's, of the same shape.

    Raises:
        PenchantError: the shapes differ, or a feature vector is zero or not finite.
    """
    policy, base = unit(policy_features), unit(base_features)
    _same_shape(policy, base, "features")
    return max(0.0, float(1 - (policy * base).sum(-1).mean()))


def measure_drift(
    *,
    pixels: tuple[ArrayLike, ArrayLike] | None = None,
    features: tuple[ArrayLike, ArrayLike] | None = None,
    log_probs: tuple[ArrayLike, ArrayLike] | None = None,
    divergence: ArrayLike | None = None,
) -> Drift:
    """Every distance for which there are numbers; pairs are (policy, base).

    Args:
        pixels: pixels [P, S, ...] at equal prompts and seeds.
        features: features [P, S, D] at equal prompts and seeds.
        log_probs: log-probs [M] of the same held samples, drawn with the same noise.
        divergence: distance of the predictions on each held sample [M].

    Raises:
        PenchantError: as the parts, or log-probs of different shapes.
    """
    log_ratio = None
    if log_probs is not None:
        policy, base = (np.asarray(values, dtype=np.float64) for values in log_probs)
        _same_shape(policy, base, "log-probs")
        log_ratio = float((policy - base).mean())
    return Drift(
        pixel_mse=None if pixels is None else pixel_drift(*pixels),
        feature_cosine=None if features is None else feature_drift(*features),
        log_ratio=log_ratio,
        divergence=None if divergence is None else float(np.mean(np.asarray(divergence, dtype=np.float64))),
    )


def _same_shape(policy: np.ndarray, base: np.ndarray, what: str) -> None:
    if policy.shape != base.shape or policy.size == 0:
        raise PenchantError(
            f"the policy's {what} have shape {policy.shape} and the base's {base.shape}.",
            remedy="compare samples of the same prompts and the same seeds.",
        )
