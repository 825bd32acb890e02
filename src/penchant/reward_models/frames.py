"""Frames of a clip as a network wants them: at its own rate, so that equal steps in time are equal steps of input.

A fixed rate judges motion better than a fixed number of frames (VideoAlign, arXiv 2501.13918, appendix on video
sampling). A picture is a clip of one frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from penchant.errors import MediaError
from penchant.feedback.clip import Clip

Pixels = UInt8[np.ndarray, "F H W 3"]


def as_clip(sample: Any) -> Clip:
    """A clip as it is, a picture as a clip of one frame.

    Raises:
        MediaError: it is neither.
    """
    if isinstance(sample, Clip):
        return sample
    if isinstance(sample, Image.Image):
        return Clip(frames=np.asarray(sample.convert("RGB"))[None], fps=1.0)
    raise MediaError(
        f"a {type(sample).__name__} is neither clip nor picture.",
        remedy="give penchant.feedback.clip.Clip or a PIL image; texts need a language model as the judge.",
    )


def frame_indices(count: int, fps: float, *, rate: float, most: int, least: int = 1) -> Int[np.ndarray, F]:
    """Which of `count` frames at `fps` are shown at the times 0, 1/rate, 2/rate, ...

    A clip with more than `most` such times gives that many frames, evenly spread; so does one with fewer than `least`,
    if it has so many.

        >>> frame_indices(24, 24.0, rate=6.0, most=9).tolist()
        [0, 4, 8, 12, 16, 20]
    """
    # A still picture lasts as long as one likes.
    wanted = round(count / fps * rate) if count > 1 else 1
    shown = min(max(wanted, min(least, count), 1), most)
    if shown != wanted:
        return np.linspace(0, count - 1, shown).round().astype(np.int64)
    # A hair above, so that rates which divide each other never miss a frame by rounding.
    return np.minimum((np.arange(shown) * (fps / rate) + 1e-6).astype(np.int64), count - 1)


def squares(clip: Clip, *, rate: float, most: int, side: int) -> Pixels:
    """Frames at `rate`, scaled to side x side."""
    frames = clip.frames[frame_indices(len(clip), clip.fps, rate=rate, most=most)]
    if frames.shape[1:3] == (side, side):
        return frames
    size = (side, side)
    return np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC)) for f in frames])
