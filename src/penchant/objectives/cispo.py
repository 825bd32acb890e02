"""Clipped importance-sampling weights (CISPO: MiniMax-M1, arXiv 2506.13585, eq. 4-5).

    loss = - sg[ min(rho, ceiling) ] * A * log pi,     averaged over all tokens

PPO's clip takes a token out of the gradient once its ratio is too large; here the *weight* is held and every token
keeps its gradient, also the rare ones that turn an argument around.

Where we differ: as TRL, only the upper side is held, by the ceiling itself (5 in ScaleRL, arXiv 2510.13786), not by
1 + epsilon.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from penchant.objectives.advantages import Advantage, GroupRelative, advantages
from penchant.objectives.composed import declare
from penchant.objectives.policy_gradient import Normaliser, policy_gradient
from penchant.objectives.ratios import Estimator, kl_needs
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class CISPO(Objective):
    """REINFORCE on every token, weighted by its held importance ratio.

    Args:
        advantage: how rewards become advantages.
        ceiling: largest weight of a token.
        normaliser: "batch" in the paper and TRL.
        beta: weight of a KL term; the paper has none.
        kl: its estimator.
    """

    needs: ClassVar[Needs] = Needs(scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("minimax2025m1", "shao2024deepseekmath")

    advantage: Advantage = field(default_factory=GroupRelative)
    ceiling: float = 5.0
    normaliser: Normaliser = "batch"
    beta: float = 0.0
    kl: Estimator = "k3"

    def __post_init__(self) -> None:
        if self.ceiling <= 0:
            raise ValueError(f"ceiling {self.ceiling} must be > 0: it is the largest weight of a token.")
        declare(self, kl_needs(self.beta, self.kl, self.advantage.min_candidates))

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def surrogate(logp_BKT: Tensor, ratio_BKT: Tensor, advantage_BK1: Tensor) -> tuple[Tensor, Tensor]:
            weight_BKT = ratio_BKT.detach().clamp(max=self.ceiling)
            return -weight_BKT * advantage_BK1 * logp_BKT, ratio_BKT > self.ceiling

        return policy_gradient(
            inputs,
            surrogate,
            advantages(inputs, self.advantage),
            normaliser=self.normaliser,
            beta=self.beta,
            kl=self.kl,
        )
