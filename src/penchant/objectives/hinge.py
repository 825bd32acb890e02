"""Hinge loss on the DPO logit (SLiC-HF, Zhao et al., 2305.10425; in this form RSO, Liu et al., 2309.06657).

    loss = max(0, 1 - beta * [ (log pi_w - log ref_w) - (log pi_l - log ref_l) ])

Where we differ: groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.divergences import Divergence, ReverseKL
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class Hinge(Objective):
    """A margin of one logit, then no push at all.

    Args:
        beta: temperature, as in `DPO`.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
        divergence: what keeps the policy near its reference, as in `DPO`.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("zhao2023slichf", "liu2024rso")

    beta: float = 5000.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0
    divergence: Divergence = field(default_factory=ReverseKL)

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        reward_BK = self.beta * self.divergence(read.log_ratio(inputs))
        return pair_loss(inputs, reward_BK, _hinge, pairing=self.pairing, tie_credit=self.tie_credit)


def _hinge(won: Tensor, lost: Tensor) -> Tensor:
    return (1 - (won - lost)).relu()
