"""Stages of a user: text in place of pictures, so that faults and timing can be told apart from models."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from penchant.synthesis import Failure, Row, Stage, Worker
from penchant.synthesis.stages import Output


@dataclass(frozen=True, kw_only=True)
class Words(Stage):
    """Draws a text of the prompt and its seed; every call is written to `log`."""

    name: str = "words"
    log: str | None = None
    pause: float = 0.0
    style: str = "plain"
    seeded: bool = True
    batch_size: int = 4
    timeout: float = 30.0
    seconds: float = 0.01
    incidental: ClassVar[frozenset[str]] = Stage.incidental | {"log", "pause"}

    def load(self) -> Worker:
        return _Talker(stage=self)


@dataclass(kw_only=True)
class _Talker(Worker):
    stage: Words

    def run(self, rows: Sequence[Row], folder: Path) -> list[Output | Failure]:
        _note(self.stage.log, self.stage.name, [row.prompt for row in rows])
        time.sleep(self.stage.pause)
        return [{"text": f"{row.prompt} {self.stage.style} {row.seed if self.stage.seeded else 10}"} for row in rows]


@dataclass(frozen=True, kw_only=True)
class Digits(Stage):
    """Scores a text by one of its digits. `fault` happens to the prompts that contain "bad", at most `times` times."""

    name: str = "digits"
    place: int = 1
    log: str | None = None
    pause: float = 0.0
    fault: Literal["none", "raise", "hang", "nan", "die"] = "none"
    times: int = 1000
    batch_size: int = 4
    timeout: float = 30.0
    seconds: float = 0.01
    incidental: ClassVar[frozenset[str]] = Stage.incidental | {"log", "pause", "fault", "times"}

    def load(self) -> Worker:
        return _Counter(stage=self)


@dataclass(kw_only=True)
class _Counter(Worker):
    stage: Digits

    def run(self, rows: Sequence[Row], folder: Path) -> list[Output | Failure]:
        bad = [row for row in rows if "bad" in row.prompt]
        past = _note(self.stage.log, self.stage.name, [row.prompt for row in rows])
        time.sleep(self.stage.pause)
        if bad and past <= self.stage.times:
            if self.stage.fault == "raise":
                raise RuntimeError("a reward of somebody else broke")
            if self.stage.fault == "hang":
                time.sleep(3600)
            if self.stage.fault == "die":
                os._exit(9)
        outputs: list[Output | Failure] = []
        for row in rows:
            assert row.candidate is not None
            assert row.candidate.text is not None
            if row in bad and self.stage.fault == "nan" and past <= self.stage.times:
                outputs.append(Failure(reason="returned nan"))
            else:
                outputs.append({"value": float(row.candidate.text[-self.stage.place]), "version": "digits@1"})
        return outputs


def _note(log: str | None, stage: str, prompts: Sequence[str]) -> int:
    """Appends a line to the log; returns how many lines of this stage had a bad prompt so far."""
    if log is None:
        return 0
    with open(log, "a") as file:
        file.write(f"{stage}\t{'|'.join(prompts)}\n")
    lines = Path(log).read_text().splitlines()
    return sum(1 for line in lines if line.startswith(f"{stage}\t") and "bad" in line)
