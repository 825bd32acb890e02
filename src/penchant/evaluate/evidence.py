"""One row of evidence: what one judge says of one policy on one set of captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike

from penchant.evaluate.winrate import MeanGain, WinRate, mean_gain, win_rate

Role = Literal["trained against", "held out"]
Captions = Literal["seen", "held-out"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A judge's win rate and mean gain for a policy.

    `role` says whether the policy's training saw this judge's opinion (its labels or rewards came from it), `captions`
    whether the prompts were among the training prompts. Only "held out" on "held-out" speaks for the policy.
    """

    policy: str
    judge: str
    role: Role
    captions: Captions
    win: WinRate
    gain: MeanGain

    @property
    def independent(self) -> bool:
        """Neither the judge nor the captions took part in training."""
        return self.role == "held out" and self.captions == "held-out"


def measure(
    policy_scores: ArrayLike,
    base_scores: ArrayLike,
    *,
    policy: str,
    judge: str,
    role: Role,
    captions: Captions,
    tie_margin: float = 0.0,
    seed: int = 0,
) -> Evidence:
    """The evidence row of one judge.

    Args:
        policy_scores: scores [P, S] or [R, P, S], larger = better.
        base_scores: scores of the base, of the same shape, or [P, S] shared by all R runs.
        policy: the policy's name in the report.
        judge: the judge's name in the report.
        role: whether the policy was trained against this judge.
        captions: whether the prompts were seen in training.
        tie_margin: score differences up to this are ties.
        seed: key of the resampling.

    Raises:
        PenchantError: as `penchant.evaluate.winrate.outcomes`.
    """
    return Evidence(
        policy=policy,
        judge=judge,
        role=role,
        captions=captions,
        win=win_rate(policy_scores, base_scores, tie_margin=tie_margin, seed=seed),
        gain=mean_gain(policy_scores, base_scores, seed=seed),
    )
