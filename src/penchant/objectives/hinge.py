"""Hinge loss on the DPO logit (SLiC-HF, Zhao et al., 2305.10425; in this form RSO, Liu et al., 2309.06657).

    loss = max(0, 1 - beta * [ (log pi_w - log ref_w) - (log pi_l - log ref_l) ])

Where we differ: groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penchant.objectives import inputs as read
from penchant.objectives.metrics import pair_metrics
from penchant.objectives.pairs import Pairing, margins, pair_weights
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class Hinge(Objective):
    """A margin of one logit, then no push at all.

    Args:
        beta: temperature, as in `DPO`.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("zhao2023slichf", "liu2024rso")

    beta: float = 5000.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        reward_BK = self.beta * read.log_ratio(inputs)
        weight_BKK = pair_weights(
            inputs.scores_BK, inputs.mask_BK, pairing=self.pairing, tie_credit=self.tie_credit, dtype=reward_BK.dtype
        )
        logit_BKK = margins(reward_BK, weight_BKK)
        loss_BKK = (1 - logit_BKK).relu()
        factor_BKK = (logit_BKK < 1).to(logit_BKK.dtype)
        metrics = pair_metrics(inputs, reward_BK, factor_BKK=factor_BKK, weight_BKK=weight_BKK)
        return ObjectiveOutput(loss_B=(weight_BKK * loss_BKK).sum((-1, -2)), metrics=metrics)
