"""Between `Sound` and the waveform that a codec reads: its rate, its channels."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from penchant.feedback.sound import Sound


def waveform(sound: Sound, *, rate: int, channels: int) -> Float[Tensor, "C S"]:
    """Samples at `rate` in `channels` (1 or 2): mixed to their mean, or one channel given to both sides.

    The rate is changed by a polyphase filter (`scipy.signal.resample_poly`), which cuts what the new rate cannot hold.
    """
    samples = sound.samples
    if channels == 1:
        samples = sound.mono()[None]
    elif len(samples) == 1:
        samples = np.repeat(samples, 2, axis=0)
    if sound.rate != rate:
        from scipy.signal import resample_poly

        common = math.gcd(rate, sound.rate)
        samples = resample_poly(samples, rate // common, sound.rate // common, axis=-1)
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))


def sound_of(waves: Float[Tensor, "C S"], *, rate: int) -> Sound:
    """The sound of a waveform."""
    return Sound(samples=waves.detach().float().cpu().numpy(), rate=rate)
