"""How loud a sound is heard, by ITU-R BS.1770-4, and several sounds brought to one loudness.

The louder of two recordings is taken for the better one, so clips are brought to one loudness before anyone listens or
votes. K-weighting, mean square, and two gates (annexes 1 and 2); filters at other rates than 48 kHz are made of the
same analogue prototypes. `loudness` gives the standard's number of the file. `heard` adds what the standard leaves to
the player: a mono file comes out of both speakers, 3 dB louder than its number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from penchant.errors import MediaError
from penchant.feedback.sound import Sound

TARGET = -23.0
"""LUFS of programmes (EBU R 128)."""

CEILING = -1.0
"""Decibels of full scale that a true peak may reach (EBU R 128), so that a lossy codec does not clip."""

_BLOCK, _STEP = 0.4, 0.1
_OFFSET = -0.691
_ABSOLUTE, _RELATIVE = -70.0, -10.0


def loudness(sound: Sound) -> float:
    """Integrated loudness in LUFS (LKFS): a 997 Hz sine of full scale in one channel has -3.01.

    Raises:
        MediaError: it is shorter than a block of 0.4 seconds, or no block is louder than -70 LUFS.
    """
    power = _block_power(sound)
    loud = power[power > _linear(_ABSOLUTE)]
    if not len(loud):
        raise MediaError("the sound is silent.", remedy="nothing can be heard: make it again, or leave it out.")
    gate = loud.mean() * 10 ** (_RELATIVE / 10)
    return _level(loud[loud > gate].mean())


def heard(sound: Sound) -> float:
    """`loudness` as it is heard from two speakers or ears: mono plays in both.

    Raises:
        MediaError: as `loudness`.
    """
    return loudness(sound) + (10 * math.log10(2) if len(sound.samples) == 1 else 0.0)


def true_peak(sound: Sound) -> float:
    """The largest amplitude between the samples too, by four-fold oversampling (BS.1770-4, annex 2); 1 = full scale."""
    from scipy.signal import resample_poly

    # Ten seconds at a time, ten minutes would take gigabytes; beside each its neighbours as far as the filter reaches.
    piece, rim, peak = 10 * sound.rate, 64, float(np.abs(sound.samples).max())
    for start in range(0, len(sound), piece):
        before = min(rim, start)
        part = resample_poly(sound.samples[:, start - before : start + piece + rim], 4, 1, axis=1)
        peak = max(peak, float(np.abs(part[:, 4 * before : 4 * (before + piece)]).max()))
    return peak


def equalised(sounds: Sequence[Sound], target: float = TARGET) -> list[Sound]:
    """The sounds at one loudness as `heard`: `target`, or the loudest that all of them reach without a clipped peak.

    Only gain is applied: no compressor, no limiter.

    Args:
        sounds: to be compared; each lasts 0.4 seconds or more.
        target: LUFS.

    Raises:
        MediaError: a sound is silent or too short, or there is none.
    """
    if not sounds:
        raise MediaError("there is no sound.", remedy="give one or more.")
    levels = [_settled(sound) for sound in sounds]
    room = [CEILING - 20 * math.log10(true_peak(sound)) for sound in sounds]
    common = min(target, *(level + spare for level, spare in zip(levels, room, strict=True)))
    return [_louder(sound, common - level) for sound, level in zip(sounds, levels, strict=True)]


def _settled(sound: Sound) -> float:
    """`heard`, with the absolute gate where it will be once the sound is at the target: gain must not move blocks
    across it."""
    level = heard(sound)
    # The relative gate lies above the absolute one at -60 and more; below, quiet passages come back with the gain.
    if level > _ABSOLUTE - 2 * _RELATIVE:
        return level
    gain = TARGET - level
    return heard(_louder(sound, gain)) - gain


def _louder(sound: Sound, decibels: float) -> Sound:
    return replace(sound, samples=(sound.samples * np.float32(10 ** (decibels / 20))).astype(np.float32))


def _block_power(sound: Sound) -> Float[np.ndarray, " blocks"]:
    """Mean squares of K-weighted blocks that overlap by three quarters, summed over channels (equation 2)."""
    from scipy.signal import resample_poly, sosfilt

    # The bilinear transform bends the shelf at low rates: at 16 kHz tones of 2 to 6 kHz come out 0.1 LU too loud, and
    # oversampled within 0.01.
    times = 1 if sound.rate >= 44_100 else math.ceil(44_100 / sound.rate)
    rate = times * sound.rate
    step, steps = round(_STEP * rate), round(_BLOCK / _STEP)
    count = times * len(sound) // step
    if count < steps:
        raise MediaError("the sound is too short.", remedy=f"it must last {_BLOCK} seconds or more.")
    sections = np.array([_shelf(rate), _highpass(rate)])
    total = np.zeros(count)
    for channel in sound.samples:
        dense = channel if times == 1 else resample_poly(channel, times, 1)
        weighted = sosfilt(sections, dense.astype(np.float64))[: count * step]
        total += (weighted.reshape(count, step) ** 2).mean(1)
    return np.convolve(total, np.full(steps, 1 / steps), "valid")


def _shelf(rate: int) -> list[float]:
    """The head's acoustics: a shelf of 4 dB. The prototype's numbers give the table of annex 1 at 48 kHz."""
    gain, quality = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    k = math.tan(math.pi * 1681.974450955533 / rate)
    middle = gain**0.4996667741545416
    norm = 1 + k / quality + k * k
    return [
        (gain + middle * k / quality + k * k) / norm,
        2 * (k * k - gain) / norm,
        (gain - middle * k / quality + k * k) / norm,
        1.0,
        2 * (k * k - 1) / norm,
        (1 - k / quality + k * k) / norm,
    ]


def _highpass(rate: int) -> list[float]:
    """The revised low-frequency curve B: second order, with the numerator 1, -2, 1 of the table."""
    quality, k = 0.5003270373238773, math.tan(math.pi * 38.13547087602444 / rate)
    norm = 1 + k / quality + k * k
    return [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm]


def _level(power: float) -> float:
    return _OFFSET + 10 * math.log10(power)


def _linear(level: float) -> float:
    return 10 ** ((level - _OFFSET) / 10)
