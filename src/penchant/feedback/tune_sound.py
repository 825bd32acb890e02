"""Plays tunes: a melody in symbols to a `Sound`, on a plucked string of our own or with a sound font of the user's.

The string is Karplus and Strong's ("Digital Synthesis of Plucked-String and Drum Timbres", Computer Music Journal 7(2),
1983): a burst goes round a delay line of P samples and is averaged with its neighbour at each turn,

    y_n = rho (y_{n-P} + y_{n-P-1}) / 2

so it sounds at the period P + 1/2, and its high partials die first. Two deviations: the line has the same length for
every pitch and is read faster or slower, so that all pitches are in tune; and the burst has only partials that stay
below the Nyquist frequency at its pitch. Its phases are drawn once for all: a tune always sounds the same, and a
difference between two recordings is a difference between tunes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from penchant.errors import MediaError, ModelError
from penchant.feedback.sound import Sound
from penchant.feedback.tune import QUARTER, Caption, Tune

RATE = 22_050
TONIC = 62
"""D above middle C, in which fiddles and pipes play: notes from an octave below it to two above."""

LEVEL = -20.0
"""Root mean square of every recording, in decibels of full scale; less only where a peak would be clipped."""

# Quarter notes a minute by metre, ours: within what dancers take, a little below for listening.
TEMPI = {"2/2": 176, "2/4": 88, "3/4": 116, "4/4": 138, "6/8": 159, "9/8": 159}
_USUAL = {True: 159, False: 120}

# Samples of the delay line, loss of a turn, and how much of the last note is heard after its end.
_LINE, _LOSS = 128, 0.9965
_RELEASE = 0.06
_ATTACK = 0.002
_HIGHEST = 0.4


def tempo(caption: Caption) -> float:
    """Quarter notes a minute, by the metre; one that is not listed has 120, or 106 dotted quarters if compound."""
    return TEMPI.get(caption.metre, _USUAL[caption.unit == 8 and caption.beats % 3 == 0])


def play(tune: Tune, caption: Caption, *, tonic: int = TONIC, rate: int = RATE) -> Sound:
    """A tune on a plucked string, mono, every one with the same root mean square, `LEVEL`.

    Args:
        tune: the melody.
        caption: says by its metre how fast.
        tonic: MIDI pitch of its tonic; a key is the player's choice.
        rate: samples a second.

    Raises:
        MediaError: it has no note, or one that lies above what the rate can hold.
    """
    if not tune.notes:
        raise MediaError("a tune without a note has no sound.", field="tune", remedy="leave it out.")
    second = 60 / (tempo(caption) * QUARTER)
    total = math.ceil((tune.ticks * second + _RELEASE) * rate) + 1
    mixed = np.zeros(total)
    for note in tune.notes:
        start = round(note.start * second * rate)
        assert note.pitch is not None
        tone = _tone(tonic + note.pitch, note.ticks * second, rate)
        mixed[start : start + len(tone)] += tone[: total - start]
    return _levelled(mixed[None], rate)


def play_with(
    sound_font: str | Path, tune: Tune, caption: Caption, *, tonic: int = TONIC, program: int = 0, rate: int = 44_100
) -> Sound:
    """A tune on an instrument of a sound font (sf2, sf3), stereo, with the same root mean square as `play`.

    Penchant ships no sound font: look at the licence of yours before you publish what it plays.

    Args:
        sound_font: path of the file.
        tune: the melody.
        caption: says by its metre how fast.
        tonic: MIDI pitch of its tonic.
        program: General MIDI program, from 0; 40 is the violin.
        rate: samples a second.

    Raises:
        ModelError: tinysoundfont is not installed.
        MediaError: the file is no sound font, the tune has no note, or what it plays is silent.
    """
    if not tune.notes:
        raise MediaError("a tune without a note has no sound.", field="tune", remedy="leave it out.")
    synthesiser = _synthesiser(Path(sound_font), program, rate)
    second = 60 / (tempo(caption) * QUARTER)
    parts, place = [], 0
    for note in tune.notes:
        assert note.pitch is not None
        start, end = (round(tick * second * rate) for tick in (note.start, note.start + note.ticks))
        parts.append(_rendered(synthesiser, start - place))
        synthesiser.noteon(0, tonic + note.pitch, 100)
        parts.append(_rendered(synthesiser, end - start))
        synthesiser.noteoff(0, tonic + note.pitch)
        place = end
    parts.append(_rendered(synthesiser, round(0.5 * rate)))
    return _levelled(np.concatenate(parts, axis=1), rate)


def _synthesiser(sound_font: Path, program: int, rate: int) -> Any:
    try:
        import tinysoundfont
    except ImportError as error:
        raise ModelError(
            "tinysoundfont, which plays sound fonts, is not installed.",
            remedy="pip install --no-deps tinysoundfont, or use `play`, which needs nothing.",
        ) from error
    synthesiser = tinysoundfont.Synth(samplerate=rate)
    try:
        number = synthesiser.sfload(str(sound_font))
        synthesiser.program_select(0, number, 0, program)
    except Exception as error:
        raise MediaError("has no such program.", file=sound_font, remedy="give a sound font, sf2 or sf3.") from error
    return synthesiser


def _rendered(synthesiser: Any, samples: int) -> Float[np.ndarray, "2 N"]:
    if samples <= 0:
        return np.zeros((2, 0))
    return np.frombuffer(synthesiser.generate(samples), dtype=np.float32).reshape(-1, 2).T.astype(np.float64)


def _levelled(mixed: Float[np.ndarray, "C N"], rate: int) -> Sound:
    """With the root mean square of `LEVEL`, and no direct current."""
    mixed = mixed - mixed.mean(1, keepdims=True)
    power = float(np.sqrt((mixed**2).mean()))
    if power == 0:
        raise MediaError("the tune cannot be heard.", remedy="choose another tonic or program.")
    gain = min(10 ** (LEVEL / 20) / power, 1 / float(np.abs(mixed).max()))
    return Sound(samples=(mixed * gain).astype(np.float32), rate=rate)


def _tone(pitch: int, seconds: float, rate: int) -> Float[np.ndarray, " N"]:
    """One note: the string read at its pitch, for `seconds` and a release."""
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    partials = int(_HIGHEST * rate / frequency)
    if partials < 1:
        raise MediaError(f"MIDI pitch {pitch} is above what {rate} samples a second hold.", remedy="lower the tonic.")
    at = np.arange(round((seconds + _RELEASE) * rate)) / rate
    place = at * frequency * (_LINE + 0.5)
    # By powers of two, so that a longer note does not make the string anew.
    turns = 2 ** math.ceil(math.log2(place[-1] / _LINE + 2))
    string = _string(min(partials, _LINE // 4), turns)
    whole = place.astype(np.int64)
    part = place - whole
    tone = string[whole] * (1 - part) + string[whole + 1] * part
    envelope = np.minimum(1, at / _ATTACK) * np.clip((seconds + _RELEASE - at) / _RELEASE, 0, 1)
    return tone * envelope


@lru_cache(maxsize=256)
def _string(partials: int, turns: int) -> Float[np.ndarray, " N"]:
    """The string's samples over `turns` of its delay line; at first `partials` sound."""
    phases = np.random.default_rng(1983).uniform(0, 2 * math.pi, _LINE // 4)
    at = np.arange(_LINE) / _LINE * 2 * math.pi
    burst = sum(np.sin(k * at + phases[k - 1]) / math.sqrt(k) for k in range(1, partials + 1))
    string = np.empty(turns * _LINE)
    string[:_LINE] = burst / np.sqrt(np.mean(burst**2))
    for turn in range(1, turns):
        last = string[(turn - 1) * _LINE : turn * _LINE]
        before = string[(turn - 1) * _LINE - 1] if turn > 1 else last[-1]
        string[turn * _LINE : (turn + 1) * _LINE] = _LOSS / 2 * (last + np.append(before, last[:-1]))
    string.setflags(write=False)
    return string
