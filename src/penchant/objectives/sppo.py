"""Self-Play Preference Optimization with hard labels (Wu et al., arXiv 2405.00675, eq. 4.7 with P in {0, 1}).

    loss = (log pi_w - log ref_w - 1 / (2 beta))^2 + (log pi_l - log ref_l + 1 / (2 beta))^2

A regression of each log-ratio by itself: up by a step for what wins, down by a step for what loses, and no further. The
reference is the last iterate. eta of the paper is 1 / beta.

Where we differ: groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class SPPO(Objective):
    """Two regressions: the winner to +1/(2 beta), the loser to -1/(2 beta).

    Args:
        beta: temperature, in the unit of `DPO`; 0.1 for text (TRL).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("wu2024sppo",)

    beta: float = 0.1
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def loss(won: Tensor, lost: Tensor) -> Tensor:
            return ((won - 0.5) / self.beta).square() + ((lost + 0.5) / self.beta).square()

        reward_BK = self.beta * read.log_ratio(inputs)
        # Relative to a start at the reference, as in `IPO`.
        unit = 1 / self.beta**2
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit, unit=unit)
