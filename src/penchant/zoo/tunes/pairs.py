"""Pairs of the language model's own tunes with votes: `zoo:tunes/pairs`. The tunes are shipped, votes are simulated.

Two samples a caption with seeds of their own at the temperature of MusicRL's roll-outs. Each pair is put before one
simulated listener (`listeners.py`), who votes if both were heard; the others are dropped, as in the paper. Judge a
learns from three quarters of the pairs, judge b from the rest; 5 % of each validate and as many test.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penchant.assets import path
from penchant.feedback import Candidate, Group, Prompt, export_groups
from penchant.likelihoods.randomness import generator
from penchant.models.completion import Decoding
from penchant.zoo.tunes.halves import HALVES, Half
from penchant.zoo.tunes.listeners import Listeners

FILE = "pairs.parquet"
COUNT = 4000
DECODING = Decoding(max_tokens=160, temperature=0.99)
SOURCE = "listeners"
_SHARES = {"a": 0.75, "b": 0.25}
_EVALUATED = 0.05
# Counted up whenever the same tunes would give other pairs.
_EDITION = 1


def draw(model: Any, captions: Sequence[str], out: Path, *, count: int | None = None, batch: int = 256) -> int:
    """Draws `count` pairs of tunes, an equal number a caption, and writes them as a table; returns the pairs.

    Args:
        model: the language model.
        captions: what to ask for.
        out: the parquet file.
        count: pairs; None for `COUNT`.
        batch: samples at once.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = COUNT if count is None else count
    asked = [captions[i % len(captions)] for i in range(count) for _ in range(2)]
    seeds = [int(generator(0, i // 2, asked[i], f"tune {i % 2}").integers(2**31)) for i in range(2 * count)]
    drawn = []
    # Prompts that are equal are computed once, so those of one caption stand together.
    order = sorted(range(len(asked)), key=lambda i: (asked[i], i))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        prompts = [Prompt(text=asked[i]) for i in part]
        drawn += model.complete(prompts, seeds=[seeds[i] for i in part], decoding=DECODING)
    made = dict(zip(order, drawn, strict=True))
    rows = [
        {
            "caption": asked[2 * i],
            "texts": [made[2 * i].text, made[2 * i + 1].text],
            "seeds": seeds[2 * i : 2 * i + 2],
            "finished": [made[2 * i].finished, made[2 * i + 1].finished],
        }
        for i in range(count)
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), out, compression="zstd", compression_level=19)
    return count


def drawn(file: Path) -> list[tuple[Half, Group]]:
    """The pairs of a table as groups without votes, each with whose it is; a pair of two equal tunes is left out."""
    import pyarrow.parquet as pq

    found = []
    for row in pq.read_table(file).to_pylist():
        sides = tuple(
            Candidate(text=text, model="zoo:tunes", seed=seed, settings={"temperature": DECODING.temperature})
            for text, seed in zip(row["texts"], row["seeds"], strict=True)
        )
        group = Group(prompt=row["caption"], candidates=sides)
        if sides[0].id != sides[1].id:
            found.append((_half(group), replace(group, split=_split(group))))
    return found


def _half(group: Group) -> Half:
    return HALVES[int(generator(0, 0, group.id, "half").random() >= _SHARES["a"])]


def _split(group: Group) -> str:
    place = generator(0, 0, group.id, "split").random()
    return "validation" if place < _EVALUATED else "test" if place < 2 * _EVALUATED else "train"


def voted(found: Sequence[tuple[Half, Group]], half: Half) -> tuple[list[Group], Counter[str]]:
    """The pairs of a half with their votes, and how many were "voted" on and "not heard"."""
    return Listeners(name=f"{SOURCE}/{half}").votes(group for own, group in found if own == half)


def groups(file: Path) -> Iterator[Group]:
    """The voted pairs of both halves."""
    found = drawn(file)
    for half in HALVES:
        yield from voted(found, half)[0]


def version() -> str:
    """Names what `write` would write: the edition of these rules and the tunes."""
    return f"{_EDITION}-{hashlib.sha256(path('tunes/samples').read_bytes()).hexdigest()[:8]}"


def write(folder: Path) -> None:
    """Writes the voted pairs of the shipped tunes as `pairs.parquet` in `folder`."""
    export_groups(groups(path("tunes/samples")), folder / FILE)
