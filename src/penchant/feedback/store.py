"""Our own storage: media by content, groups in Parquet parts, and an index that says which parts exist.

    penchant-store.json          format, version and the parts, each with its sha256 and number of groups
    groups/part-000000-<sha>.parquet
    media/ab/abcdef...           one file for each distinct sample

Nothing is visible before it is whole: media and parts are written to temporary files, synced and renamed, and the index
is replaced last. A writer killed anywhere leaves the previous state, plus files that nothing names and the next writer
reuses. The parts hold no media, so they are small; a sample is read from disk when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

from penchant.errors import FeedbackError
from penchant.feedback.groups import Feedback, Group, Media
from penchant.feedback.objects import TEMPORARY, media_path, sync_folder, write_atomically, write_media
from penchant.feedback.report import ReadingReport
from penchant.feedback.rows import group_of, row_of, schema

INDEX = "penchant-store.json"
FORMAT, VERSION = "penchant-store", 1
GROUPS_PER_PART = 10_000
ROW_GROUP = 1000
_SHA = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"part-\d{6,}-[0-9a-f]{12}\.parquet")


@dataclass(frozen=True, kw_only=True)
class StoreCheck:
    """What `verify` found; `problems` is empty when every part and every sample has the sha256 it is filed under."""

    groups: int
    media: int
    unreferenced: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """No problem was found."""
        return not self.problems


def is_store(folder: str | PathLike[str]) -> bool:
    """Whether `folder` is a finished store."""
    return (Path(folder) / INDEX).is_file()


def write(groups: Iterable[Group], folder: str | PathLike[str]) -> Feedback:
    """Write groups (a Feedback or a `stream`) to a new store and open it.

    Raises FeedbackError if the folder already holds a store, or other files.
    """
    root = Path(folder)
    if is_store(root):
        raise FeedbackError("the folder already holds a store.", file=root, remedy="use append, or another folder.")
    strangers = {p.name for p in root.iterdir()} - {"media", "groups", ".lock"} if root.is_dir() else set()
    strangers = {name for name in strangers if not name.startswith(TEMPORARY)}
    if strangers:
        raise FeedbackError("the folder is not empty.", file=root, remedy="give a new or empty folder.")
    _publish(root, groups, [])
    return open_store(root)


def replace_groups(groups: Iterable[Group], folder: str | PathLike[str]) -> Feedback:
    """Make `groups` the whole content of a store, new or not, in one moment; media are kept for whoever needs them."""
    root = Path(folder)
    _publish(root, groups, [])
    named = {part["name"] for part in _read_index(root)}
    for path in (root / "groups").glob("part-*.parquet"):
        if path.name not in named:
            path.unlink()
    return open_store(root)


def append(groups: Iterable[Group], folder: str | PathLike[str]) -> Feedback:
    """Add groups to a store, all of them or, if anything fails, none; returns the whole store, opened."""
    root = Path(folder)
    _publish(root, groups, None)
    return open_store(root)


def _publish(root: Path, groups: Iterable[Group], before: list[dict[str, Any]] | None) -> None:
    """Writes groups after the parts `before`; None means after all that the store holds."""
    # filelock comes with torch; its lock is the kernel's, so a killed writer leaves none behind.
    from filelock import FileLock

    if before is None:
        _read_index(root)
    for name in ("media", "groups"):
        (root / name).mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        parts = _read_index(root) if before is None else list(before)
        iterator = iter(groups)
        while batch := list(islice(iterator, GROUPS_PER_PART)):
            for media in (c.media for group in batch for c in group.candidates if c.media is not None):
                write_media(root, media)
            parts.append(_write_part(root, len(parts), batch))
        for name in ("media", "groups"):
            sync_folder(root / name)
        content = json.dumps({"format": FORMAT, "version": VERSION, "parts": parts}, indent=1)
        write_atomically(root / INDEX, content.encode())
        sync_folder(root)


def _write_part(root: Path, number: int, groups: list[Group]) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([row_of(group) for group in groups], schema=schema())
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, row_group_size=ROW_GROUP, compression="zstd")
    data = buffer.getvalue().to_pybytes()
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"part-{number:06d}-{sha256[:12]}.parquet"
    write_atomically(root / "groups" / name, data)
    return {"name": name, "sha256": sha256, "groups": len(groups)}


def _group(root: Path, row: dict[str, Any]) -> Group:
    def media(cell: dict[str, Any]) -> Media | None:
        sha256 = cell["sha256"]
        # The manifest is a file like any other: a hash that is none must not become a path.
        if sha256 is not None and not _SHA.fullmatch(sha256):
            raise FeedbackError("a media hash is not a sha256.", file=root, field="sha256", remedy="restore the store.")
        return Media(sha256=sha256, mime=cell["mime"], path=str(media_path(root, sha256))) if sha256 else None

    return group_of(row, media)


def _read_index(root: Path) -> list[dict[str, Any]]:
    path = root / INDEX
    try:
        index = json.loads(path.read_text("utf-8"))
        parts = index["parts"]
        known = index["format"] == FORMAT and all(_PART.fullmatch(part["name"]) for part in parts)
    except FileNotFoundError as error:
        raise FeedbackError("the folder is not a store.", file=root, remedy="make one with write().") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FeedbackError("the store's index is damaged.", file=path, remedy="restore it from a backup.") from error
    if not known or index.get("version") != VERSION:
        raise FeedbackError(
            "the store's index is of another format or version.",
            file=path,
            remedy="open it with the penchant that wrote it.",
        )
    return parts


def _part_groups(root: Path, name: str) -> Iterator[Group]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root / "groups" / name
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROW_GROUP):
                for row in batch.to_pylist():
                    yield _group(root, row)
    except (pa.ArrowException, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise FeedbackError("a part of the store is missing or damaged.", file=path, remedy="restore it.") from error


def open_store(folder: str | PathLike[str]) -> Feedback:
    """The groups of a store; their media stay on disk and are read, and checked, by `Media.bytes`."""
    root = Path(folder).absolute()
    groups = tuple(group for part in _read_index(root) for group in _part_groups(root, part["name"]))
    return Feedback(groups=groups, report=ReadingReport(file=str(folder), layout=FORMAT, kept=len(groups)))


def verify(folder: str | PathLike[str]) -> StoreCheck:
    """Hash every part and every sample of a store. Raises FeedbackError only if there is no readable index."""
    root = Path(folder).absolute()
    problems: list[str] = []
    media: set[str] = set()
    count = 0
    for part in _read_index(root):
        path = root / "groups" / part["name"]
        if not path.is_file():
            problems.append(f"part {part['name']} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != part["sha256"]:
            problems.append(f"part {part['name']} was altered")
        else:
            for group in _part_groups(root, part["name"]):
                count += 1
                media.update(c.media.sha256 for c in group.candidates if c.media is not None)
    problems += [problem for sha256 in sorted(media) if (problem := _media_problem(root, sha256))]
    on_disk = {path.name for path in (root / "media").glob("*/*")}
    return StoreCheck(groups=count, media=len(media), unreferenced=len(on_disk - media), problems=tuple(problems))


def _media_problem(root: Path, sha256: str) -> str | None:
    path = media_path(root, sha256)
    if not path.is_file():
        return f"media {sha256} is missing"
    return None if hashlib.sha256(path.read_bytes()).hexdigest() == sha256 else f"media {sha256} was altered"
