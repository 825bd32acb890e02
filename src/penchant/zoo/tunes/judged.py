"""What the held-out judge of tunes learns from: the halves "b" of captions, ratings and votes, `zoo:tunes/judged`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from penchant.assets import path
from penchant.feedback import Group, export_groups
from penchant.zoo.tunes import captioned, halves, pairs, rated

FILE = "judged.parquet"
_HALF = "/b"


def groups() -> Iterator[Group]:
    """Captioned, rated and voted pairs of the half."""
    found = halves.installed()
    for made in (captioned.groups(found), rated.groups(found), pairs.groups(path("tunes/samples"))):
        yield from (group for group in made if group.judgements[0].source.endswith(_HALF))


def version() -> str:
    """Names what `write` would write."""
    return f"{captioned.version()}-{rated.version()}-{pairs.version()}"


def write(folder: Path) -> None:
    """Writes them as `judged.parquet` in `folder`.

    Raises:
        FeedbackError: music21 is not installed.
    """
    export_groups(groups(), folder / FILE)
