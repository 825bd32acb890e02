"""`read`: any file or folder of preferences to groups, with an account of every row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path

from penchant.errors import PenchantError
from penchant.feedback.files import Record, columns_of, data_files, first_record, records_of, split_of
from penchant.feedback.groups import Feedback, Group
from penchant.feedback.packaged import is_packaged, packaged_files
from penchant.feedback.readers import layout_of
from penchant.feedback.readers.layout import Layout, Row
from penchant.feedback.report import ReadingReport, Tally


def read(
    path: str | PathLike[str],
    *,
    layout: str | None = None,
    max_bad: float = 1.0,
    limit: int | None = None,
    verify_media: bool = True,
) -> Feedback:
    """Preferences from a Parquet, JSON or CSV file, a folder of them, or a store; the layout is found by its columns.

    Args:
        path: `.parquet`, `.json`, `.jsonl` (also `.gz`), `.csv`, a folder of such, a folder that `write` made, or
            `package:NAME/SET` for data inside an installed package (`packaged.CONTENTS`).
        layout: insist on one layout of `readers.LAYOUTS` instead of finding it.
        max_bad: the largest share of refused rows that is accepted.
        limit: read at most so many rows.
        verify_media: decode every image, clip and sound once, so that a corrupt one is refused now, not in mid-run.

    Returns:
        Groups in memory and the report: every row is kept or refused, with the reason. Embedded media stay in memory;
        for more than fits there, `write(stream(path), folder)` once and `open_store(folder)` afterwards.

    Raises:
        FeedbackError: unknown layout (naming the nearest), damaged file, or more refused rows than `max_bad`.
    """
    from penchant.feedback.store import is_store, open_store

    if is_store(path):
        groups = open_store(path).groups[:limit]
        return Feedback(groups=groups, report=ReadingReport(file=str(path), layout="penchant-store", kept=len(groups)))
    rows = stream(path, layout=layout, limit=limit, verify_media=verify_media)
    groups = tuple(rows)
    rows.report.require(max_bad)
    return Feedback(groups=groups, report=rows.report)


def stream(
    path: str | PathLike[str], *, layout: str | None = None, limit: int | None = None, verify_media: bool = True
) -> Stream:
    """`read`, one group at a time, for files larger than memory; `.report` tells what was seen so far."""
    if is_packaged(path):
        root, files = packaged_files(str(path))
    else:
        files = data_files(Path(path))
        root = Path(path) if Path(path).is_dir() else Path(path).parent
    layouts = {
        file: layout_of(columns_of(file), file=str(file), name=layout, first=partial(first_record, file))
        for file in files
    }
    return Stream(source=str(path), root=root, layouts=layouts, limit=limit, verify_media=verify_media)


@dataclass(kw_only=True)
class Stream:
    """Groups of some files below `root`, each of a known layout; iterating again begins again, with a new report."""

    source: str
    root: Path
    layouts: dict[Path, Layout]
    limit: int | None = None
    verify_media: bool = True
    _tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self._tally = self._new_tally()

    @property
    def report(self) -> ReadingReport:
        """What was read so far."""
        return self._tally.report()

    def _new_tally(self) -> Tally:
        names = dict.fromkeys(layout.name for layout in self.layouts.values())
        return Tally(file=self.source, layout=", ".join(names))

    def __iter__(self) -> Iterator[Group]:
        self._tally = self._new_tally()
        rows = islice(self._rows(), self.limit)
        gathering: dict[tuple[str, str], _Gathering] = {}
        for layout, row, record in rows:
            try:
                if isinstance(record, PenchantError):
                    raise record
                group = layout.to_group(row)
            except PenchantError as error:
                self._tally.refuse(self._label(row), _placed(error, row))
                continue
            if layout.gather_by is None:
                self._tally.keep(self._label(row), row.repairs)
                yield group
            else:
                key = (row.file, str(row.values.get(layout.gather_by)))
                gathered = gathering.setdefault(key, _Gathering(layout=layout))
                gathered.parts.append((row, group))
                if layout.gather_count and row.values.get(layout.gather_count) == len(gathered.parts):
                    yield self._merge(gathering.pop(key))
        for gathered in gathering.values():
            yield self._merge(gathered)

    def _rows(self) -> Iterator[tuple[Layout, Row, Record]]:
        for file, layout in self.layouts.items():
            name = str(file.relative_to(self.root))
            columns = layout.required | layout.optional
            for number, record in enumerate(records_of(file, columns)):
                values = record if isinstance(record, dict) else {}
                yield (
                    layout,
                    Row(
                        values=values,
                        file=name,
                        number=number,
                        root=self.root,
                        split=split_of(file),
                        verify_media=self.verify_media,
                    ),
                    record,
                )

    def _label(self, row: Row) -> str:
        return str(row.number) if len(self.layouts) == 1 else f"{row.file}:{row.number}"

    def _merge(self, gathered: _Gathering) -> Group:
        """One group of the rows of one key; rows with another prompt, or with a sample that was there, are refused."""
        assert gathered.layout.merge is not None
        prompt, parts, seen = gathered.parts[0][1].prompt, [], set()
        for row, group in gathered.parts:
            name = group.candidates[0].id
            if group.prompt == prompt and name not in seen:
                self._tally.keep(self._label(row), row.repairs)
                parts.append(group)
                seen.add(name)
            elif group.prompt == prompt:
                problem = f"same {gathered.layout.sample} twice under one prompt."
                error = row.error(problem, gathered.layout.gather_by, "remove one of the rows.")
                self._tally.refuse(self._label(row), error)
            else:
                error = row.error(
                    "one id stands for two prompts.", gathered.layout.gather_by, "give each prompt its own id."
                )
                self._tally.refuse(self._label(row), error)
        return gathered.layout.merge(parts)


@dataclass(kw_only=True)
class _Gathering:
    layout: Layout
    parts: list[tuple[Row, Group]] = field(default_factory=list)


def _placed(error: PenchantError, row: Row) -> PenchantError:
    """The error with its file and row, for those raised where neither was known."""
    if error.row is not None:
        return error
    return type(error)(error.problem, file=row.file, row=row.number, field=error.field, remedy=error.remedy)
