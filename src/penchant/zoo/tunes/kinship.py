"""Which tunes are variants of each other: of one title, or beginning alike. Variants are never split.

Two strains begin alike when, transposition aside, they share

- the first `NOTES` notes behind the pick-up, repeated notes counted once, or
- the pitches that sound at `BEATS` points from the first full bar on, a quarter of a bar apart, or a dotted quarter
  where the metre is compound.

The first finds a variant in another rhythm, the second one with other ornaments.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise

from penchant.feedback.tune import Tune, parse

NOTES = 12
BEATS = 12
_WORDS_OF_NO_TITLE = {"the", "a", "an", "and", "of", "or", "to", "in", "jig", "reel", "hornpipe", "strathspey", "march"}


def families(titles: Sequence[str], strains: Sequence[Sequence[str]]) -> list[int]:
    """The family of each tune: the place of its first member.

    Args:
        titles: of the tunes.
        strains: of each tune its strains, in the words of `feedback.tune`.
    """
    parent = list(range(len(titles)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    first: dict[Hashable, int] = {}
    for place, (title, own) in enumerate(zip(titles, strains, strict=True)):
        keys = [key for text in own for key in beginnings(parse(text))]
        name = plain(title)
        for key in [*keys, name] if name else keys:
            a, b = root(first.setdefault(key, place)), root(place)
            parent[max(a, b)] = min(a, b)
    return [root(place) for place in range(len(titles))]


def plain(title: str) -> str:
    """A title without case, marks, articles, the dance and the order of its words."""
    words = re.findall(r"[a-z0-9]+", title.lower().replace("'", ""))
    return " ".join(sorted({word for word in words if word not in _WORDS_OF_NO_TITLE}))


def beginnings(tune: Tune) -> Iterator[tuple[str, ...] | tuple[int | str, ...]]:
    """What a strain shares with its variants: the intervals of its first notes and between its first beats."""
    bar = tune.bar_ends[1] - tune.bar_ends[0]
    start = tune.bar_ends[0] if tune.bar_ends[0] < bar else 0
    pitches = [note.pitch for note in tune.notes if note.start >= start and note.pitch is not None]
    heard = [pitch for pitch, before in zip(pitches, [None, *pitches], strict=False) if pitch != before]
    if len(heard) >= NOTES:
        yield ("notes", *(b - a for a, b in pairwise(heard[:NOTES])))
    beats = list(_beats(tune, start, bar))
    if len(beats) >= BEATS:
        yield ("beats", *(b - a for a, b in pairwise(beats[:BEATS])))


def _beats(tune: Tune, start: int, bar: int) -> Iterator[int]:
    """Pitches at the beats; a rest sounds as what came before it."""
    step = bar // 4 if bar % 36 else 18
    notes, place = tune.notes, 0
    for tick in range(start, tune.ticks, step):
        while place + 1 < len(notes) and notes[place + 1].start <= tick:
            place += 1
        pitch = notes[place].pitch
        if pitch is not None:
            yield pitch
