"""Efficient Exact Optimization on pairs (Ji et al., arXiv 2402.00856, eq. 16).

    q = sigmoid( beta * [ (log pi_w - log ref_w) - (log pi_l - log ref_l) ] ),   p = 1 - label_smoothing
    loss = KL( q || p ) = q * log(q / p) + (1 - q) * log((1 - q) / (1 - p))

The *reverse* KL divergence between the policy's preference and the label's; DPO with label smoothing minimises the
forward one. Zero where q is p.

Where we differ: groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from penchant.objectives import inputs as read
from penchant.objectives.divergences import Divergence, ReverseKL
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class EXO(Objective):
    """Matches the policy's preference to the label's, looking for its mode.

    Args:
        beta: temperature, in the unit of `DPO`; 0.1 for text (TRL).
        label_smoothing: how sure the label is not; above 0, because a sure label is infinitely far. 0.001 in TRL.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
        divergence: what keeps the policy near its reference, as in `DPO`.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("ji2024exo",)

    beta: float = 0.1
    label_smoothing: float = 1e-3
    pairing: Pairing = "all"
    tie_credit: float = 0.0
    divergence: Divergence = field(default_factory=ReverseKL)

    def __post_init__(self) -> None:
        if not 0 < self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing {self.label_smoothing} must lie in (0, 0.5): a sure label has no log.")

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        e = self.label_smoothing

        def loss(won: Tensor, lost: Tensor) -> Tensor:
            logit = won - lost
            right = torch.sigmoid(logit) * (logsigmoid(logit) - math.log1p(-e))
            return right + torch.sigmoid(-logit) * (logsigmoid(-logit) - math.log(e))

        reward_BK = self.beta * self.divergence(read.log_ratio(inputs))
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)
