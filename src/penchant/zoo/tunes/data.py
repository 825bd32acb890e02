"""Strains of eight bars out of three books of dance tunes, as words.

The books are Aird's Selection (Glasgow 1778-1801), Ryan's Mammoth Collection (Boston 1883) and O'Neill's Music of
Ireland (Chicago 1903), as transcribed in ABC and distributed inside the Python package music21. That package is fetched
by name when the data is built and read as text; nothing of it is imported, and neither ABC nor titles are kept.

A strain is what stands between two repeat signs or double bars, by tradition eight bars. A pick-up is kept: its bar and
the last one then add up to a bar, so that every strain lasts exactly eight. Of endings the last is taken.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from penchant.errors import PenchantError
from penchant.zoo.tunes import abc
from penchant.zoo.tunes.kinship import families

PACKAGE = "music21==10.5.1"
# Book -> its folder of the package. Other folders are under other terms (essenFolksong: no commercial use).
BOOKS = {"aird": "airdsAirs", "oneill": "oneills1850", "ryan": "ryansMammoth"}
BARS = 8
SPLITS = ("train", "validation", "held-out")
METRES = ("2/2", "2/4", "3/4", "4/4", "6/8", "9/8")
MODES = ("major", "minor", "dorian", "mixolydian")
# Semitones above the tonic, and ticks, that a word can say: more than the books hold, so that a changed tune still is
# one; what lies outside is refused.
PITCHES = range(-12, 27)
TICKS = (1, 2, 3, 4, 6, 9, 12, 15, 18, 21, 24, 30, 36, 48)
# What a field R or else a title may call a dance -> what captions call it.
DANCES = {
    "slip jig": "slip jig",
    "slipjig": "slip jig",
    "jig": "jig",
    "double jig": "jig",
    "reel": "reel",
    "hornpipe": "hornpipe",
    "clog": "hornpipe",
    "strathspey": "strathspey",
    "highland fling": "strathspey",
    "fling": "strathspey",
    "march": "march",
    "quick step": "march",
    "quickstep": "march",
}
_BY_METRE = {"6/8": "jig", "9/8": "slip jig"}
# Never trained on, though the books have them: their words are known from other captions.
HELD_OUT = (
    "slip jig in 9/8, minor",
    "reel in 2/4, minor",
    "reel in 2/4, dorian",
    "reel in 2/2, mixolydian",
    "reel in 4/4, dorian",
    "hornpipe in 2/2, minor",
    "hornpipe in 2/4, minor",
    "strathspey in 2/2, major",
    "strathspey in 4/4, dorian",
    "strathspey in 4/4, mixolydian",
    "march in 2/2, major",
    "march in 6/8, minor",
    "tune in 2/4, dorian",
    "tune in 2/4, mixolydian",
    "tune in 3/4, mixolydian",
    "tune in 4/4, dorian",
)
# Every twelfth family of tunes validates.
_VALIDATION = 12
# Strains that a caption needs to be asked for.
_ENOUGH = 10


@dataclass(frozen=True, kw_only=True)
class Record:
    """A strain.

    Attributes:
        caption: what a prompt says, "{dance} in {metre}, {mode}".
        dance: one of the values of `DANCES`, or "tune".
        metre: one of `METRES`.
        mode: one of `MODES`.
        text: the strain in the words of `feedback.tune`.
        split: "train", "validation", or "held-out" for a caption that is never trained on.
        book: one of `BOOKS`.
    """

    caption: str
    dance: str
    metre: str
    mode: str
    text: str
    split: str
    book: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A tune of a book, read, before its strains are chosen."""

    book: str
    melody: abc.Melody


