"""Judges that measure motion: no weights, no prompt. Of use for alarms and filters, and easy to exploit as rewards.

All three rest on dense optical flow between neighbouring frames (Farneback, "Two-frame motion estimation based on
polynomial expansion", SCIA 2003, OpenCV's implementation) of 8-bit luma whose shorter side was brought to 64 pixels.
With f_i [h, w, 2] the flow from frame i to i + 1 in these pixels and |.| its length, means being over pixels and i:

    dynamic degree  mean |f_i| * fps / 64                              shorter sides a second
    smoothness      1 - mean |f_{i+1} - f_i| / mean (|f_{i+1}| + |f_i| + 2 * 0.02)   in [0, 1]
    steadiness      1 - mean |Y_i(x) - Y_{i+1}(x + f_i(x))| / 255   in [0, 1]

The dynamic degree asks how much moves and how fast; it grows with the rate and with nothing else that a clip could be
scaled by. (VBench, arXiv:2311.17982, calls a thresholded mean of RAFT's largest flows by this name.) The smoothness
compares the change of the flow with the flow, second with first differences; the floor of a fiftieth of a pixel keeps
the estimator's noise from passing for motion. The steadiness is one minus the warping error of Lai et al. (ECCV 2018)
without their occlusion masks: what flickers or appears from nowhere is in no place where the flow says it went; pixels
that flow out of the picture are left out.

A clip that stands still is perfectly smooth and perfectly steady, so neither means anything without the dynamic degree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import numpy as np
from jaxtyping import Float, UInt8

from penchant.errors import ModelError
from penchant.feedback.clip import Clip
from penchant.judges.base import Judge

SIDE = 64
FLOOR = 0.02

# Pyramid of 3 levels by halves; windows of 15, polynomials of 5 pixels: OpenCV's own example.
_PYRAMID, _LEVELS, _WINDOW, _ITERATIONS, _POLYNOMIAL, _SIGMA = 0.5, 3, 15, 3, 5, 1.2


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What the flow of one clip says, see the top of this file."""

    dynamic_degree: float
    smoothness: float
    steadiness: float


def motion(clip: Clip) -> Motion:
    """The measures of a clip.

    Raises:
        ModelError: OpenCV is missing.
    """
    cv2 = _opencv()
    luma = _luma(cv2, clip.frames)
    # One frame has no neighbour: nothing moves, nothing is rough.
    flows = [_flow(cv2, a, b) for a, b in pairwise(luma)]
    lengths = [_length(flow) for flow in flows]
    changes = [_length(after - before) for before, after in pairwise(flows)]
    sums = [a + b + 2 * FLOOR for a, b in pairwise(lengths)]
    errors = [_warping_error(cv2, luma[i], luma[i + 1], flow) for i, flow in enumerate(flows)]
    return Motion(
        dynamic_degree=float(np.mean(lengths or [0.0])) * clip.fps / SIDE,
        smoothness=1 - float(np.sum(changes)) / float(np.sum(sums)) if changes else 1.0,
        steadiness=1 - float(np.mean(errors or [0.0])),
    )


def _luma(cv2: Any, frames: UInt8[np.ndarray, "F H W 3"]) -> list[UInt8[np.ndarray, "h w"]]:
    """Grey frames whose shorter side has `SIDE` pixels."""
    height, width = frames.shape[1:3]
    scale = SIDE / min(height, width)
    size = (max(SIDE, round(width * scale)), max(SIDE, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    return [cv2.resize(picture, size, interpolation=how) for picture in grey]


def _flow(cv2: Any, before: UInt8[np.ndarray, "h w"], after: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 2"]:
    # Of equal frames the estimator says ten thousandths of a pixel; they do not move at all.
    if np.array_equal(before, after):
        return np.zeros((*before.shape, 2), dtype=np.float32)
    flow: Float[np.ndarray, "h w 2"] = cv2.calcOpticalFlowFarneback(
        before, after, None, _PYRAMID, _LEVELS, _WINDOW, _ITERATIONS, _POLYNOMIAL, _SIGMA, 0
    )
    return flow


def _length(flow: Float[np.ndarray, "h w 2"]) -> float:
    return float(np.hypot(flow[..., 0], flow[..., 1]).mean(dtype=np.float64))


def _warping_error(
    cv2: Any, before: UInt8[np.ndarray, "h w"], after: UInt8[np.ndarray, "h w"], flow: Float[np.ndarray, "h w 2"]
) -> float:
    """Mean absolute difference of a frame and the next one brought back along the flow, in [0, 1]."""
    height, width = before.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + flow[..., 0], y + flow[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    back = cv2.remap(after.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float(np.abs(before - back)[inside].mean()) / 255 if inside.any() else 0.0


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ModelError(
            "OpenCV, which measures motion, is not installed.", remedy="pip install 'penchant[video]'."
        ) from error
    return cv2


class MotionJudge(Judge):
    """One of the measures of `motion` as a judge. A subclass says which: its dimension, with an underscore."""

    version = "1"

    def __init__(self, path: str | None = None) -> None:
        """
        Raises:
            ModelError: a path is given, there is nothing to load; or OpenCV is missing.
        """
        if path is not None:
            raise ModelError("has no weights.", file=path, remedy=f"name the judge alone: `{self.name}`.")
        _opencv()

    def score(self, prompts: Sequence[str], samples: Sequence[Clip]) -> Float[np.ndarray, "N 1"]:
        """The measure of each clip; prompts are not looked at."""
        measure = self.dimensions[0].replace(" ", "_")
        return np.array([[getattr(motion(clip), measure)] for clip in samples]).reshape(-1, 1)


@final
class DynamicDegree(MotionJudge):
    """How much moves and how fast, in shorter sides a second; 0 for a clip that stands still."""

    name, dimensions = "dynamic-degree", ("dynamic degree",)


@final
class Smoothness(MotionJudge):
    """How little the flow changes from frame to frame, in [0, 1]; 1 for a clip that stands still."""

    name, dimensions = "smoothness", ("smoothness",)


@final
class Steadiness(MotionJudge):
    """How well the flow explains the next frame, in [0, 1]; 1 for a clip that stands still."""

    name, dimensions = "steadiness", ("steadiness",)
