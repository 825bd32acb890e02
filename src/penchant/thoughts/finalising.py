"""Finalisation: a cut thought gets a natural end and its answer (DTO, arXiv 2505.21765).

The finalise pattern says that enough has been reasoned and closes the thought; of K full endings the shortest right one
is kept. K = 4 and the sampling are ours: the paper's values could not be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from penchant.errors import RecipeError
from penchant.models.completion import Decoding
from penchant.thoughts.exits import ExitRule
from penchant.thoughts.rollouts import Cut, Rollouts


@runtime_checkable
class Ending(Protocol):
    """How cut thoughts become whole traces."""

    def end(self, rollouts: Rollouts, cuts: Sequence[Cut], rule: ExitRule) -> list[str | None]:
        """The whole trace of every cut; None where no right one was found."""


@dataclass(frozen=True, kw_only=True)
class Finalising:
    """How a cut thought is ended: `samples` is K; of equally long right endings the first counts."""

    samples: int = 4
    max_tokens: int = 2048
    temperature: float = 0.6
    top_p: float = 0.95

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise RecipeError("an ending is one of at least one.", field="samples", remedy="use 1 or more.")

    def end(self, rollouts: Rollouts, cuts: Sequence[Cut], rule: ExitRule) -> list[str | None]:
        """The whole trace of every cut, its thought ended; None where no ending is right."""
        decoding = Decoding(max_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p)
        found = rollouts.finals(cuts, each=self.samples, decoding=decoding)
        return [_shortest(cut, endings, rollouts) for cut, endings in zip(cuts, found, strict=True)]


@dataclass(frozen=True, kw_only=True)
class ExitAnswer:
    """Without finalisation: the thought breaks off where it was cut, and an exit's first right answer follows at once.

    An ablation of ours. `closing` is what the thought's end and the answer `{}` look like in the model's traces.
    """

    closing: str

    def end(self, rollouts: Rollouts, cuts: Sequence[Cut], rule: ExitRule) -> list[str | None]:
        """The whole trace of every cut; None where no exit is right."""
        rows = [(i, n) for i in range(len(cuts)) for n in range(rule.samples)]
        decoding = rule.decoding(rollouts.format.exit_stop)
        answers = rollouts.exits([cuts[i] for i, _ in rows], [n for _, n in rows], decoding)
        ended: list[str | None] = [None] * len(cuts)
        for (i, _), (answer, right) in zip(rows, answers, strict=True):
            if right and ended[i] is None:
                ended[i] = cuts[i].thought + self.closing.format(answer)
        return ended


def _shortest(cut: Cut, endings: Sequence[tuple[str, bool]], rollouts: Rollouts) -> str | None:
    right = [cut.thought + text for text, ok in endings if ok]
    return min(right, key=rollouts.count) if right else None
