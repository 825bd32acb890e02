"""Binary Classifier Optimization on pairs (Jung et al., arXiv 2404.04656), without its reward shift.

    r = beta * (log pi - log ref)
    loss = -log sigmoid(r_w) - log sigmoid(-r_l)

A classifier of good against bad whose logit is the implicit reward; an upper bound of the DPO loss.

Where we differ:

1. The paper shifts both rewards by a running mean over the steps before. A loss of log-probs has no memory; this is the
   form of TRL's `bco_pair`, with the shift at zero.
2. Groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
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
class BCO(Objective):
    """Each reward by itself: above zero for the winner, below zero for the loser.

    Args:
        beta: temperature, in the unit of `DPO`; 0.1 for text (TRL).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("jung2024bco",)

    beta: float = 0.1
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def loss(won: Tensor, lost: Tensor) -> Tensor:
            return softplus(-won) + softplus(lost)

        reward_BK = self.beta * read.log_ratio(inputs)
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)
