"""Tunes that are played: in tune, in time, equally loud, the same each time."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from penchant.errors import MediaError, ModelError
from penchant.feedback.sound import Sound
from penchant.feedback.tune import caption_of, parse
from penchant.feedback.tune_sound import LEVEL, RATE, TONIC, play, play_with, tempo

PLAIN = caption_of("tune in 4/4, major")


def loudest(sound: Sound, start: float, end: float) -> float:
    """The frequency, in Hz, of the fundamental between two times: the lowest strong peak of the spectrum."""
    heard = sound.samples[0][round(start * sound.rate) : round(end * sound.rate)]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 16 * len(heard)))
    peaks = np.flatnonzero(
        (spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] > spectrum[2:]) & (spectrum[1:-1] > 0.25 * spectrum.max())
    )
    return float((peaks[0] + 1) * sound.rate / (16 * len(heard)))


def level(sound: Sound) -> float:
    return 20 * np.log10(np.sqrt(np.mean(sound.samples.astype(np.float64) ** 2)))


@pytest.mark.parametrize("pitch", [-12, -5, 0, 4, 7, 12, 19, 26])
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_a_note_sounds_at_its_pitch(pitch, rate):
    sound = play(parse(f"N{pitch}_24 |"), PLAIN, rate=rate)
    wanted = 440 * 2 ** ((TONIC + pitch - 69) / 12)
    assert abs(1200 * np.log2(loudest(sound, 0.05, 0.8) / wanted)) < 3


def test_the_tonic_is_the_player_s_choice():
    low, high = (play(parse("N0_24 |"), PLAIN, tonic=tonic) for tonic in (57, 69))
    assert loudest(high, 0.05, 0.8) / loudest(low, 0.05, 0.8) == pytest.approx(2, rel=2e-3)


def test_notes_come_one_after_the_other_in_time():
    sound = play(parse("N0_12 R_12 N7_12 N12_12 |"), PLAIN)
    beat = 60 / tempo(PLAIN)
    assert sound.seconds == pytest.approx(4 * beat, abs=0.1)
    heard = [loudest(sound, n * beat + 0.02, (n + 1) * beat) for n in (0, 2, 3)]
    assert heard == pytest.approx([440 * 2 ** ((TONIC + p - 69) / 12) for p in (0, 7, 12)], rel=5e-3)
    rest = sound.samples[0][round(1.3 * beat * RATE) : round(1.95 * beat * RATE)]
    assert np.abs(rest).max() < 0.02 * np.abs(sound.samples).max()


@pytest.mark.parametrize("metre", ["2/2", "2/4", "3/4", "4/4", "6/8", "9/8", "12/8", "5/4"])
def test_the_metre_decides_how_long_eight_bars_last(metre):
    caption = caption_of(f"tune in {metre}, major")
    sound = play(parse(f"N0_{caption.bar} | " * 8), caption)
    assert sound.seconds == pytest.approx(8 * caption.bar / 12 * 60 / tempo(caption), abs=0.1)
    assert 8 < sound.seconds < 25


def test_all_are_equally_loud_and_none_is_clipped():
    texts = [
        "N0_48 |",
        "N-12_6 N-10_6 " * 20,
        "N26_3 N24_3 " * 30,
        "N0_6 R_12 N0_6 R_12",
        "N0_6 N4_6 N7_6 N12_30 | " * 8,
    ]
    sounds = [play(parse(text), PLAIN) for text in texts]
    assert [level(sound) for sound in sounds] == pytest.approx([LEVEL] * len(texts), abs=1e-3)
    assert all(np.abs(sound.samples).max() <= 1 for sound in sounds)
    lonely = play(parse("N0_1 " + "R_96 " * 40), PLAIN)
    assert np.abs(lonely.samples).max() == pytest.approx(1, abs=1e-6)
    assert level(lonely) < LEVEL


def test_a_tune_always_sounds_the_same():
    first, second = (play(parse("N0_12 N4_12 N7_24 |"), PLAIN) for _ in range(2))
    assert np.array_equal(first.samples, second.samples)
    assert not np.array_equal(first.samples, play(parse("N0_12 N3_12 N7_24 |"), PLAIN).samples)


def test_a_plucked_string_dies_away():
    heard = play(parse("N0_48 |"), PLAIN).samples[0]
    early, late = (np.sqrt(np.mean(part**2)) for part in (heard[2000:6000], heard[24000:28000]))
    assert late < early / 2


def test_what_cannot_be_played_is_refused():
    for text in ("", "R_12 |"):
        with pytest.raises(MediaError, match="without a note"):
            play(parse(text), PLAIN)
        with pytest.raises(MediaError, match="without a note"):
            play_with("font.sf2", parse(text), PLAIN)
    with pytest.raises(MediaError, match="above what"):
        play(parse("N99_12"), PLAIN)


def test_a_sound_font_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinysoundfont", None)
    with pytest.raises(ModelError, match="pip install"):
        play_with("font.sf2", parse("N0_12"), PLAIN)


class Organ:
    """What tinysoundfont's Synth does, on one sine a note: it writes down what it is told."""

    told: tuple = ()

    def __init__(self, samplerate):
        self.rate, self.on, self.place, self.told = samplerate, {}, 0, []
        Organ.last = self

    def sfload(self, path):
        if "font" not in path:
            raise ValueError("cannot load")
        return 7

    def program_select(self, *given):
        self.told.append(("program", *given))

    def noteon(self, channel, key, velocity):
        self.on[key] = self.place
        self.told.append(("on", key, self.place))

    def noteoff(self, channel, key):
        del self.on[key]
        self.told.append(("off", key, self.place))

    def generate(self, samples):
        at = (self.place + np.arange(samples)) / self.rate
        heard = sum((np.sin(2 * np.pi * 440 * 2 ** ((k - 69) / 12) * at) for k in self.on), np.zeros(samples))
        self.place += samples
        return memoryview(np.repeat(heard, 2).astype(np.float32).tobytes())


def test_a_sound_font_is_given_the_notes_in_time(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinysoundfont", SimpleNamespace(Synth=Organ))
    sound = play_with("font.sf2", parse("N0_12 R_12 N7_12 |"), PLAIN, program=40)
    beat = 60 / tempo(PLAIN) * 44_100
    program, *rest = Organ.last.told
    assert program == ("program", 0, 7, 0, 40)
    assert [(what, key) for what, key, _ in rest] == [("on", 62), ("off", 62), ("on", 69), ("off", 69)]
    assert [place for *_, place in rest] == pytest.approx([0, beat, 2 * beat, 3 * beat], abs=1)
    assert sound.samples.shape[0] == 2
    assert level(sound) == pytest.approx(LEVEL, abs=1e-3)
    assert loudest(sound, 0.02, beat / 44_100) == pytest.approx(293.66, rel=5e-3)
    with pytest.raises(MediaError, match="no such program"):
        play_with("other", parse("N0_12"), PLAIN)
