"""GRPO over the tokens of the batch: TRL's loss type "bnpo".

    loss = sum over all tokens of GRPO's loss / number of tokens

Every token weighs the same, where GRPO gives every *sample* the same weight and so a token of a long answer less. With
one clip it is `DAPO`.

Where we differ: the tokens are those of everything collected together, if that is known (`Statistics.steps`); TRL's
"bnpo" counts those of its micro-batch, so that its gradient depends on how the batch is cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from penchant.objectives.advantages import Advantage, GroupRelative
from penchant.objectives.composed import declare
from penchant.objectives.grpo import GRPO
from penchant.objectives.ratios import Estimator, kl_needs
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class BNPO(Objective):
    """GRPO whose loss is the mean over tokens.

    Args:
        advantage: how rewards become advantages.
        clip_low: the ratio is held above 1 - clip_low.
        clip_high: the ratio is held below 1 + clip_high.
        beta: weight of the KL term; 0 reads no reference.
        kl: its estimator.
    """

    needs: ClassVar[Needs] = Needs(scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("shao2024deepseekmath",)

    advantage: Advantage = field(default_factory=GroupRelative)
    clip_low: float = 0.2
    clip_high: float = 0.2
    beta: float = 0.0
    kl: Estimator = "k3"

    def __post_init__(self) -> None:
        declare(self, kl_needs(self.beta, self.kl, self.advantage.min_candidates))

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        return GRPO(
            advantage=self.advantage,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            normaliser="batch",
            beta=self.beta,
            kl=self.kl,
        )(inputs)
