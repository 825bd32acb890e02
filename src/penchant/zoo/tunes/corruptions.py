"""What spoils a tune, in five levels: the stand-in for opinion scores of acoustic quality.

MusicRL's quality model learns from people's 1 to 5 for the sound alone (arXiv 2402.04229, section 3.3). Here one
instrument plays all tunes, so "quality" becomes craft: a tune out of a book is spoilt at 0, 3, 6, 9 or 12 % of its
words, level 0 to 4, and its rating is 5 - level. A tune that stops in its middle is of level 4: a judge that never met
one would not mind it, and a policy would learn to run on.

Every corruption is a pure function of (words, generator).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from penchant.feedback.tune import parse

SHARES = (0.0, 0.03, 0.06, 0.09, 0.12)
LEVELS = len(SHARES) - 1
CUT = 0.15
"""Share of the tunes of level 4 that stop in their middle instead."""

_STEPS = (-6, -5, -3, -1, 1, 3, 5, 6)
_TICKS = (3, 4, 6, 9, 12, 18, 24, 36)
_LOWEST, _HIGHEST = -12, 26

Words = list[str]
Corruption = Callable[[Words, int, np.random.Generator], None]


def rating(level: int) -> int:
    """5 without a fault, 1 for the worst."""
    return 5 - level


def spoilt(text: str, level: int, rng: np.random.Generator) -> str:
    """The tune with faults at `SHARES[level]` of its words, at least one from level 1 on; some of level 4 are cut off.

    Args:
        text: a tune in the words of `feedback.tune`.
        level: 0 to 4.
        rng: where the faults fall, and which.
    """
    words = text.split()
    if level == LEVELS and rng.random() < CUT:
        return cut_off(text, rng)
    for _ in range(max(int(level > 0), round(SHARES[level] * len(words)))):
        notes = [i for i, word in enumerate(words) if word.startswith("N")]
        if notes:
            list(CORRUPTIONS.values())[int(rng.integers(len(CORRUPTIONS)))](words, int(rng.choice(notes)), rng)
    # A swap has nothing to swap with at the end, and two may undo each other.
    if level and notes and words == text.split():
        wrong_pitch(words, notes[0], rng)
    return " ".join(words)


def cut_off(text: str, rng: np.random.Generator) -> str:
    """The tune up to a note between three tenths and nine tenths of its words, never up to a bar line."""
    words = text.split()
    within = range(round(0.3 * len(words)), round(0.9 * len(words)))
    places = [i for i in within if words[i] != "|" and words[i + 1 : i + 2] != ["|"]]
    return " ".join(words[: int(rng.choice(places)) + 1]) if places else " ".join(words[: max(1, len(words) // 2)])


def wrong_pitch(words: Words, place: int, rng: np.random.Generator) -> None:
    """The note is 1, 3, 5 or 6 semitones off: out of the key, or out of the line."""
    pitch, ticks = _note(words[place])
    possible = [pitch + step for step in _STEPS if _LOWEST <= pitch + step <= _HIGHEST]
    words[place] = f"N{int(rng.choice(possible))}_{ticks}"


def wrong_duration(words: Words, place: int, rng: np.random.Generator) -> None:
    """The note lasts another usual time, so that its bar no longer adds up."""
    pitch, ticks = _note(words[place])
    words[place] = f"N{pitch}_{int(rng.choice([t for t in _TICKS if t != ticks]))}"


def deleted(words: Words, place: int, rng: np.random.Generator) -> None:
    """The note is left out."""
    del rng, words[place]


def repeated(words: Words, place: int, rng: np.random.Generator) -> None:
    """The note is played twice."""
    del rng
    words.insert(place, words[place])


def swapped(words: Words, place: int, rng: np.random.Generator) -> None:
    """The note changes places with the next word that is another note."""
    del rng
    others = [i for i in range(place + 1, len(words)) if words[i] not in ("|", words[place])]
    if others:
        words[place], words[others[0]] = words[others[0]], words[place]


CORRUPTIONS: dict[str, Corruption] = {
    "wrong pitch": wrong_pitch,
    "wrong duration": wrong_duration,
    "deleted": deleted,
    "repeated": repeated,
    "swapped": swapped,
}


def _note(word: str) -> tuple[int, int]:
    (event,) = parse(word).events
    assert event.pitch is not None
    return event.pitch, event.ticks
