"""Strains beside their captions: `zoo:tunes/captioned`, made on first use of the books, for judges of adherence.

A pair is a caption with a strain that has it and one of another caption; the first is better, because the book says so.
Every known caption is asked about as often as any other. Half of the wrong strains are of a near caption, which has
two of its three parts (dance, metre, mode); the others are as likely of any other caption.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from penchant.feedback import Candidate, Group, Judgement, export_groups
from penchant.likelihoods.randomness import generator
from penchant.zoo.tunes import halves
from penchant.zoo.tunes.halves import HALVES, Half, Strain

DIMENSION, SOURCE = "adherence", "simulated:books"
FILE = "captioned.parquet"
# Pairs a caption and half; what is drawn twice stands once.
PAIRS = {"train": 300, "validation": 20, "test": 20, "held-out": 20}
_NEAR = 0.5
# Counted up whenever the same books would give other pairs.
_EDITION = 1


def groups(found: Sequence[Strain]) -> Iterator[Group]:
    """All pairs; a pure function of the strains."""
    for half in HALVES:
        for split, count in PAIRS.items():
            own = [strain for strain in found if strain.split == split and strain.half == half]
            yield from _pairs(own, half, split, count)


def _pairs(own: Sequence[Strain], half: Half, split: str, count: int) -> Iterator[Group]:
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for strain in own:
        texts[strain.record.caption].append(strain.record.text)
    captions = sorted(texts)
    seen: set[str] = set()
    for caption in captions if len(captions) > 1 else ():
        others = [other for other in captions if other != caption]
        for number in range(count):
            rng = generator(0, number, f"{half}/{split}/{caption}", "captioned")
            right = texts[caption][int(rng.integers(len(texts[caption])))]
            near = [name for name in others if _alike(name, caption)]
            chosen = near if near and rng.random() < _NEAR else others
            other = texts[chosen[int(rng.integers(len(chosen)))]]
            made = _group(caption, right, other[int(rng.integers(len(other)))], half, split)
            if made.id not in seen and made.candidates[0].id != made.candidates[1].id:
                seen.add(made.id)
                yield made


def _alike(one: str, other: str) -> bool:
    """Of dance, metre and mode two are the same."""
    parts = [re.split(" in |, ", caption) for caption in (one, other)]
    return sum(a == b for a, b in zip(*parts, strict=True)) == 2


def _group(caption: str, right: str, wrong: str, half: Half, split: str) -> Group:
    judgement = Judgement(kind="pair", values=(1.0, 0.0), dimension=DIMENSION, source=f"{SOURCE}/{half}")
    sides = (Candidate(text=right, model="books"), Candidate(text=wrong, model="books"))
    return Group(prompt=caption, candidates=sides, judgements=(judgement,), split=split)


def version() -> str:
    """Names what `write` would write."""
    return halves.version(_EDITION)


def write(folder: Path) -> None:
    """Writes the pairs of the installed books as `captioned.parquet` in `folder`.

    Raises:
        FeedbackError: music21 is not installed.
    """
    export_groups(groups(halves.installed()), folder / FILE)
