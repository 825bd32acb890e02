"""What happened to every row of a file: kept, kept after a repair, or refused. Always kept + refused = rows read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from penchant.errors import FeedbackError, PenchantError

EXAMPLES = 20


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """Rows kept after one documented repair.

    `examples` are the first zero-based row numbers, as `file:row` when several files were read.
    """

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Rows refused for one reason; `message` is the first such error in full."""

    count: int
    examples: tuple[str, ...]
    field: str | None
    remedy: str | None
    message: str


@dataclass(frozen=True, kw_only=True)
class ReadingReport:
    """The account of one reading: `rows` = `kept` + the sum of `refused`. A row with two repairs counts under both."""

    file: str
    layout: str
    kept: int = 0
    repaired: dict[str, Repaired] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows read."""
        return self.kept + self.bad

    @property
    def bad(self) -> int:
        """Rows refused."""
        return sum(reason.count for reason in self.refused.values())

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps({"rows": self.rows, **asdict(self)}, indent=2, ensure_ascii=False)

    def summary(self) -> str:
        """The report as a few lines for people."""
        lines = [f"{self.file} ({self.layout}): {self.rows} rows read, {self.kept} kept, {self.bad} refused"]
        lines += [f"  repaired {r.count} x {reason} (row {_rows(r.examples)})" for reason, r in self.repaired.items()]
        for reason, r in self.refused.items():
            where = f"field '{r.field}', " if r.field else ""
            lines.append(f"  refused {r.count} x {reason} ({where}row {_rows(r.examples)}) Remedy: {r.remedy}")
        return "\n".join(lines)

    def require(self, max_bad: float) -> None:
        """Raises FeedbackError if more than the share `max_bad` of the rows was refused."""
        if self.rows and self.bad / self.rows > max_bad:
            raise FeedbackError(
                f"{self.bad} of {self.rows} rows were refused, above max_bad = {max_bad:g}.\n{self.summary()}",
                file=self.file,
                remedy="mend the rows named above, or raise max_bad.",
            )


def _rows(examples: tuple[str, ...]) -> str:
    shown = ", ".join(examples[:5])
    return f"{shown}, ..." if len(examples) > 5 else shown


@dataclass(kw_only=True)
class Tally:
    """Counts while a file is being read; `report` freezes what was seen so far."""

    file: str
    layout: str = "unknown"
    kept: int = 0
    repaired: dict[str, Repaired] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)

    def keep(self, row: str, repairs: Iterable[str] = ()) -> None:
        """One more row kept, after `repairs` (each reason counted once a row)."""
        self.kept += 1
        for reason in dict.fromkeys(repairs):
            old = self.repaired.get(reason, Repaired(count=0, examples=()))
            self.repaired[reason] = Repaired(count=old.count + 1, examples=_extend(old.examples, row))

    def refuse(self, row: str, error: PenchantError) -> None:
        """One more row refused; the error's problem is the reason it is counted under."""
        old = self.refused.get(error.problem)
        self.refused[error.problem] = Refused(
            count=old.count + 1 if old else 1,
            examples=_extend(old.examples if old else (), row),
            field=error.field,
            remedy=error.remedy,
            message=old.message if old else str(error),
        )

    def report(self) -> ReadingReport:
        """The report so far."""
        return ReadingReport(
            file=self.file, layout=self.layout, kept=self.kept, repaired=dict(self.repaired), refused=dict(self.refused)
        )


def _extend(examples: tuple[str, ...], row: str) -> tuple[str, ...]:
    return examples if len(examples) >= EXAMPLES else (*examples, row)
