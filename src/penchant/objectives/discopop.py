"""DiscoPOP, the loss that a language model discovered (Lu et al., arXiv 2406.08414, eq. 5).

    z = beta * [ (log pi_w - log ref_w) - (log pi_l - log ref_l) ],   m = sigmoid(z / tau)
    loss = (1 - m) * (-log sigmoid(z)) + m * exp(-z)

Logistic for pairs that stand wrong, exponential for those that stand right. It is not convex: where one goes over into
the other it rises with z, so that at the reference (z = 0) it pushes the *wrong* way until noise has parted the pairs.

Where we differ:

1. m * exp(-z) is one exponential here, so that a pair that stands far wrong costs no infinity times zero.
2. Groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from penchant.objectives import inputs as read
from penchant.objectives.divergences import Divergence, ReverseKL
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class DiscoPOP(Objective):
    """A blend of the logistic and the exponential loss by where the pair stands.

    Args:
        beta: temperature, in the unit of `DPO`; 0.1 for text (TRL).
        tau: width of the blend, in logits; 0.05 in the paper and TRL.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
        divergence: what keeps the policy near its reference, as in `DPO`.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("lu2024discopop",)

    beta: float = 0.1
    tau: float = 0.05
    pairing: Pairing = "all"
    tie_credit: float = 0.0
    divergence: Divergence = field(default_factory=ReverseKL)

    def __post_init__(self) -> None:
        if not 0 < self.tau < 1:
            raise ValueError(f"tau {self.tau} must lie in (0, 1): from 1 on the exponential outgrows its weight.")

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def loss(won: Tensor, lost: Tensor) -> Tensor:
            logit = won - lost
            logistic = torch.sigmoid(-logit / self.tau) * softplus(-logit)
            return logistic + torch.exp(logsigmoid(logit / self.tau) - logit)

        reward_BK = self.beta * self.divergence(read.log_ratio(inputs))
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)
