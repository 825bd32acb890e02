"""Executors: where batches run. The driver asks what an executor has room for, submits, and waits for reports."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penchant.synthesis.stages import Failure, Output, Row, Stage, Worker


@dataclass(frozen=True, kw_only=True)
class Call:
    """One batch for one worker."""

    number: int
    stage: Stage
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of a call: one output or failure a row; or no outputs, and why.

    `lost` tells a worker that died, which need not be the batch's fault, from a call that raised or hung.
    """

    number: int
    outputs: tuple[Output | Failure, ...] | None = None
    reason: str = ""
    lost: bool = False
    seconds: float = 0.0


class Executor(ABC):
    """Runs calls in workers that may die."""

    @abstractmethod
    def free(self, wanted: Sequence[Stage]) -> Stage | None:
        """Which of the wanted stages a worker could begin now, if possible the one it has loaded; None: no room."""

    @abstractmethod
    def submit(self, call: Call) -> None:
        """Begins a call of a stage that `free` just named."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Report]:
        """Reports of calls that ended; waits at most so long for the first."""

    @abstractmethod
    def close(self) -> None:
        """Ends all workers."""


class Bench:
    """What a worker process keeps: the stage it works for, loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stage: Stage | None = None
        self._worker: Worker | None = None

    def load(self, call: Call) -> Report | None:
        """Loads a call's stage unless it is loaded; None, or why that failed."""
        if self._worker is not None and call.stage == self._stage:
            return None
        if self._worker is not None:
            self._worker.close()
        self._stage, self._worker = None, None
        try:
            self._worker, self._stage = call.stage.load(), call.stage
        # A reward is somebody else's code and may raise anything; the driver reports it by name.
        except Exception as error:
            return Report(number=call.number, reason=f"{type(error).__name__}: {error}")
        return None

    def run(self, call: Call) -> Report:
        """Runs a call of the loaded stage; whatever it raises becomes a report."""
        assert self._worker is not None
        started = time.monotonic()
        try:
            outputs = tuple(self._worker.run(call.rows, self.folder))
            if len(outputs) != len(call.rows):
                raise ValueError(f"{len(outputs)} outputs came back for {len(call.rows)} rows")
        except Exception as error:
            return Report(number=call.number, reason=f"{type(error).__name__}: {error}")
        return Report(number=call.number, outputs=outputs, seconds=time.monotonic() - started)
