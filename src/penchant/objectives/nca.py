"""Noise Contrastive Alignment on pairs (Chen et al., arXiv 2402.05369), for binary labels.

    r = beta * (log pi - log ref)
    loss = -log sigmoid(r_w) - 1/2 * log sigmoid(-r_w) - 1/2 * log sigmoid(-r_l)

DPO raises a margin and lets both log-probs fall. Here the winner's reward has an optimum of its own, log 2, so that its
likelihood does not fall; the loser's goes down without end.

Where we differ: groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
The paper's form for K explicit rewards is another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from penchant.objectives import inputs as read
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class NCA(Objective):
    """Absolute likelihoods instead of a relative one.

    Args:
        beta: temperature, in the unit of `DPO`; 0.1 for text (TRL).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("chen2024nca",)

    beta: float = 0.1
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def loss(won: Tensor, lost: Tensor) -> Tensor:
            return softplus(-won) + (softplus(won) + softplus(lost)) / 2

        reward_BK = self.beta * read.log_ratio(inputs)
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)
