"""The ledger: which unit became what. One SQLite file, one writer, a transaction for every handful of batches.

A unit's id is a hash of everything that decides its output, so a row once written holds for every later run, whatever
was added meanwhile. Media are on disk before their row is committed: who is killed between the two does the batch
again and finds the file there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from penchant.errors import RecipeError
from penchant.synthesis.stages import Output

_SCHEMA = """
CREATE TABLE IF NOT EXISTS unit (
    id TEXT PRIMARY KEY, stage TEXT NOT NULL, input TEXT NOT NULL, output TEXT NOT NULL, seconds REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failure (
    id TEXT PRIMARY KEY, stage TEXT NOT NULL, input TEXT NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """One finished unit; `seconds` is its share of the batch's time."""

    id: str
    stage: str
    input: str
    output: Output
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failed:
    """One unit that was given up after `attempts`."""

    id: str
    stage: str
    input: str
    reason: str
    attempts: int


class Ledger:
    """Outputs by unit id."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file.

        Raises:
            RecipeError: it is no ledger.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        try:
            # With a write-ahead log a killed process loses nothing that was committed.
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise RecipeError(f"is no ledger ({error}).", file=path, remedy="name another folder.") from error

    def get(self, ids: Sequence[str]) -> dict[str, Output]:
        """Outputs of those units that are done."""
        found: dict[str, Output] = {}
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            marks = ",".join("?" * len(some))
            rows = self._database.execute(f"SELECT id, output FROM unit WHERE id IN ({marks})", some)
            found.update((id, json.loads(output)) for id, output in rows)
        return found

    def commit(self, done: Iterable[Done], failed: Iterable[Failed] = ()) -> int:
        """Writes outputs and failures in one transaction; returns how many units were not there before."""
        rows = [(d.id, d.stage, d.input, json.dumps(d.output), d.seconds) for d in done]
        given_up = [(f.id, f.stage, f.input, f.reason, f.attempts) for f in failed]
        if not rows and not given_up:
            return 0
        before = self._database.total_changes
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR IGNORE INTO unit VALUES (?, ?, ?, ?, ?)", rows)
            new = self._database.total_changes - before
            self._database.executemany("DELETE FROM failure WHERE id = ?", [(row[0],) for row in rows])
            self._database.executemany("INSERT OR REPLACE INTO failure VALUES (?, ?, ?, ?, ?)", given_up)
            self._database.execute("COMMIT")
        return new

    def forget(self, ids: Iterable[str]) -> None:
        """Drops units whose media are gone, so that they are done again."""
        with self._database:
            self._database.executemany("DELETE FROM unit WHERE id = ?", [(id,) for id in ids])

    def failures(self) -> list[Failed]:
        """Units that were given up and not done since."""
        rows = self._database.execute(
            "SELECT id, stage, input, reason, attempts FROM failure ORDER BY stage, input, id"
        )
        return [Failed(id=i, stage=s, input=n, reason=r, attempts=a) for i, s, n, r, a in rows]

    def counts(self) -> dict[str, int]:
        """Units done, by stage."""
        return dict(self._database.execute("SELECT stage, COUNT(*) FROM unit GROUP BY stage ORDER BY stage"))

    def rates(self) -> dict[str, float]:
        """Mean seconds of one worker a unit, by stage."""
        return dict(self._database.execute("SELECT stage, AVG(seconds) FROM unit GROUP BY stage ORDER BY stage"))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()
