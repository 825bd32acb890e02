"""Length-desensitised DPO (LD-DPO, Liu et al., arXiv 2409.06411).

    log p(y) = sum over t <= n of log p(y_t) + alpha * sum over t > n of log p(y_t),    n = min(|y_w|, |y_l|)

DPO in which what the longer answer says beyond the length of the shorter one counts for less. alpha = 1 is DPO,
alpha = 0 looks at the shared length alone.

Where we differ: groups of more than two candidates give the mean over all strictly ordered pairs, each with the length
that the two share; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from penchant.objectives import inputs as read
from penchant.objectives.dpo import smoothed
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class LDDPO(Objective):
    """DPO whose reward of a candidate depends on how long its opponent is.

    Args:
        beta: temperature, in the unit of `DPO`; 0.1 for text (TRL).
        alpha: what a token beyond the shared length weighs.
        label_smoothing: share of labels believed to be flipped.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True, density=frozenset({"exact"}))
    cite: ClassVar[tuple[str, ...]] = ("liu2024lddpo", "rafailov2023dpo")

    beta: float = 0.1
    alpha: float = 0.5
    label_smoothing: float = 0.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        step_BKT, mask_BKT = read.step_log_ratio(inputs), inputs.policy.mask_BKT
        place_BKT, length_BK = mask_BKT.cumsum(-1), mask_BKT.sum(-1)
        beyond_BKKT = place_BKT[:, :, None] > length_BK[:, None, :, None]
        tail_BKK = torch.where(beyond_BKKT, step_BKT[:, :, None], 0).sum(-1)
        reward_BKK = self.beta * (step_BKT.sum(-1)[:, :, None] - (1 - self.alpha) * tail_BKK)
        loss = smoothed(self.label_smoothing)
        return pair_loss(inputs, reward_BKK, loss, pairing=self.pairing, tie_credit=self.tie_credit)
