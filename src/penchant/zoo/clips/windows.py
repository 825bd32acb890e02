"""Loops as one tensor, and random windows of them: what every clip trainer looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from penchant.zoo.clips.data import FRAMES, Footage


@dataclass(frozen=True, kw_only=True, eq=False)
class Loops:
    """All loops side by side.

    Attributes:
        frames: uint8 [N, F, H, W, 3]; a loop shorter than the longest goes on from its start.
        lengths: [N], the frames of each loop before it repeats.
    """

    frames: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, footage: Sequence[Footage]) -> Loops:
        """The loops in the order of `footage`, each with enough frames behind its end for a window to start there."""
        longest = max(len(one.frames) for one in footage) + FRAMES
        frames = np.stack([one.frames[np.arange(longest) % len(one.frames)] for one in footage])
        return cls(frames=torch.from_numpy(frames), lengths=torch.tensor([len(one.frames) for one in footage]))

    def windows(self, indices: Tensor, starts: Tensor) -> Tensor:
        """Windows [B, 9, H, W, 3] of the loops `indices` from the frames `starts` on."""
        steps = starts[:, None] + torch.arange(FRAMES)
        return self.frames[indices[:, None], steps]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` windows at random starts, and their loops' indices; no loop twice while others are left."""
        order = torch.randperm(len(self.lengths), generator=generator)
        indices = order[torch.arange(count) % len(order)]
        starts = (torch.rand(count, generator=generator) * self.lengths[indices]).long()
        return self.windows(indices, starts), indices

    def places(self) -> tuple[Tensor, Tensor]:
        """Every window there is: loop indices [W], and the frames where the windows start [W]."""
        indices = torch.repeat_interleave(torch.arange(len(self.lengths)), self.lengths)
        return indices, torch.cat([torch.arange(int(length)) for length in self.lengths])
