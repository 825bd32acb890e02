"""The form of sounds: duration, loudness and brightness, policy beside base at equal prompts and seeds.

Loudness is the level of the whole sound, 20 log10 of its root mean square, full scale = 0 dB; the spectral centroid is
the mean frequency, weighted by the power spectrum of the whole sound. Both follow the mean of the channels.

Shape legend: P prompts, S seeds a prompt, N samples of a sound, F frequencies, B bands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from penchant.evaluate.winrate import MeanGain, mean_gain
from penchant.feedback.sound import Sound

FLOOR = -100.0
"""dB of silence: no measure falls below it."""

BANDS = 32
"""Bands, each about a quarter of an octave, from 40 Hz to 12 kHz."""

_EDGES = np.geomspace(40.0, 12_000.0, BANDS + 1)


@dataclass(frozen=True, kw_only=True)
class SoundForm:
    """Means over all sounds, base (`before`) and policy (`after`), with the interval of the change.

    `seconds` a sound, `loudness` in dB of full scale, `centroid` in Hz.
    """

    seconds: MeanGain
    loudness: MeanGain
    centroid: MeanGain


def level(sound: Sound) -> float:
    """20 log10 of the root mean square, in dB of full scale; `FLOOR` for silence."""
    power = float(np.mean(sound.mono().astype(np.float64) ** 2))
    return max(FLOOR, 10 * float(np.log10(power))) if power > 0 else FLOOR


def centroid(sound: Sound) -> float:
    """The spectral centroid in Hz; 0 for silence."""
    power_F = np.abs(np.fft.rfft(sound.mono().astype(np.float64))) ** 2
    frequency_F = np.fft.rfftfreq(len(sound), 1 / sound.rate)
    total = float(power_F.sum())
    return float((frequency_F * power_F).sum() / total) if total > 0 else 0.0


def spectrum(sound: Sound) -> Float[np.ndarray, " B"]:
    """Level of each band in dB relative to the whole sound: what a sound's colour is, whatever its loudness.

    Bands above half the sampling rate, and silent ones, are at `FLOOR`.
    """
    power_F = np.abs(np.fft.rfft(sound.mono().astype(np.float64))) ** 2
    frequency_F = np.fft.rfftfreq(len(sound), 1 / sound.rate)
    band_F = np.digitize(frequency_F, _EDGES) - 1
    inside = (band_F >= 0) & (band_F < BANDS)
    power_B = np.bincount(band_F[inside], weights=power_F[inside], minlength=BANDS)
    total = power_F.sum()
    share_B = power_B / total if total > 0 else np.zeros(BANDS)
    return np.maximum(FLOOR, 10 * np.log10(np.maximum(share_B, 1e-30)))


def spectral_distance(first: Sound, second: Sound) -> float:
    """Mean absolute difference of two sounds' `spectrum` in dB; what is below -60 dB is not heard, and left out."""
    sides = [np.maximum(spectrum(sound), -60.0) for sound in (first, second)]
    return float(np.abs(sides[0] - sides[1]).mean())


def sound_form(policy: Sequence[Sound], base: Sequence[Sound], *, seeds: int) -> SoundForm:
    """The form of the policy's sounds beside the base's.

    Args:
        policy: P x S sounds, prompt by prompt.
        base: the base's at the same prompts and seeds.
        seeds: S.

    Raises:
        PenchantError: as `penchant.evaluate.winrate.mean_gain`.
    """

    def gain(measure: Callable[[Sound], float]) -> MeanGain:
        return mean_gain(*(np.reshape([measure(one) for one in side], (-1, seeds)) for side in (policy, base)))

    return SoundForm(seconds=gain(lambda sound: sound.seconds), loudness=gain(level), centroid=gain(centroid))
