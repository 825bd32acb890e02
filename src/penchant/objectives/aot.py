"""Alignment via Optimal Transport (AOT, Melnyk et al., arXiv 2406.05882).

    sorted over the batch:   paired    delta_i = [log pi_w - log pi_l]_(i) - [log ref_w - log ref_l]_(i)
                             unpaired  delta_i = [log pi_w - log ref_w]_(i) - [log pi_l - log ref_l]_(i)
    loss = (1 - e) * l(beta * delta_i) + e * l(-beta * delta_i),    l(z) = -log sigmoid(z)

Not each pair but the whole *distribution* of the winners is to lie above that of the losers, quantile by quantile
(stochastic dominance of first order): the i-th smallest is compared with the i-th smallest, whichever group it is from.

**The batch is part of the loss.** The quantiles are those of the micro-batch at hand on one process: in micro-batches
of one group it is DPO, and accumulated micro-batches are not the big batch. Leave `micro_batch` unset, and expect
another number of processes to give another loss.

Where we differ:

1. A group of more than two candidates enters with its best and its worst (the mean where several share an end), because
   quantiles want one value a group. Groups that order nothing take no part in the sorting.
2. A group's loss is that of the quantile at which its policy margin (unpaired: its winner) stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.dpo import smoothed
from penchant.objectives.metrics import pair_metrics
from penchant.objectives.paired import PairLoss
from penchant.objectives.pairs import pair_weights
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class AOT(Objective):
    """The distribution of the policy's margins above that of the reference's.

    Args:
        beta: temperature, in the unit of `DPO`; 0.1 in TRL.
        label_smoothing: share of labels believed to be flipped.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("melnyk2024aot",)

    beta: float = 0.1
    label_smoothing: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        (won_B, lost_B), ordered_B = _ends(inputs, read.log_prob(inputs))
        (reference_won_B, reference_lost_B), _ = _ends(inputs, read.reference_log_prob(inputs))
        loss = smoothed(self.label_smoothing)
        loss_B = _by_quantile(self.beta, loss, won_B - lost_B, reference_won_B - reference_lost_B, ordered_B)
        return ObjectiveOutput(loss_B=loss_B, metrics=pair_metrics(inputs, self.beta * read.log_ratio(inputs)))


@dataclass(frozen=True, kw_only=True)
class AOTUnpaired(Objective):
    """The distribution of the winners' log-ratios above that of the losers', whichever winner met which loser.

    Args:
        beta: temperature, in the unit of `DPO`; 0.1 in TRL.
        label_smoothing: share of labels believed to be flipped.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("melnyk2024aot",)

    beta: float = 0.1
    label_smoothing: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        ratio_BK = read.log_ratio(inputs)
        (won_B, lost_B), ordered_B = _ends(inputs, ratio_BK)
        loss_B = _by_quantile(self.beta, smoothed(self.label_smoothing), won_B, lost_B, ordered_B)
        return ObjectiveOutput(loss_B=loss_B, metrics=pair_metrics(inputs, self.beta * ratio_BK))


def _ends(inputs: ObjectiveInputs, value_BK: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """((best, worst) of each group, whether it has an order)."""
    weight_BKK = pair_weights(inputs.scores_BK, inputs.mask_BK, pairing="best_worst", dtype=value_BK.dtype)
    ends = (weight_BKK.sum(-1) * value_BK).sum(-1), (weight_BKK.sum(-2) * value_BK).sum(-1)
    return ends, weight_BKK.sum((-1, -2)) > 0


def _by_quantile(beta: float, loss: PairLoss, upper_B: Tensor, lower_B: Tensor, ordered_B: Tensor) -> Tensor:
    """The loss of each quantile of `upper_B` over the same quantile of `lower_B`, at the group that stands there."""
    place = ordered_B.nonzero()[:, 0]
    upper, order = upper_B[place].sort(stable=True)
    lower = lower_B[place].sort(stable=True).values
    return torch.zeros_like(upper_B).index_put((place[order],), loss(beta * upper, beta * lower))
