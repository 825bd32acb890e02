"""Counted randomness: every number drawn is a pure function of (seed, epoch, id, purpose).

A streamed generator hands out numbers in the order they are asked for, so its draws change with the batch size, the
order of the data, the number of workers and the device. Here each group owns a counter-based generator (Philox) whose
key is a hash of what the draw is for; it runs on the CPU, so that a GPU run and a CPU run see the same noise.

    >>> generator(0, 0, "group-a", "noise").standard_normal() == generator(0, 0, "group-a", "noise").standard_normal()
    True
"""

from __future__ import annotations

import json
from hashlib import blake2b

import numpy as np


def digest(*parts: object) -> bytes:
    """16 bytes that name `parts`; the encoding is unambiguous, so ("a", "bc") and ("ab", "c") differ."""
    return blake2b(json.dumps(parts, separators=(",", ":")).encode(), digest_size=16).digest()


def generator(seed: int, epoch: int, id: str, purpose: str) -> np.random.Generator:
    """The generator of `id` for `purpose` in `epoch`; independent of batch, order, workers and device."""
    key = np.frombuffer(digest(seed, epoch, id, purpose), dtype="<u8").astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
