"""Group Sequence Policy Optimization (Zheng et al., arXiv 2507.18071, eq. 5-7), and without its length bias.

    s = (prod_t rho_t)^(1/n),   loss of a sample = max(-A s, -A clip(s, 1 - 3e-4, 1 + 4e-4))

The reward is a sequence's, so is the ratio that is clipped: a sample counts whole or not at all. The geometric mean
keeps ratios of long samples comparable; it is much closer to 1 than a token's, hence the small clips. At T = 1 this is
GRPO.

Its variant GSPO-token lets advantages differ by token; with one advantage a sample, as here, it has the same value and
the same gradient (eq. 18), so it is no object of its own.

LUSPO (Length-Unbiased Sequence Policy Optimization, arXiv 2602.05261) multiplies a sample's loss by its length: the
geometric mean divides the gradient of a long sample by its length, and this takes it back.
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
class GSPO(Objective):
    """GRPO on the geometric mean of a sequence's ratios.

    Args:
        advantage: how rewards become advantages.
        clip_low: 3e-4 in the paper, section 5.1.
        clip_high: 4e-4 there.
        beta: weight of a KL term, averaged over tokens; the paper has none.
        kl: its estimator.
    """

    needs: ClassVar[Needs] = Needs(scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("zheng2025gspo", "shao2024deepseekmath")

    advantage: Advantage = field(default_factory=GroupRelative)
    clip_low: float = 3e-4
    clip_high: float = 4e-4
    beta: float = 0.0
    kl: Estimator = "k3"

    def __post_init__(self) -> None:
        declare(self, kl_needs(self.beta, self.kl, self.advantage.min_candidates))

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        return GRPO(
            advantage=self.advantage,
            level="sequence",
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            beta=self.beta,
            kl=self.kl,
        )(inputs)


@dataclass(frozen=True, kw_only=True)
class LUSPO(Objective):
    """GSPO with every sample's loss times its number of tokens.

    Args:
        advantage: how rewards become advantages.
        clip_low: as in `GSPO`.
        clip_high: as in `GSPO`.
        beta: weight of a KL term, summed over tokens.
        kl: its estimator.
    """

    needs: ClassVar[Needs] = Needs(scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("luspo2026", "zheng2025gspo", "shao2024deepseekmath")

    advantage: Advantage = field(default_factory=GroupRelative)
    clip_low: float = 3e-4
    clip_high: float = 4e-4
    beta: float = 0.0
    kl: Estimator = "k3"

    def __post_init__(self) -> None:
        declare(self, kl_needs(self.beta, self.kl, self.advantage.min_candidates))

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        return GRPO(
            advantage=self.advantage,
            level="sequence",
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            normaliser="constant",
            length=1.0,
            beta=self.beta,
            kl=self.kl,
        )(inputs)