def fetch(folder: Path) -> Path:
    """The wheel of music21 in `folder`, got once with `pip download`.

    Raises:
        PenchantError: pip did not get it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pattern = f"{PACKAGE.replace('==', '-')}-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--dest", str(folder), "--quiet"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise PenchantError(f"pip download {PACKAGE} failed: {done.stderr.strip()}", remedy="check the network.")
    return next(iter(folder.glob(pattern)))


def tunes(wheel: Path) -> Iterator[tuple[str, str]]:
    """(book, ABC of one tune) of the three books, in the order of file names."""
    with zipfile.ZipFile(wheel) as archive:
        for book, folder in BOOKS.items():
            for name in sorted(archive.namelist()):
                if f"/corpus/{folder}/" in name and name.endswith(".abc"):
                    for tune in abc.split(archive.read(name).decode("utf-8", errors="replace")):
                        yield book, tune


def build(texts: Iterator[tuple[str, str]]) -> tuple[list[Record], Counter[str]]:
    """Every strain that fits the form, each once, and how many tunes and strains there were and why some were left out.

    Args:
        texts: (book, ABC of one tune).
    """
    counts: Counter[str] = Counter()
    sources: list[Source] = []
    for book, text in texts:
        counts["tunes"] += 1
        try:
            sources.append(Source(book=book, melody=abc.read(text)))
        except abc.AbcError as error:
            counts[f"tunes refused, {error.reason}"] += 1
    strains = [list(_strains(source, counts)) for source in sources]
    kept = [(source, own) for source, own in zip(sources, strains, strict=True) if own]
    counts["tunes kept"] = len(kept)
    family = families([source.melody.title for source, _ in kept], [[r.text for r in own] for _, own in kept])
    counts["families of tunes"] = len(set(family))
    return _split([own for _, own in kept], family, counts), counts


def _split(strains: Sequence[Sequence[Record]], family: Sequence[int], counts: Counter[str]) -> list[Record]:
    """Families stay whole: one with a held-out caption is never trained on, nor is every twelfth other."""
    unseen = {name for name, own in zip(family, strains, strict=True) if any(r.caption in HELD_OUT for r in own)}
    rank = {name: place for place, name in enumerate(sorted(set(family) - unseen))}
    records: dict[tuple[str, str], Record] = {}
    for name, own in zip(family, strains, strict=True):
        apart = name in unseen or rank[name] % _VALIDATION == 0
        for record in own:
            split = "held-out" if record.caption in HELD_OUT else "validation" if apart else "train"
            if (record.caption, record.text) in records:
                counts["strains left out, twice"] += 1
            records.setdefault((record.caption, record.text), replace(record, split=split))
    return list(records.values())


def captions(records: Sequence[Record]) -> list[str]:
    """Captions learnt from `_ENOUGH` strains or more, the most frequent first: what to ask for in training."""
    learnt = Counter(record.caption for record in records if record.split == "train")
    return [caption for caption, count in learnt.most_common() if count >= _ENOUGH]


def dance_of(field: str, title: str, metre: str) -> str:
    """From the field R, else from the title, else from the metre; "tune" if nothing says it. 9/8 is a slip jig."""
    if metre == "9/8":
        return "slip jig"
    if field in DANCES:
        return DANCES[field]
    named = [dance for word, dance in DANCES.items() if re.search(rf"\b{word}s?\b", title.lower())]
    return named[0] if named else _BY_METRE.get(metre, "tune")


def _strains(source: Source, counts: Counter[str]) -> Iterator[Record]:
    melody = source.melody
    metre, mode = f"{melody.metre[0]}/{melody.metre[1]}", melody.mode
    dance = dance_of(melody.dance, melody.title, metre)
    for section in _with_pick_ups(melody):
        counts["strains"] += 1
        bars = form(section, melody.bar)
        words = None if bars is None else words_of(bars, melody.tonic)
        if metre not in METRES or mode not in MODES:
            counts["strains left out, rare metre or mode"] += 1
        elif bars is None:
            counts["strains left out, not of eight bars"] += 1
        elif words is None:
            counts["strains left out, rare pitch or length"] += 1
        else:
            caption = f"{dance} in {metre}, {mode}"
            yield Record(
                caption=caption, dance=dance, metre=metre, mode=mode, text=words, split="train", book=source.book
            )


def _with_pick_ups(melody: abc.Melody) -> Iterator[Sequence[abc.Bar]]:
    """Sections; one that is shorter than a bar is the pick-up of the next."""
    before: tuple[abc.Bar, ...] = ()
    for section in melody.sections:
        if sum(bar.ticks for bar in section) < melody.bar:
            before = section
            continue
        yield (*before, *section)
        before = ()


def form(section: Sequence[abc.Bar], full: int) -> list[list[abc.Note]] | None:
    """The bars of a strain of exactly eight, its pick-up in front, or None if it is none.

    Writers differ in what the last bar holds: its last note is held or cut, by less than a bar, until eight are full.

    Args:
        section: its bars.
        full: ticks of a bar.
    """
    last = max(bar.ending or 0 for bar in section)
    bars = [list(bar.notes) for bar in section if bar.ending in (None, last)]
    lengths = [sum(note.ticks for note in bar) for bar in bars]
    picked_up = lengths[0] < full
    if len(bars) != BARS + picked_up or any(ticks != full for ticks in lengths[1:-1]) or lengths[0] > full:
        return None
    missing = BARS * full - sum(lengths)
    final = bars[-1][-1]
    if abs(missing) >= full or final.ticks + missing < 1:
        return None
    bars[-1][-1] = replace(final, ticks=final.ticks + missing)
    return bars


def words_of(bars: Sequence[Sequence[abc.Note]], tonic: int) -> str | None:
    """Bars in the words of `feedback.tune`, or None if a pitch or length has none."""
    words: list[str] = []
    for bar in bars:
        for note in bar:
            pitch = None if note.pitch is None else note.pitch - tonic
            if note.ticks not in TICKS or not (pitch is None or pitch in PITCHES):
                return None
            words.append(f"R_{note.ticks}" if pitch is None else f"N{pitch}_{note.ticks}")
        words.append("|")
    return " ".join(words)


def write(records: Sequence[Record], path: Path) -> int:
    """Writes records as a parquet table, a column an attribute; returns how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([asdict(record) for record in records]), path, compression="zstd")
    return len(records)


def load(path: Path) -> list[Record]:
    """What `write` wrote."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return [Record(**row) for row in rows]
