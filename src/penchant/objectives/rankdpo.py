"""RankDPO: direct preference optimization from whole rankings (Karthik et al., arXiv 2410.18013, eq. 5-7).

    G_i = 2^phi_i - 1        gain of candidate i; phi_i in [0, 1] is its share of votes won
    D(tau) = log(1 + tau)    discount of its rank tau_i by the *true* scores phi, best = 1
    Delta_ij = |G_i - G_j| * |1 / D(tau_i) - 1 / D(tau_j)|                       no gradient
    loss = - sum over pairs with i preferred to j of Delta_ij * log sigmoid( beta * (d_i - d_j) )

with d = log pi - log ref. On a denoising bound d_i = -s_i / 2 for the paper's s_i, so beta is twice that of its eq. 7.
For K = 2 it is DPO times |G_1 - G_2| * (1 / log 2 - 1 / log 3).

What the paper leaves open, and what we take:

1. The base of the logarithm is not given; it only scales Delta. Natural here, `log_base=2` for the textbook DCG.
2. Tied candidates have no rank of their own. Each gets the mean of 1 / D over the places they share, which is the
   expectation over all ways to break the tie, and depends on nobody's position. A tied pair itself weighs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from penchant.objectives import inputs as read
from penchant.objectives.metrics import pair_metrics
from penchant.objectives.pairs import margins
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


def inverse_discounts(
    scores_BK: Float[Tensor, "B K"],
    mask_BK: Bool[Tensor, "B K"],
    *,
    log_base: float = math.e,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "B K"]:
    """1 / log(1 + rank) of every candidate, averaged over the places that tied candidates share; 0 where missing."""
    K = scores_BK.shape[1]
    both_BKK = mask_BK[:, None, :] & mask_BK[:, :, None]
    above_BK = (both_BKK & (scores_BK[:, None, :] > scores_BK[:, :, None])).sum(-1)
    equal_BK = (both_BKK & (scores_BK[:, None, :] == scores_BK[:, :, None])).sum(-1)
    place = torch.arange(1, K + 1, device=scores_BK.device, dtype=dtype)
    # Places above_i + 1 ... above_i + equal_i: a difference of running sums.
    running = torch.cat([place.new_zeros(1), (math.log(log_base) / torch.log1p(place)).cumsum(0)])
    mean_BK = (running[above_BK + equal_BK] - running[above_BK]) / equal_BK.clamp(min=1)
    return torch.where(mask_BK, mean_BK, 0)


def dcg_weights(
    scores_BK: Float[Tensor, "B K"],
    mask_BK: Bool[Tensor, "B K"],
    *,
    log_base: float = math.e,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "B K K"]:
    """Delta_ij of every pair whose first candidate is preferred, 0 elsewhere.

    >>> phi = torch.tensor([[1.0, 2 / 3, 1 / 3, 0.0]])
    >>> dcg_weights(phi, torch.ones(1, 4).bool())[0, 0]
    tensor([0.0000, 0.2197, 0.5339, 0.8214])
    """
    gain_BK = torch.expm1(torch.where(mask_BK, scores_BK, 0).to(dtype) * math.log(2))
    discount_BK = inverse_discounts(scores_BK, mask_BK, log_base=log_base, dtype=dtype)
    strict_BKK = mask_BK[:, :, None] & mask_BK[:, None, :] & (scores_BK[:, :, None] > scores_BK[:, None, :])
    delta_BKK = (gain_BK[:, :, None] - gain_BK[:, None, :]) * (discount_BK[:, :, None] - discount_BK[:, None, :])
    return torch.where(strict_BKK, delta_BKK.abs(), 0)


@dataclass(frozen=True, kw_only=True)
class RankDPO(Objective):
    """Every ordered pair of a group, weighted by what swapping it would cost in discounted cumulative gain.

    Args:
        beta: temperature, in the unit of `DPO`. The paper gives none; 5000 is ours, Diffusion-DPO's.
        log_base: base of the discount's logarithm.
    """

    needs: ClassVar[Needs] = Needs(reference=True, scores="share")
    cite: ClassVar[tuple[str, ...]] = ("karthik2024rankdpo",)

    beta: float = 5000.0
    log_base: float = math.e

    def __post_init__(self) -> None:
        if self.log_base <= 1:
            raise ValueError(f"log_base {self.log_base} must be larger than 1, so that better places weigh more.")

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        reward_BK = self.beta * read.log_ratio(inputs)
        delta_BKK = dcg_weights(inputs.scores_BK, inputs.mask_BK, log_base=self.log_base, dtype=reward_BK.dtype)
        logit_BKK = margins(reward_BK, delta_BKK)
        metrics = pair_metrics(inputs, reward_BK, factor_BKK=torch.sigmoid(-logit_BKK), weight_BKK=delta_BKK)
        return ObjectiveOutput(loss_B=(delta_BKK * softplus(-logit_BKK)).sum((-1, -2)), metrics=metrics)
