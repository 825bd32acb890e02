"""The strains that judges of tunes learn from, in two halves: what trains one judge, the other never meets.

The halves "a" and "b" share no family of tunes that begin alike, nor do the splits. Captions too rare to be asked for
(`data.captions`) are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from penchant.errors import FeedbackError
from penchant.zoo.tunes import abc, data
from penchant.zoo.tunes.data import Record
from penchant.zoo.tunes.kinship import families

Half = Literal["a", "b"]
HALVES: tuple[Half, ...] = ("a", "b")


@dataclass(frozen=True, kw_only=True)
class Strain:
    """A strain with its place.

    Attributes:
        record: as it was built.
        half: whose judge learns from it.
        split: "train"; "validation" or "test" for what the language model never saw; or "held-out", of captions that
            nobody learns from.
    """

    record: Record
    half: Half
    split: str


def strains(records: Sequence[Record]) -> list[Strain]:
    """The strains of known captions and of held-out ones."""
    learnt = set(data.captions(records))
    family = families([""] * len(records), [[record.text] for record in records])
    found = []
    for record, name in zip(records, family, strict=True):
        # Keyed by the family's first strain and not by its place, so that a strain more in a book moves no other.
        bit = hashlib.sha256(records[name].text.encode()).digest()[0]
        if record.split == "held-out" or record.caption in learnt:
            evaluated = "test" if bit & 2 else "validation"
            split = evaluated if record.split == "validation" else record.split
            found.append(Strain(record=record, half=HALVES[bit & 1], split=split))
    return found


def known(found: Sequence[Strain]) -> list[str]:
    """The captions that are trained on, in the order of the alphabet."""
    return sorted({strain.record.caption for strain in found if strain.split == "train"})


def installed() -> list[Strain]:
    """The strains of the installed music21.

    Raises:
        FeedbackError: the package is not installed.
    """
    place = find_spec("music21")
    if place is None or not place.submodule_search_locations:
        remedy = f'pip install --no-deps "{data.PACKAGE}"'
        raise FeedbackError("the package music21, which holds the books, is not installed.", remedy=remedy)
    records, _ = data.build(_texts(Path(next(iter(place.submodule_search_locations))) / "corpus"))
    return strains(records)


def _texts(corpus: Path) -> Iterator[tuple[str, str]]:
    """As `data.tunes`, out of the installed package."""
    for book, folder in data.BOOKS.items():
        for file in sorted((corpus / folder).rglob("*.abc")):
            for tune in abc.split(file.read_text(encoding="utf-8", errors="replace")):
                yield book, tune


def version(edition: int) -> str:
    """Names what is made of the books by the rules of this edition."""
    return f"{edition}-{data.PACKAGE.rpartition('=')[2]}"
