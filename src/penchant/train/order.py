"""Which groups a step trains on: a pure function of (seed, step), so that resuming needs one integer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from penchant.likelihoods.randomness import generator


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return generator(seed, epoch, "order", "data").permutation(count)


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One group's turn: which group, in which epoch."""

    epoch: int
    index: int


def visits(*, seed: int, step: int, batch_size: int, count: int) -> list[Visit]:
    """The groups of optimiser step `step` (from 0), in order. Every epoch visits each of `count` groups once."""
    first = step * batch_size
    return [
        Visit(epoch=flat // count, index=int(_permutation(seed, flat // count, count)[flat % count]))
        for flat in range(first, first + batch_size)
    ]
