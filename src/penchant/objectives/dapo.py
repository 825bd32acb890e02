"""Decoupled clip, token-level policy gradient: the loss of DAPO (Yu et al., arXiv 2503.14476, eq. 8).

    loss = sum over all tokens of max(-A rho, -A clip(rho, 1 - 0.2, 1 + 0.28)) / number of tokens

Clip-higher lets unlikely tokens of good answers grow by more than the likely ones may, which keeps the entropy up; the
token-level mean lets long answers speak for their length. No KL term.

Where we differ: dynamic sampling, overlong filtering and the soft length punishment are rules of sampling and reward,
not of the loss; `advantages/silent` says how many groups dynamic sampling would have replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from penchant.objectives.advantages import Advantage, GroupRelative
from penchant.objectives.bnpo import BNPO
from penchant.objectives.composed import declare
from penchant.objectives.ratios import Estimator, kl_needs
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class DAPO(Objective):
    """GRPO with clip-higher and a loss averaged over tokens.

    Args:
        advantage: how rewards become advantages.
        clip_low: 0.2 in the paper, section 4.1.
        clip_high: 0.28 there.
        beta: weight of a KL term; the paper has none, TRL's "dapo" may.
        kl: its estimator.
    """

    needs: ClassVar[Needs] = Needs(scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("yu2025dapo", "shao2024deepseekmath")

    advantage: Advantage = field(default_factory=GroupRelative)
    clip_low: float = 0.2
    clip_high: float = 0.28
    beta: float = 0.0
    kl: Estimator = "k3"

    def __post_init__(self) -> None:
        declare(self, kl_needs(self.beta, self.kl, self.advantage.min_candidates))

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        return BNPO(
            advantage=self.advantage,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            beta=self.beta,
            kl=self.kl,
        )(inputs)
