"""Variational Sequence-Level Soft Policy Optimization (VESPO, arXiv 2602.10693).

    W = prod_t rho_t,   phi(W) = W^k * exp( lambda (1 - W) ),   loss = - sg[ phi(W) ] * A * log pi,  over all tokens

The importance weight of a whole sample, reshaped so that phi(1) = 1 and samples far from the policy on either side
fade: no clip and no division by the length. k and lambda go by the sign of the advantage.

Where we differ: as TRL, log W is held in [log 1e-8, 20].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from penchant.objectives.advantages import Advantage, GroupRelative, advantages
from penchant.objectives.composed import declare
from penchant.objectives.policy_gradient import policy_gradient
from penchant.objectives.ratios import LARGEST_LOG, Estimator, kl_needs, log_ratio_steps
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class VESPO(Objective):
    """REINFORCE on every token, weighted by a reshaped ratio of its whole sample.

    Args:
        advantage: how rewards become advantages.
        k_good: power of the ratio where the advantage is not negative.
        lambda_good: how fast large ratios fade there.
        k_bad: as `k_good`, for negative advantages.
        lambda_bad: as `lambda_good`, for negative advantages.
        beta: weight of a KL term.
        kl: its estimator.
    """

    needs: ClassVar[Needs] = Needs(scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("vespo2026", "shao2024deepseekmath")

    advantage: Advantage = field(default_factory=GroupRelative)
    k_good: float = 2.0
    lambda_good: float = 3.0
    k_bad: float = 3.0
    lambda_bad: float = 2.0
    beta: float = 0.0
    kl: Estimator = "k3"

    def __post_init__(self) -> None:
        declare(self, kl_needs(self.beta, self.kl, self.advantage.min_candidates))

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        log_BK1 = log_ratio_steps(inputs).detach().clamp(-LARGEST_LOG, LARGEST_LOG).sum(-1, keepdim=True)
        log_BK1 = log_BK1.clamp(math.log(1e-8), LARGEST_LOG)

        def surrogate(logp_BKT: Tensor, ratio_BKT: Tensor, advantage_BK1: Tensor) -> tuple[Tensor, None]:
            good_BK1 = advantage_BK1 >= 0
            k_BK1 = torch.where(good_BK1, self.k_good, self.k_bad).to(log_BK1.dtype)
            lambda_BK1 = torch.where(good_BK1, self.lambda_good, self.lambda_bad).to(log_BK1.dtype)
            weight_BK1 = (k_BK1 * log_BK1 + lambda_BK1 * (1 - log_BK1.exp())).exp()
            return -weight_BK1 * advantage_BK1 * logp_BKT, None

        return policy_gradient(
            inputs, surrogate, advantages(inputs, self.advantage), normaliser="batch", beta=self.beta, kl=self.kl
        )
