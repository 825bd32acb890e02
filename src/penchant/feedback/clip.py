"""`Clip`: a moving picture in memory, what video models make and what judges of videos look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from penchant.errors import MediaError


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Frames shown at a fixed rate.

    Attributes:
        frames: RGB pixels.
        fps: frames a second.

    Raises:
        MediaError: no frame, frames that are not 8-bit RGB, or a rate that is not positive.
    """

    frames: UInt8[np.ndarray, "F H W 3"]
    fps: float

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[0] < 1 or self.frames.shape[-1] != 3:
            raise MediaError(
                f"a clip cannot have frames of shape {self.frames.shape}.", remedy="give [frames, height, width, 3]."
            )
        if self.frames.dtype != np.uint8:
            raise MediaError(f"a clip cannot have frames of {self.frames.dtype}.", remedy="give 8-bit pixels, uint8.")
        if not 0 < self.fps < float("inf"):
            raise MediaError(f"a clip cannot have {self.fps} frames a second.", remedy="give a positive rate.")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seconds(self) -> float:
        """How long it is shown."""
        return len(self.frames) / self.fps
