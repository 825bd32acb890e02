"""Anchored Preference Optimization on pairs (D'Oosterlinck et al., arXiv 2408.06266, eq. 7 and 8).

    r = beta * (log pi - log ref)
    zero:  loss = sigmoid(-r_w) + sigmoid(r_l)             winner up, loser down
    down:  loss = sigmoid(r_w) + sigmoid(r_l - r_w)        both down, the loser further

`APOZero` where the winners are better than what the model writes by itself, `APODown` where they are worse. Unpaired
feedback: `APOZeroUnpaired`.

Where we differ: groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class APOZero(Objective):
    """Makes the winner likelier and the loser less likely than the reference has them.

    Args:
        beta: temperature, in the unit of `DPO`; 0.1 for text (TRL).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("doosterlinck2024apo",)

    beta: float = 0.1
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def loss(won: Tensor, lost: Tensor) -> Tensor:
            return torch.sigmoid(-won) + torch.sigmoid(lost)

        reward_BK = self.beta * read.log_ratio(inputs)
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)


@dataclass(frozen=True, kw_only=True)
class APODown(Objective):
    """Makes both less likely than the reference has them, and the loser more so.

    Args:
        beta: temperature, in the unit of `DPO`; 0.1 for text (TRL).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("doosterlinck2024apo",)

    beta: float = 0.1
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def loss(won: Tensor, lost: Tensor) -> Tensor:
            return torch.sigmoid(won) + torch.sigmoid(lost - won)

        reward_BK = self.beta * read.log_ratio(inputs)
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)
