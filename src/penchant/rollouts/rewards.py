"""What samples earn: judges' scores, rescaled, weighed, gated and added.

Shapes: N samples, R rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from penchant.errors import RecipeError
from penchant.recipe import RewardTerm, Rollouts


@dataclass(frozen=True, kw_only=True, eq=False)
class Earned:
    """What N samples earned.

    Attributes:
        total_N: the reward that the objective reads.
        terms_NR: the judges' own scores, in the judges' own units, by reward.
        names: of the rewards.
    """

    total_N: Float[np.ndarray, " N"]
    terms_NR: Float[np.ndarray, "N R"]
    names: tuple[str, ...]


class Purse:
    """The judges of a recipe's rewards, loaded once.

    Raises:
        RecipeError: a judge has several dimensions and none is named.
        ModelError: there is no such judge.
    """

    def __init__(self, feedback: Rollouts) -> None:
        from penchant.judges import load

        self.feedback = feedback
        self.judges: list[Any] = []
        for reward in feedback.rewards:
            judge = load(reward.judge)
            if len(judge.dimensions) > 1:
                raise RecipeError(
                    f"{reward.judge} scores {', '.join(judge.dimensions)}.",
                    field="feedback.rewards",
                    remedy=f"name one, such as '{reward.judge}#{judge.dimensions[0]}'.",
                )
            self.judges.append(judge)
        self.names = _names(feedback.rewards)

    def scores(self, prompts: Sequence[str], samples: Sequence[Any]) -> Float[np.ndarray, "N R"]:
        """What each judge says of samples, one prompt each, in the judge's own units.

        Raises:
            RecipeError: a score is not a number.
        """
        columns = [np.asarray(judge.score(prompts, samples), dtype=np.float64)[:, 0] for judge in self.judges]
        for name, column in zip(self.names, columns, strict=True):
            if not np.isfinite(column).all():
                row = int(np.flatnonzero(~np.isfinite(column))[0])
                raise RecipeError(
                    f"{name} gave {column[row]} to a sample.", field="feedback.rewards", remedy="mend the judge."
                )
        return np.stack(columns, -1)

    def earned(self, terms_NR: Float[np.ndarray, "N R"], finished_N: Bool[np.ndarray, " N"]) -> Earned:
        """The rewards of a whole round."""
        rewards = self.feedback.rewards
        parts = [_rescaled(column, reward) for column, reward in zip(terms_NR.T, rewards, strict=True)]
        if self.feedback.whiten:
            parts = [_whitened(part) for part in parts]
        total_N = sum(reward.weight * part for reward, part in zip(rewards, parts, strict=True))
        assert isinstance(total_N, np.ndarray)
        if self.feedback.unfinished == "lowest":
            total_N = np.where(finished_N, total_N, total_N.min())
        return Earned(total_N=total_N, terms_NR=terms_NR, names=self.names)


def _names(rewards: Sequence[RewardTerm]) -> tuple[str, ...]:
    """What metrics call the rewards: the last part of an address, or all of it where two end alike."""
    short = [r.judge.removeprefix("zoo:").rstrip("/").rsplit("/", 1)[-1] for r in rewards]
    return tuple(r.judge if short.count(s) > 1 else s for r, s in zip(rewards, short, strict=True))


def _rescaled(score_N: np.ndarray, reward: RewardTerm) -> np.ndarray:
    found = (score_N - reward.low) / (reward.high - reward.low)
    return found.clip(0, 1) if reward.clip else found


def _whitened(part_N: np.ndarray) -> np.ndarray:
    deviation = part_N.std()
    return (part_N - part_N.mean()) / deviation if deviation > 0 else part_N - part_N.mean()
