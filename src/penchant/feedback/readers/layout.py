"""What a reader is: the columns of a layout, and one function from a row to a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penchant.errors import FeedbackError
from penchant.feedback.groups import Group


@dataclass(frozen=True, kw_only=True)
class Row:
    """One record of a file while it is read. Cells add to `repairs`; media paths are looked up below `root`."""

    values: Mapping[str, Any]
    file: str
    number: int
    root: Path
    split: str | None = None
    verify_media: bool = True
    repairs: list[str] = field(default_factory=list)

    def error(self, problem: str, field: str | None, remedy: str) -> FeedbackError:
        """The refusal of this row; `problem` is a fixed sentence, because refusals are counted by it."""
        return FeedbackError(problem, file=self.file, row=self.number, field=field, remedy=remedy)

    def provenance(self, layout: str) -> dict[str, Any]:
        """Where the group came from; the file's name only, since folders differ between machines."""
        return {"layout": layout, "file": self.file, "row": self.number}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A public layout.

    Args:
        name: the layout's name in reports and in `read(layout=...)`.
        required: columns that must all be there.
        optional: columns that are read when they are there.
        absent: columns that betray another layout with the same required ones.
        recognises: a look at the first record, where columns cannot tell two layouts apart.
        to_group: one row to one group; raises FeedbackError or MediaError to refuse the row.
        gather_by: for layouts with one *candidate* a row, the column whose equal values make one group.
        gather_count: the column that says how many rows a group has, so that a whole one need not wait for the end.
        merge: the groups of K such rows to one group of K candidates.
        sample: what its candidates are called where a row is refused.
    """

    name: str
    required: frozenset[str]
    optional: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    recognises: Callable[[Mapping[str, Any]], bool] | None = None
    to_group: Callable[[Row], Group]
    gather_by: str | None = None
    gather_count: str | None = None
    merge: Callable[[list[Group]], Group] | None = None
    sample: str = "image"

    def matches(self, columns: frozenset[str]) -> bool:
        """Whether a file with these columns has this layout."""
        return self.required <= columns and not self.absent & columns

    def missing(self, columns: frozenset[str]) -> frozenset[str]:
        """Required columns that are not there."""
        return self.required - columns
