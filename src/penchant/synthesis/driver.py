"""The driver: every prompt through every generator, every sample through every reward, each unit once.

Work goes in lanes: one generator, a batch of prompts. A lane's batch is drawn, and committed, as a whole, because the
last bits of a picture depend on what shares its batch; so a run that was killed makes the same batches again and ends
with the same bytes as one that was not. When a lane is drawn, each reward scores it, again as a whole.

A batch that raises or hangs is tried again, then row by row, and a row that still fails is given up and reported by
name; the rest goes on. A worker that dies is replaced and its batch done again.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from penchant.feedback.groups import Candidate, Media
from penchant.feedback.objects import media_path
from penchant.synthesis.executors import Call, Executor, Report
from penchant.synthesis.ledger import Done, Failed, Ledger
from penchant.synthesis.stages import Failure, Output, Row, Stage

# A dying worker need not be its batch's fault: only after so many deaths is the batch taken apart.
DEATHS = 8


@dataclass(kw_only=True, eq=False)
class Lane:
    """Rows that go through the stages together: prompts of one generator, or samples that were given."""

    generator: Stage | None
    rows: tuple[Row, ...]
    open: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Units of one stage that are still to be done."""

    stage: Stage
    lane: Lane
    rows: tuple[Row, ...]
    attempts: int = 0
    deaths: int = 0


@dataclass(kw_only=True)
class Tally:
    """Units of each stage: planned, found in the ledger, computed now, given up; seconds of workers."""

    planned: Counter[str] = field(default_factory=Counter)
    reused: Counter[str] = field(default_factory=Counter)
    computed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    lost_workers: int = 0


