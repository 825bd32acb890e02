"""Soft Adaptive Policy Optimization (SAPO: Gao et al., arXiv 2511.20347).

    loss = - A * (4 / tau) * sigmoid( tau (rho - 1) ),     tau by the sign of A

A soft gate in place of PPO's clip: the gradient with respect to log rho is that of A rho at rho = 1 and fades on both
sides. Negative advantages, which raise all the other tokens, fade sooner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from penchant.objectives.advantages import Advantage, GroupRelative, advantages
from penchant.objectives.composed import declare
from penchant.objectives.policy_gradient import policy_gradient
from penchant.objectives.ratios import Estimator, kl_needs
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class SAPO(Objective):
    """GRPO with a sigmoid gate on the ratio.

    Args:
        advantage: how rewards become advantages.
        tau_good: how fast the gate closes for positive advantages; 1 in the paper.
        tau_bad: for the others; 1.05 there.
        beta: weight of a KL term; the paper has none.
        kl: its estimator.
    """

    needs: ClassVar[Needs] = Needs(scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("gao2025sapo", "shao2024deepseekmath")

    advantage: Advantage = field(default_factory=GroupRelative)
    tau_good: float = 1.0
    tau_bad: float = 1.05
    beta: float = 0.0
    kl: Estimator = "k3"

    def __post_init__(self) -> None:
        if min(self.tau_good, self.tau_bad) <= 0:
            raise ValueError(f"tau_good {self.tau_good} and tau_bad {self.tau_bad} must be > 0.")
        declare(self, kl_needs(self.beta, self.kl, self.advantage.min_candidates))

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def surrogate(logp_BKT: Tensor, ratio_BKT: Tensor, advantage_BK1: Tensor) -> tuple[Tensor, None]:
            tau_BK1 = torch.where(advantage_BK1 > 0, self.tau_good, self.tau_bad).to(ratio_BKT.dtype)
            gate_BKT = 4 / tau_BK1 * torch.sigmoid(tau_BK1 * (ratio_BKT - 1))
            return -advantage_BK1 * gate_BKT, None

        return policy_gradient(inputs, surrogate, advantages(inputs, self.advantage), beta=self.beta, kl=self.kl)
