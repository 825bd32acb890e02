"""Geometric-Mean Policy Optimization (Zhao et al., arXiv 2507.20673).

    l_t = sgn(A) * min( sgn(A) log rho_t, sgn(A) clip(log rho_t, -low, high) )
    loss of a sample = - A * exp( mean_t l_t )

The geometric mean of a sample's ratios, each clipped by itself in log space: one wild token moves it less than it moves
GRPO's arithmetic mean, so that the clips can be wide. `GSPO` clips the mean instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from penchant.objectives.advantages import Advantage, GroupRelative, advantages
from penchant.objectives.composed import declare
from penchant.objectives.policy_gradient import policy_gradient
from penchant.objectives.ratios import Estimator, counted_steps, kl_needs, log_ratio_steps, raised
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class GMPO(Objective):
    """GRPO on the geometric mean of clipped token ratios.

    Args:
        advantage: how rewards become advantages.
        clip_low: a token's log-ratio is held above -clip_low; 0.4 in the paper.
        clip_high: and below clip_high; 0.4 there.
        beta: weight of a KL term, averaged over tokens.
        kl: its estimator.
    """

    needs: ClassVar[Needs] = Needs(scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("zhao2025gmpo", "shao2024deepseekmath")

    advantage: Advantage = field(default_factory=GroupRelative)
    clip_low: float = 0.4
    clip_high: float = 0.4
    beta: float = 0.0
    kl: Estimator = "k3"

    def __post_init__(self) -> None:
        if min(self.clip_low, self.clip_high) < 0:
            raise ValueError(f"clip_low {self.clip_low} and clip_high {self.clip_high} must be >= 0.")
        declare(self, kl_needs(self.beta, self.kl, self.advantage.min_candidates))

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        log_BKT = log_ratio_steps(inputs)
        count_BK1 = counted_steps(inputs).sum(-1, keepdim=True).clamp(min=1)

        def surrogate(logp_BKT: Tensor, ratio_BKT: Tensor, advantage_BK1: Tensor) -> tuple[Tensor, Tensor]:
            sign_BK1 = advantage_BK1.sign()
            held_BKT = log_BKT.clamp(-self.clip_low, self.clip_high)
            kept_BKT = sign_BK1 * torch.minimum(sign_BK1 * log_BKT, sign_BK1 * held_BKT)
            mean_BK1 = kept_BKT.sum(-1, keepdim=True) / count_BK1
            return -advantage_BK1 * raised(mean_BK1), sign_BK1 * (log_BKT - held_BKT) > 0

        return policy_gradient(inputs, surrogate, advantages(inputs, self.advantage), beta=self.beta, kl=self.kl)
