"""Spoilt strains with ratings: `zoo:tunes/rated`, made on first use of the books, for judges of quality.

Of every strain there is a pair: it is spoilt twice, to levels drawn apart (`corruptions.py`), and the rating of a side
is 5 - level. No listener is imitated: the rating is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from penchant.feedback import Candidate, Group, Judgement, export_groups
from penchant.likelihoods.randomness import generator
from penchant.zoo.tunes import halves
from penchant.zoo.tunes.corruptions import LEVELS, rating, spoilt
from penchant.zoo.tunes.halves import Strain

DIMENSION, SOURCE = "quality", "simulated:corruptions"
FILE = "rated.parquet"
# Counted up whenever the same books would give other pairs.
_EDITION = 1


def groups(found: Sequence[Strain]) -> Iterator[Group]:
    """All pairs; a pure function of the strains."""
    for strain in found:
        made = _pair(strain)
        if made.candidates[0].id != made.candidates[1].id:
            yield made


def _pair(strain: Strain) -> Group:
    rng = generator(0, 0, f"{strain.record.caption}: {strain.record.text}", "rated")
    levels = [int(level) for level in rng.integers(LEVELS + 1, size=2)]
    sides = tuple(Candidate(text=spoilt(strain.record.text, level, rng), model="books, spoilt") for level in levels)
    values = tuple(float(rating(level)) for level in levels)
    judgement = Judgement(kind="score", values=values, dimension=DIMENSION, source=f"{SOURCE}/{strain.half}")
    return Group(prompt=strain.record.caption, candidates=sides, judgements=(judgement,), split=strain.split)


def version() -> str:
    """Names what `write` would write."""
    return halves.version(_EDITION)


def write(folder: Path) -> None:
    """Writes the pairs of the installed books as `rated.parquet` in `folder`.

    Raises:
        FeedbackError: music21 is not installed.
    """
    export_groups(groups(halves.installed()), folder / FILE)