class Driver:
    """One pass over the plan; the only writer of the ledger."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        rewards: Sequence[Stage],
        ledger: Ledger,
        executor: Executor,
        folder: Path,
        *,
        attempts: int = 3,
        tell: Callable[[Tally], None] = lambda tally: None,
    ) -> None:
        """Plans the pass.

        Args:
            lanes: what to draw and score.
            rewards: what scores every sample.
            ledger: what is already done.
            executor: where batches run.
            folder: where media lie.
            attempts: how often a row is tried before it is given up.
            tell: hears how far the pass is, after every round.
        """
        self.rewards, self.ledger, self.executor, self.folder = tuple(rewards), ledger, executor, folder
        self.attempts, self.tell, self.tally = attempts, tell, Tally()
        self._ready: dict[Stage, deque[Lane | Task]] = {}
        self._running: dict[int, Task] = {}
        self._number = 0
        for lane in lanes:
            if lane.generator is None:
                self._drawn(lane)
            else:
                self.tally.planned[lane.generator.name] += len(lane.rows)
                self._queue(lane.generator).append(lane)

    def run(self) -> Tally:
        """Works until nothing is left to do."""
        while True:
            self._submit()
            if not self._running and not any(self._ready.values()):
                return self.tally
            self._receive(self.executor.wait(0.5))
            self.tell(self.tally)

    def _queue(self, stage: Stage) -> deque[Lane | Task]:
        return self._ready.setdefault(stage, deque())

    def _submit(self) -> None:
        # Rewards first: what is drawn is finished before more is drawn.
        while stage := self.executor.free([s for s in (*self.rewards, *self._ready) if self._ready.get(s)]):
            item = self._ready[stage].popleft()
            task = self._opened(stage, item) if isinstance(item, Lane) else item
            if task is None:
                continue
            self._number += 1
            self._running[self._number] = task
            self.executor.submit(Call(number=self._number, stage=stage, rows=task.rows))

    def _opened(self, stage: Stage, lane: Lane) -> Task | None:
        """What of a lane the ledger lacks for a stage; None if nothing."""
        drawing = stage == lane.generator
        rows = lane.rows if drawing else tuple(samples(lane, self.ledger, self.folder))
        by_id = {stage.unit_id(row): row for row in rows}
        known = self.ledger.get(list(by_id))
        if drawing and (gone := [id for id, output in known.items() if not _present(output, self.folder)]):
            self.ledger.forget(gone)
            known = {id: output for id, output in known.items() if id not in gone}
        missing = tuple(row for id, row in by_id.items() if id not in known)
        if not drawing:
            self.tally.planned[stage.name] += len(rows)
        self.tally.reused[stage.name] += len(rows) - len(missing)
        if drawing:
            lane.open = len(missing)
            if not missing:
                self._drawn(lane)
        return Task(stage=stage, lane=lane, rows=missing) if missing else None

    def _drawn(self, lane: Lane) -> None:
        for reward in self.rewards:
            self._queue(reward).append(lane)

    def _receive(self, reports: Sequence[Report]) -> None:
        done: list[Done] = []
        failed: list[Failed] = []
        settled: list[tuple[Task, int]] = []
        for report in reports:
            task = self._running.pop(report.number)
            good, again, bad = self._sorted(task, report)
            done += good
            failed += bad
            settled.append((task, len(good) + len(bad)))
            # At the end: what kills workers, or breaks them, shall not hold up the rest.
            for one in again:
                self._queue(one.stage).append(one)
        self.ledger.commit(done, failed)
        for task, count in settled:
            self._close(task, count)

    def _close(self, task: Task, count: int) -> None:
        """Counts a lane's drawn rows after their commit: rewards read the ledger."""
        if task.stage == task.lane.generator and count:
            task.lane.open -= count
            if task.lane.open == 0:
                self._drawn(task.lane)

    def _sorted(self, task: Task, report: Report) -> tuple[list[Done], list[Task], list[Failed]]:
        """A report's good rows, what is to be tried again, and what is given up."""
        name = task.stage.name
        if report.outputs is None:
            again, failed = self._whole(task, report)
            return [], again, failed
        good, bad = [], []
        self.tally.seconds[name] += report.seconds  # type: ignore[assignment]
        for row, output in zip(task.rows, report.outputs, strict=True):
            if isinstance(output, Failure):
                bad.append((row, output.reason))
            else:
                seconds = report.seconds / len(task.rows)
                id, text = task.stage.unit_id(row), described(row)
                good.append(Done(id=id, stage=name, input=text, output=output, seconds=seconds))
        self.tally.computed[name] += len(good)
        again, failed = self._rows(task, bad, task.attempts + 1)
        return good, again, failed

    def _whole(self, task: Task, report: Report) -> tuple[list[Task], list[Failed]]:
        """A batch without outputs: again as it was, later row by row, each row with a try of its own."""
        rows = [(row, report.reason) for row in task.rows]
        if report.lost:
            self.tally.lost_workers += 1
            if task.deaths + 1 < DEATHS:
                return [replace(task, deaths=task.deaths + 1)], []
            return self._rows(task, rows, self.attempts if len(rows) == 1 else task.attempts)
        if task.attempts == 0:
            self.tally.retried += len(rows)
            return [replace(task, attempts=1)], []
        spent = task.attempts + 1
        return self._rows(task, rows, spent if len(rows) == 1 else min(spent, self.attempts - 1))

    def _rows(self, task: Task, bad: Sequence[tuple[Row, str]], spent: int) -> tuple[list[Task], list[Failed]]:
        """Single rows: again, or given up after `spent` attempts."""
        if spent < self.attempts:
            self.tally.retried += len(bad)
            # Of a batch that killed its workers, a row is soon known to be the one.
            deaths = DEATHS - self.attempts if task.deaths + 1 >= DEATHS else 0
            return [replace(task, rows=(row,), attempts=spent, deaths=deaths) for row, _ in bad], []
        stage = task.stage
        failed = [
            Failed(id=stage.unit_id(row), stage=stage.name, input=described(row), reason=reason, attempts=spent)
            for row, reason in bad
        ]
        self.tally.failed[stage.name] += len(failed)
        return [], failed


def samples(lane: Lane, ledger: Ledger, folder: Path) -> Iterator[Row]:
    """A lane's samples as rows for rewards: those given, or those drawn; a row whose sample failed is not there."""
    if lane.generator is None:
        yield from lane.rows
        return
    ids = [lane.generator.unit_id(row) for row in lane.rows]
    drawn = ledger.get(ids)
    for row, id in zip(lane.rows, ids, strict=True):
        if id in drawn:
            yield replace(row, candidate=candidate(drawn[id], lane.generator, row.seed, folder))


def candidate(output: Output, generator: Stage, seed: int, folder: Path) -> Candidate:
    """A drawn sample as a candidate of a group."""
    media = None
    if "sha256" in output:
        sha256 = str(output["sha256"])
        media = Media(sha256=sha256, mime=str(output["mime"]), path=str(media_path(folder, sha256)))
    return Candidate(media=media, text=output.get("text"), model=generator.name, seed=seed, settings=_settings(output))


def _settings(output: Output) -> Mapping[str, Any]:
    return {k: v for k, v in output.items() if k not in ("sha256", "mime", "text")}


def _present(output: Output, folder: Path) -> bool:
    return "sha256" not in output or media_path(folder, str(output["sha256"])).is_file()


def described(row: Row) -> str:
    """A row in words, for the ledger and the report of failures."""
    what = {"seed": row.seed} if row.candidate is None else {"sample": row.candidate.id[:16]}
    return json.dumps({"prompt": row.prompt, **what}, ensure_ascii=False)
