"""Rewards: stages that score samples with a judge, in the worker or in a server of its own environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from penchant.errors import RecipeError, nearest
from penchant.feedback.groups import Candidate
from penchant.synthesis.stages import Failure, Output, Row, Stage, Worker


@final
@dataclass(frozen=True, kw_only=True)
class Reward(Stage):
    """A judge that votes.

    Attributes:
        name: what the data set calls it.
        judge: address of `penchant.judges.load`; with `python`, FILE.py:NAME as the reward server reads it.
        dimension: which of the judge's dimensions votes; None means its first.
        python: interpreter of the virtual environment in which the judge runs as a server of its own.
        batch_size: samples scored by one call.
        timeout: seconds after which a batch counts as hanging.
        seconds: expected device seconds a sample, for `plan`.
    """

    name: str
    judge: str
    dimension: str | None = None
    python: str | None = None
    batch_size: int = 64
    timeout: float = 600.0
    seconds: float = 0.1

    version: ClassVar[int] = 1
    incidental: ClassVar[frozenset[str]] = Stage.incidental | {"python"}

    def addresses(self) -> tuple[str, ...]:
        """The judge's folder, or the file that a server runs."""
        return (self.judge.split("#")[0] if self.python is None else self.judge.rpartition(":")[0],)

    def load(self) -> Worker:
        """The loaded judge.

        Raises:
            RecipeError: the judge has no such dimension.
        """
        if self.python is not None:
            from penchant.judges.served import RewardServer, Served

            # One request a batch, given up before the batch is: the driver tries again, and the server tells why.
            server = RewardServer(
                reward=self.judge,
                python=self.python,
                timeout=0.8 * self.timeout,
                retries=0,
                batch_size=self.batch_size,
            )
            judge: Any = Served.start(server)
        else:
            from penchant.judges import load

            judge = load(self.judge)
        column = 0
        if self.dimension is not None:
            if self.dimension not in judge.dimensions:
                known = list(judge.dimensions)
                raise RecipeError(
                    f"{judge.name} has no '{self.dimension}'.",
                    field="dimension",
                    remedy=nearest(self.dimension, known),
                )
            column = judge.dimensions.index(self.dimension)
        return _Scorer(judge=judge, column=column)


@dataclass(kw_only=True)
class _Scorer(Worker):
    judge: Any = field(repr=False)
    column: int

    def run(self, rows: Sequence[Row], folder: Path) -> list[Output | Failure]:
        samples = [_sample(row.candidate) for row in rows]
        scores = np.asarray(self.judge.score([row.prompt for row in rows], samples), dtype=np.float64)
        return [self._output(row) for row in scores]

    def _output(self, scores_D: np.ndarray) -> Output | Failure:
        value = float(scores_D[self.column])
        if not np.isfinite(value):
            return Failure(reason=f"returned {value}")
        return {"value": value, "version": f"{self.judge.name}@{self.judge.version}"}

    def close(self) -> None:
        self.judge.close()


def _sample(candidate: Candidate | None) -> Any:
    from penchant.feedback.shown import sample_of

    assert candidate is not None
    return sample_of(candidate)
