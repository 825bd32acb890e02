"""From frames and how long each is shown to frames at a fixed rate, or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from penchant.errors import MediaError

TOLERANCE = 0.1
"""Intervals may differ from their median by this share of it: WebM keeps milliseconds, GIF hundredths of a second."""

RESAMPLED = "variable frame rate brought to the rate of the row"
RESTORED = "frames shown for longer repeated"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Which frames, in which order, at what rate; `repair` says what was done, None for nothing."""

    frames: Int[np.ndarray, " F"]
    fps: float
    repair: str | None = None


def constant(seconds: Sequence[float], *, tick: float = 0.0) -> Pace | None:
    """Every frame once, if all intervals are alike; None if they are not.

    Args:
        seconds: how long each frame is shown; the last one, which files often do not tell, is not looked at.
        tick: how finely the file tells time.
    """
    gaps = np.asarray(seconds[:-1])
    median = float(np.median(gaps))
    if median <= 0 or np.abs(gaps - median).max() > TOLERANCE * median + tick:
        return None
    return Pace(frames=np.arange(len(seconds)), fps=float(1 / gaps.mean()))


def restored(seconds: Sequence[float]) -> Pace | None:
    """Frames repeated, if every interval is a whole number of the shortest one; None if not.

    Writers of animations join equal frames and show the one for longer.
    """
    times = np.asarray(seconds)
    shares = times / times.min()
    repeats = np.round(shares).astype(np.int64)
    if np.abs(shares - repeats).max() > TOLERANCE:
        return None
    frames = np.repeat(np.arange(len(times)), repeats)
    repair = RESTORED if len(frames) > len(times) else None
    return Pace(frames=frames, fps=float(len(frames) / times.sum()), repair=repair)


def resampled(seconds: Sequence[float], fps: float | None) -> Pace:
    """The frame that is on the screen at each `k / fps`.

    Raises:
        MediaError: no rate is given: the clip is refused, since its frames do not stand at equal times.
    """
    if fps is None:
        raise MediaError(
            "the clip has a variable frame rate.",
            remedy="re-encode it at a constant rate (ffmpeg -i CLIP -vf fps=24 OUT), or give the row's rate.",
        )
    ends = np.cumsum(seconds)
    count = max(1, round(float(ends[-1]) * fps))
    frames = np.searchsorted(ends, np.arange(count) / fps + 1e-6, side="right")
    return Pace(frames=np.minimum(frames, len(ends) - 1), fps=fps, repair=RESAMPLED)
