"""What DPO and its kin share: the loss of a pair, averaged over the ordered pairs of a group.

Shape legend: B groups, K candidates; in `_BKK` the first K is the preferred candidate, the second the other one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.objectives.metrics import pair_metrics
from penchant.objectives.pairs import Pairing, pair_weights, sides
from penchant.types import ObjectiveInputs, ObjectiveOutput

PairLoss = Callable[[Tensor, Tensor], Tensor]


def pair_loss(
    inputs: ObjectiveInputs,
    reward: Float[Tensor, "B K"] | Float[Tensor, "B K K"],
    loss: PairLoss,
    *,
    pairing: Pairing,
    tie_credit: float = 0.0,
    winner_BK: Float[Tensor, "B K"] | None = None,
    unit: float = 1.0,
) -> ObjectiveOutput:
    """The mean of `loss(won, lost)` over each group's ordered pairs, with the usual metrics.

    Args:
        inputs: scores and mask say which candidate won.
        reward: of every candidate [B, K], or of every candidate against every other [B, K, K].
        loss: elementwise, of the rewards of the preferred and the other candidate; finite at (0, 0).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
        winner_BK: what a candidate costs in every pair that it wins, for objectives that also imitate the winner.
        unit: the slope that the metric `gradient_factor` calls 1, for losses that are not of a logit.
    """
    weight_BKK = pair_weights(
        inputs.scores_BK, inputs.mask_BK, pairing=pairing, tie_credit=tie_credit, dtype=reward.dtype
    )
    won_BKK, lost_BKK = sides(reward, weight_BKK)
    loss_B = (weight_BKK * loss(won_BKK, lost_BKK)).sum((-1, -2))
    if winner_BK is not None:
        loss_B = loss_B + (weight_BKK.sum(-1) * winner_BK).sum(-1)
    factor_BKK = _slope(loss, won_BKK, lost_BKK) / unit
    return ObjectiveOutput(
        loss_B=loss_B, metrics=pair_metrics(inputs, reward, factor_BKK=factor_BKK, weight_BKK=weight_BKK)
    )


def _slope(loss: PairLoss, won_BKK: Tensor, lost_BKK: Tensor) -> Tensor:
    """How hard each pair pushes: mean absolute slope in its two rewards; |d loss / d logit| for a loss of a logit."""
    with torch.enable_grad():
        won, lost = won_BKK.detach().requires_grad_(), lost_BKK.detach().requires_grad_()
        up, down = torch.autograd.grad(loss(won, lost).sum(), (won, lost))
    return (up.abs() + down.abs()) / 2
