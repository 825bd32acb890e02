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

What kind of tune is asked for is a caption of a fixed form, which says what a full bar holds and which notes are of the
scale:

    >>> caption = caption_of("slip jig in 9/8, dorian")
    >>> caption.bar, sorted(caption.scale)
    (54, [0, 2, 3, 5, 7, 9, 10])
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from penchant.errors import FeedbackError

QUARTER = 12
"""Ticks of a quarter note."""

SCALES = {
    "major": frozenset({0, 2, 4, 5, 7, 9, 11}),
    # Natural minor, with the raised sixth and seventh that melodies in minor take on their way up.
    "minor": frozenset({0, 2, 3, 5, 7, 8, 9, 10, 11}),
    "dorian": frozenset({0, 2, 3, 5, 7, 9, 10}),
    "mixolydian": frozenset({0, 2, 4, 5, 7, 9, 10}),
}
"""Mode -> semitones above the tonic that belong to it."""

_CAPTION = re.compile(r"(\S(?:.*\S)?) in (\d{1,2})/(1|2|4|8|16), (\w+)")
# One spelling a note: no leading zeros.
_WORD = re.compile(r"N(0|-?[1-9]\d?)_([1-9]\d{0,2})|R_([1-9]\d{0,2})|(\|)")


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


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What kind of tune.

    Attributes:
        dance: such as "slip jig"; "tune" if it is none in particular.
        beats: of a bar.
        unit: the note that is a beat: 8 for eighths.
        mode: one of `SCALES`.
    """

    dance: str
    beats: int
    unit: int
    mode: str

    @property
    def metre(self) -> str:
        """Such as "9/8"."""
        return f"{self.beats}/{self.unit}"

    @property
    def bar(self) -> int:
        """Ticks of a full bar."""
        return 4 * QUARTER * self.beats // self.unit

    @property
    def scale(self) -> frozenset[int]:
        """Semitones above the tonic that belong to the mode."""
        return SCALES[self.mode]

    def text(self) -> str:
        """What a prompt says, "{dance} in {metre}, {mode}"."""
        return f"{self.dance} in {self.metre}, {self.mode}"


def caption_of(text: str) -> Caption:
    """Reads a caption.

    Raises:
        FeedbackError: it has another form, or names a mode that is not known.
    """
    found = _CAPTION.fullmatch(text.strip())
    if found is None or found[2] == "0" or found[4] not in SCALES:
        raise FeedbackError(
            f"'{text}' is no caption of a tune.",
            field="prompt",
            remedy=f"write 'jig in 6/8, minor'; modes are {', '.join(SCALES)}.",
        )
    return Caption(dance=found[1], beats=int(found[2]), unit=int(found[3]), mode=found[4])


def parse(text: str) -> Tune:
    """Reads a tune; words that are none of the notation are kept apart in `unread`."""
    events: list[Event] = []
    ends: list[int] = []
    unread: list[str] = []
    tick = 0
    for word in text.split():
        found = _WORD.fullmatch(word)
        if found is None:
            unread.append(word)
        elif found[4]:
            ends.append(tick)
        else:
            pitch, ticks = (None if found[1] is None else int(found[1])), int(found[2] or found[3])
            events.append(Event(pitch=pitch, start=tick, ticks=ticks, bar=len(ends)))
            tick += ticks
    return Tune(events=tuple(events), bar_ends=tuple(ends), unread=tuple(unread))
