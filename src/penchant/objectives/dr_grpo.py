"""GRPO done right (Dr. GRPO: Liu et al., arXiv 2503.20783, section 3.2).

    A = r - mean of the group,   loss = sum over a sample's tokens of GRPO's loss / length

Two biases go: dividing by a sample's own length favours short right and long wrong answers, dividing by the group's
deviation favours prompts that are nearly always or nearly never solved.
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
class DrGRPO(Objective):
    """GRPO with one constant length and no deviation.

    Args:
        length: what every sample's sum over tokens is divided by: the longest completion allowed, 3000 in the authors'
            launcher. It scales the loss and nothing else.
        advantage: how rewards become advantages; the paper's are not scaled.
        clip_low: the ratio is held above 1 - clip_low.
        clip_high: the ratio is held below 1 + clip_high.
        beta: weight of the KL term; 0 in the authors' code.
        kl: its estimator.
    """

    needs: ClassVar[Needs] = Needs(scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("liu2025drgrpo", "shao2024deepseekmath")

    length: float = 3000.0
    advantage: Advantage = field(default_factory=lambda: GroupRelative(scale="none"))
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
            normaliser="constant",
            length=self.length,
            beta=self.beta,
            kl=self.kl,
        )(inputs)
