"""`Tune`: a melody in symbols, and the words in which language models write one.

A tune is written as words with a space between them, relative to its tonic, so that a key is a choice of whoever plays
it:

    N4_6    a note four semitones above the tonic, 6 ticks long (12 ticks are a quarter note)
    R_12    a rest of a quarter
    |       a bar line

    >>> tune = parse("N0_12 N4_12 | N7_24 |")
    >>> len(tune.notes), tune.bars, tune.ticks
    (3, 2, 48)
    >>> tune.text()
    'N0_12 N4_12 | N7_24 |'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

QUARTER = 12
"""Ticks of a quarter note."""

_WORD = re.compile(r"N(-?\d{1,2})_(\d{1,3})|R_(\d{1,3})|(\|)")


@dataclass(frozen=True, kw_only=True)
class Event:
    """A note or a rest.

    Attributes:
        pitch: semitones above the tonic; None for a rest.
        start: ticks from the beginning.
        ticks: how long.
        bar: which bar, from 0.
    """

    pitch: int | None
    start: int
    ticks: int
    bar: int

    @property
    def word(self) -> str:
        """How it is written."""
        return f"R_{self.ticks}" if self.pitch is None else f"N{self.pitch}_{self.ticks}"


@dataclass(frozen=True, kw_only=True)
class Tune:
    """A melody.

    Attributes:
        events: notes and rests in their order.
        bar_ends: tick of each bar line.
        unread: words that are no part of the notation, in their order; nothing is dropped silently.
    """

    events: tuple[Event, ...]
    bar_ends: tuple[int, ...]
    unread: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[Event, ...]:
        """The events that sound."""
        return tuple(event for event in self.events if event.pitch is not None)

    @property
    def ticks(self) -> int:
        """How long it lasts."""
        return self.events[-1].start + self.events[-1].ticks if self.events else 0

    @property
    def bars(self) -> int:
        """Bars that a line ends, and one more if notes follow the last line."""
        return len(self.bar_ends) + (self.ticks > (self.bar_ends[-1] if self.bar_ends else 0))

    def text(self) -> str:
        """The words that `parse` reads."""
        words: list[str] = []
        ends = list(self.bar_ends)
        for event in self.events:
            while len(self.bar_ends) - len(ends) < event.bar:
                words.append("|")
                ends.pop(0)
            words.append(event.word)
        return " ".join([*words, *["|"] * len(ends)])


def parse(text: str) -> Tune:
    """Reads a tune; words that are none of the notation are kept apart in `unread`."""
    events: list[Event] = []
    ends: list[int] = []
    unread: list[str] = []
    tick = 0
    for word in text.split():
        found = _WORD.fullmatch(word)
        if found is None or "0" in (found[2], found[3]):
            unread.append(word)
        elif found[4]:
            ends.append(tick)
        else:
            pitch, ticks = (None if found[1] is None else int(found[1])), int(found[2] or found[3])
            events.append(Event(pitch=pitch, start=tick, ticks=ticks, bar=len(ends)))
            tick += ticks
    return Tune(events=tuple(events), bar_ends=tuple(ends), unread=tuple(unread))
