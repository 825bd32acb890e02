"""From clips to pixels [-1, 1]: frames at the model's rate, short side to the size, centre crop; and that size."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from penchant.errors import MediaError, ModelError
from penchant.feedback.clip import Clip
from penchant.feedback.footage import sample_frames

SIZE_FILE = "clip_size.json"
"""Beside model_index.json: the size that a video model was made for, as a `ClipSize`; pipelines do not say it."""


@dataclass(frozen=True, kw_only=True)
class ClipSize:
    """What a video model trains on and samples.

    Attributes:
        height: in pixels.
        width: in pixels.
        frames: how many.
        fps: frames a second.

    Raises:
        ModelError: one of them is not positive.
    """

    height: int
    width: int
    frames: int
    fps: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < float("inf"):
                raise ModelError(f"a clip cannot have a size of {value}.", field=name, remedy="use a positive number.")

    @property
    def seconds(self) -> float:
        """From the first frame to the last: how long a clip must at least be shown."""
        return (self.frames - 1) / self.fps

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The size that `SIZE_FILE` in a folder names, or None if there is none.

        Raises:
            ModelError: the file is no such size.
        """
        file = folder / SIZE_FILE
        if not file.is_file():
            return None
        remedy = 'write {"height": 32, "width": 32, "frames": 9, "fps": 6.0}, with your numbers.'
        try:
            found = json.loads(file.read_text())
            height, width, frames = (int(found[name]) for name in ("height", "width", "frames"))
            return cls(height=height, width=width, frames=frames, fps=float(found["fps"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"is no size of clips ({error!r}).", file=file, remedy=remedy) from error

    def write(self, folder: Path) -> None:
        """The size as `SIZE_FILE` in a folder."""
        (folder / SIZE_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")


def frame_clip(clip: Clip, size: ClipSize, *, name: str, flip: bool = False) -> Float[Tensor, "3 F H W"]:
    """Pixels in [-1, 1] of one clip: the frames on the screen at 0, 1 / fps, 2 / fps, ... of `size`, so that motion
    keeps its speed, resized to cover height and width (bilinear with PIL's antialiasing, as pictures are), the centre
    cropped, and with `flip` every frame mirrored.

    Raises:
        MediaError: the clip, called `name`, ends before the last of these times.
    """
    frames = _in_time(clip, size, name)
    high, wide = frames.shape[1:3]
    scale = max(size.height / high, size.width / wide)
    resized = (max(size.width, round(wide * scale)), max(size.height, round(high * scale)))
    left, top = (resized[0] - size.width) // 2, (resized[1] - size.height) // 2
    box = (left, top, left + size.width, top + size.height)
    cut = [Image.fromarray(f).resize(resized, Image.Resampling.BILINEAR).crop(box) for f in frames]
    values = torch.from_numpy(np.stack([np.asarray(f, dtype=np.float32) for f in cut])).permute(3, 0, 1, 2)
    return (values.flip(-1) if flip else values).contiguous() / 127.5 - 1.0


def _in_time(clip: Clip, size: ClipSize, name: str) -> UInt8[np.ndarray, "F H W 3"]:
    try:
        return sample_frames(clip, size.fps, size.frames)
    except MediaError as error:
        raise MediaError(
            f"clip {name[:12]} has {len(clip)} frames at {clip.fps:g} a second, that is {clip.seconds:.2f} s; "
            f"{size.frames} frames at {size.fps:g} a second need more than {size.seconds:.2f} s.",
            remedy="leave it out, or ask the policy for fewer frames (frames=) or a higher rate (fps=).",
        ) from error
