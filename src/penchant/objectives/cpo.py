"""Contrastive Preference Optimization, without a reference model (Xu et al., arXiv 2401.08417).

    loss = -log sigmoid( beta * (log pi_w - log pi_l) ) - nll_weight * (log pi_w) / |y_w|

DPO with a uniform reference, plus imitation of the winner. TRL's hinge and IPO forms are compositions here:
`Mixture(parts=((ReferenceFree(objective=Hinge(beta=0.1)), 1.0), (SFT(reduce="mean"), 1.0)))`.

Where we differ:

1. The imitation is a mean over each winner's tokens, then over groups; TRL averages over all tokens of the batch, so
   that long answers weigh more and the batch matters.
2. Groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penchant.objectives import inputs as read
from penchant.objectives.dpo import smoothed
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class CPO(Objective):
    """The sigmoid loss on log-probs themselves, and maximum likelihood of the winner.

    Args:
        beta: temperature; 0.1 in the paper and TRL.
        label_smoothing: share of labels believed to be flipped.
        nll_weight: weight of the winner's negative log-prob per token (TRL's cpo_alpha).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs()
    cite: ClassVar[tuple[str, ...]] = ("xu2024cpo",)

    beta: float = 0.1
    label_smoothing: float = 0.0
    nll_weight: float = 1.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        return pair_loss(
            inputs,
            self.beta * read.log_prob(inputs),
            smoothed(self.label_smoothing),
            pairing=self.pairing,
            tie_credit=self.tie_credit,
            winner_BK=-self.nll_weight * read.log_prob(inputs, "mean"),
        )
