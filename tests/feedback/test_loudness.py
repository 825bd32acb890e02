"""Loudness is the standard's number, and sounds brought to one loudness are not clipped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_fixtures import melody, noise
from penchant.errors import MediaError
from penchant.feedback.loudness import CEILING, _highpass, _shelf, equalised, heard, loudness, true_peak
from penchant.feedback.sound import Sound


def sine(*levels: tuple[float, float], hertz: float = 1000, rate: int = 48_000, both: bool = True) -> Sound:
    """Stretches of (decibels of full scale, seconds) of one sine, in both channels or in the first."""
    gains = np.concatenate([np.full(round(seconds * rate), 10 ** (level / 20)) for level, seconds in levels])
    wave = gains * np.sin(2 * np.pi * hertz * np.arange(len(gains)) / rate)
    return Sound(samples=np.stack([wave, wave if both else 0 * wave]).astype(np.float32), rate=rate)


def test_the_filters_at_48_khz_are_the_table_of_the_standard():
    # ITU-R BS.1770-4, annex 1, tables 1 and 2.
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
    highpass = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    assert _shelf(48_000) == pytest.approx(shelf, abs=1e-12)
    assert _highpass(48_000) == pytest.approx(highpass, abs=1e-12)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_a_sine_of_full_scale_in_one_channel(rate):
    # Annex 1: "If a 0 dB FS, 997 Hz sine wave is applied to the left, centre, or right channel input, the indicated
    # loudness will equal -3.01 LKFS."
    assert loudness(sine((0, 5), hertz=997, both=False, rate=rate)) == pytest.approx(-3.01, abs=0.02)
    assert loudness(sine((0, 5), hertz=997, rate=rate)) == pytest.approx(0, abs=0.02)


# EBU Tech 3341 (2016), table 1, cases 1 to 5: integrated loudness, +-0.1 LU.
EBU = {
    "1": ([(-23, 20)], -23.0),
    "2": ([(-33, 20)], -33.0),
    "3": ([(-36, 10), (-23, 60), (-36, 10)], -23.0),
    "4": ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),
    "5": ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),
}


@pytest.mark.parametrize("case", EBU)
def test_the_broadcasters_test_signals(case):
    levels, expected = EBU[case]
    assert loudness(sine(*levels)) == pytest.approx(expected, abs=0.1)


def test_a_mono_file_is_heard_in_both_ears():
    both = melody(channels=2)
    one = Sound(samples=both.samples[:1], rate=both.rate)
    assert loudness(both) - loudness(one) == pytest.approx(3.01, abs=0.01)
    assert heard(one) == pytest.approx(heard(both), abs=1e-6)


def test_low_notes_count_less_and_high_ones_more():
    low, middle, high = (loudness(sine((-20, 3), hertz=hertz)) for hertz in (30, 1000, 8000))
    assert low < middle - 5
    assert high > middle + 2


def test_pauses_do_not_make_a_piece_quieter():
    assert loudness(sine((-20, 5), (-90, 20))) == pytest.approx(loudness(sine((-20, 5))), abs=0.3)


@given(
    levels=st.lists(st.floats(-40, 0), min_size=1, max_size=4),
    channels=st.integers(1, 2),
    target=st.floats(-50, -5),
)
@settings(max_examples=25, deadline=None)
def test_clips_come_to_one_loudness_and_none_is_clipped(levels, channels, target):
    sounds = [melody(k, level=10 ** (level / 20), channels=channels) for k, level in enumerate(levels)]
    sounds.append(noise(level=0.02))
    made = equalised(sounds, target)
    heights = [heard(sound) for sound in made]
    assert heights == pytest.approx([heights[0]] * len(made), abs=0.01)
    assert heights[0] <= target + 0.01
    ceiling = 10 ** (CEILING / 20)
    assert max(true_peak(sound) for sound in made) <= ceiling * 1.0001
    # Lower than asked for only because a peak is at the ceiling.
    assert heights[0] == pytest.approx(target, abs=0.01) or max(map(true_peak, made)) == pytest.approx(
        ceiling, rel=1e-3
    )


def test_only_the_gain_changes():
    sound = melody(level=0.05, channels=2)
    (made,) = equalised([sound])
    ratio = made.samples[np.abs(sound.samples) > 1e-3] / sound.samples[np.abs(sound.samples) > 1e-3]
    assert ratio == pytest.approx(ratio[0], rel=1e-5)
    assert made.rate == sound.rate


def test_a_whisper_is_brought_up_with_its_pauses():
    # Its quiet half lies under the absolute gate before the gain and above it afterwards.
    whisper = sine((-66, 4), (-72, 4))
    made = equalised([whisper, sine((-20, 4))])
    assert heard(made[0]) == pytest.approx(heard(made[1]), abs=0.01)


def test_a_peak_between_the_samples_is_seen():
    # A quarter of the rate, sampled where the sine is at 45 degrees: samples of 0.707, peaks of 1.
    wave = np.sin(2 * np.pi * np.arange(48_000) / 4 + np.pi / 4)[None].astype(np.float32)
    sound = Sound(samples=wave, rate=48_000)
    assert np.abs(wave).max() == pytest.approx(0.707, abs=1e-3)
    assert true_peak(sound) == pytest.approx(1, abs=0.06)


def test_peaks_are_the_same_in_pieces():
    from scipy.signal import resample_poly

    for long in (noise(seconds=25, rate=8000), melody(seconds=20.5, rate=8000, channels=2)):
        assert true_peak(long) == pytest.approx(np.abs(resample_poly(long.samples, 4, 1, axis=1)).max(), rel=1e-6)


def test_the_border_of_a_piece_is_no_edge():
    # A level held for long has no peak beyond itself; cut anywhere, its edge would.
    ramp = np.linspace(0, 1, 8000)
    held = np.concatenate([ramp, np.ones(17 * 8000), ramp[::-1]])[None].astype(np.float32) * np.float32(0.5)
    assert true_peak(Sound(samples=held, rate=8000)) == pytest.approx(0.5, rel=2e-3)


@pytest.mark.parametrize(
    ("sound", "problem"),
    [
        (Sound(samples=np.zeros((1, 48_000), np.float32), rate=48_000), "the sound is silent."),
        (sine((-75, 2)), "the sound is silent."),
        (sine((-20, 0.39)), "the sound is too short."),
    ],
)
def test_what_has_no_loudness_is_refused(sound, problem):
    for call in (loudness, heard, lambda s: equalised([melody(), s])):
        with pytest.raises(MediaError) as caught:
            call(sound)
        assert caught.value.problem == problem
        assert caught.value.remedy


def test_nothing_is_no_set_of_sounds():
    with pytest.raises(MediaError, match="no sound"):
        equalised([])
