"""How a clip moves, frame by frame: what a small network would need many pairs to find out by itself.

Of every frame two things are measured on grey levels in [0, 1]: how far it is from every other frame (a frozen clip is
at no distance, and in a shuffled one neighbours are far and others near), and how far from the frame before when that
one is shifted by up to two pixels (a shaken clip is nearest elsewhere than at no shift). Both are mean absolute
differences, and their logarithms are given.

Shapes: F frames, M the most frames.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from penchant.reward_models.frames import Pixels

REACH = 2
_SHIFTS = [(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)]
# Under a quarter of a grey level nothing moves.
_FLOOR = 1e-3


def width(most: int) -> int:
    """Numbers a frame, in clips of at most `most` frames."""
    return most + len(_SHIFTS)


def motion(frames: Pixels, most: int) -> Float[Tensor, "M width"]:
    """Distances of each frame; what a shorter clip lacks is zero."""
    grey = frames.astype(np.float32).mean(-1) / 255
    found = np.zeros((most, width(most)), dtype=np.float32)
    apart = np.abs(grey[:, None] - grey[None]).mean((2, 3))
    found[: len(grey), : len(grey)] = _log(apart)
    inner = grey[1:, REACH:-REACH, REACH:-REACH]
    height, breadth = inner.shape[1:]
    for k, (y, x) in enumerate(_SHIFTS):
        moved = grey[:-1, REACH + y : REACH + y + height, REACH + x : REACH + x + breadth]
        found[1 : len(grey), most + k] = _log(np.abs(inner - moved).mean((1, 2)))
    return torch.from_numpy(found)


def _log(distance: np.ndarray) -> np.ndarray:
    """Between about -1 and 2."""
    return (np.log(distance + _FLOOR) + 5) / 2
