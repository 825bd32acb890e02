"""Length-normalised DPO (Tulu 3, Lambert et al., arXiv 2411.15124).

    loss = -log sigmoid( beta * [ (log pi_w - log ref_w) / |y_w| - (log pi_l - log ref_l) / |y_l| ] )

DPO on log-ratios per token, so that length is no reward. On a denoising bound it is DPO.

Where we differ: groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from penchant.objectives import inputs as read
from penchant.objectives.divergences import Divergence, ReverseKL
from penchant.objectives.dpo import smoothed
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class LengthNormalisedDPO(Objective):
    """DPO that counts per token.

    Args:
        beta: temperature of log-ratios per token; 5 in Tulu 3.
        label_smoothing: share of labels believed to be flipped.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
        divergence: what keeps the policy near its reference, as in `DPO`; its reward is divided by the length.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("lambert2024tulu3", "rafailov2023dpo")

    beta: float = 5.0
    label_smoothing: float = 0.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0
    divergence: Divergence = field(default_factory=ReverseKL)

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        reward_BK = self.beta * read.per_step(self.divergence(read.log_ratio(inputs)), inputs)
        loss = smoothed(self.label_smoothing)
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)
