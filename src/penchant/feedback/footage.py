"""Frames of a clip at another rate, by time: what stands at second 1.5 stays at second 1.5."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int, UInt8

from penchant.errors import MediaError
from penchant.feedback.clip import Clip

# Times are sums of fractions that are no floats: a frame counts as begun this share of a frame early.
_SLACK = 1e-4


def frame_times(clip: Clip, fps: float, count: int | None = None, start: float = 0.0) -> Int[np.ndarray, " count"]:
    """Which frame of `clip` is on the screen at `start + k / fps`, k = 0 .. count - 1.

    Args:
        clip: F frames.
        fps: frames a second that are wanted; above the clip's own rate frames repeat.
        count: how many; None takes all that begin before the clip ends.
        start: seconds from the clip's beginning.

    Raises:
        MediaError: `fps`, `count` or `start` make no sense, or the clip ends before the last frame.
    """
    if not (0 < fps < math.inf and 0 <= start < clip.seconds and (count is None or count >= 1)):
        raise MediaError(
            f"{count or 'all'} frames at {fps:g} a second from second {start:g} cannot be taken of "
            f"{clip.seconds:.3g} seconds.",
            remedy="give a positive rate and count, and a start inside the clip.",
        )
    if count is None:
        count = max(1, math.ceil((clip.seconds - start) * fps - _SLACK))
    shown = np.floor((start + np.arange(count) / fps) * clip.fps + _SLACK).astype(np.int64)
    if shown[-1] >= len(clip):
        raise MediaError(
            f"a clip of {clip.seconds:.3g} seconds has no {count} frames at {fps:g} a second from second {start:g}.",
            remedy="take fewer frames, a higher rate, or longer clips.",
        )
    return shown


def sample_frames(
    clip: Clip, fps: float, count: int | None = None, start: float = 0.0
) -> UInt8[np.ndarray, "count H W 3"]:
    """The frames on the screen at `start + k / fps`, see `frame_times`: a stable interval at any rate of the clip.

    At the clip's own rate they are its frames. VideoAlign (arXiv:2501.13918, section 3) samples at 2 frames a second
    and finds a fixed interval better than a fixed count, for motion most of all.

    Raises:
        MediaError: as `frame_times`.
    """
    return clip.frames[frame_times(clip, fps, count, start)]
