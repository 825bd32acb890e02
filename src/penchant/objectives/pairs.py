"""Which candidates of a group are compared, as one weight for every ordered pair; order comes from scores alone.

Shape legend: B groups, K candidates; in `_BKK` the first K is the preferred candidate, the second the other one.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Pairing = Literal["all", "best_worst"]


def extremes(scores_BK: Tensor, mask_BK: Tensor) -> tuple[Bool[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """(best, worst): every present candidate that shares the group's highest, lowest score."""
    top_B = torch.where(mask_BK, scores_BK, -torch.inf).amax(-1, keepdim=True)
    low_B = torch.where(mask_BK, scores_BK, torch.inf).amin(-1, keepdim=True)
    return mask_BK & (scores_BK == top_B), mask_BK & (scores_BK == low_B)


def pair_weights(
    scores_BK: Float[Tensor, "B K"],
    mask_BK: Bool[Tensor, "B K"],
    *,
    pairing: Pairing = "all",
    tie_credit: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "B K K"]:
    """Weight of "first over second", adding up to 1 a group that has pairs and to 0 in one that has none.

    A pair with a strict order weighs 1 over the number of pairs. A tied pair is left out, or with `tie_credit` c counts
    as a pair and gives c to each direction (1/2: both were preferred half of the time). `best_worst` compares only the
    highest with the lowest score; where several share it, all of them. Not-a-number scores order nothing.
    """
    both_BKK = mask_BK[:, :, None] & mask_BK[:, None, :]
    strict_BKK = both_BKK & (scores_BK[:, :, None] > scores_BK[:, None, :])
    tied_BKK = both_BKK & (scores_BK[:, :, None] == scores_BK[:, None, :])
    tied_BKK &= ~torch.eye(scores_BK.shape[1], dtype=torch.bool, device=scores_BK.device)
    if pairing == "best_worst":
        best_BK, worst_BK = extremes(scores_BK, mask_BK)
        ends_BKK = best_BK[:, :, None] & worst_BK[:, None, :]
        strict_BKK, tied_BKK = strict_BKK & ends_BKK, tied_BKK & ends_BKK
    credit_BKK = strict_BKK.to(dtype) + tie_credit * tied_BKK.to(dtype)
    counted_BKK = strict_BKK.to(dtype) + (0.5 if tie_credit > 0 else 0.0) * tied_BKK.to(dtype)
    return credit_BKK / counted_BKK.sum((-1, -2), keepdim=True).clamp(min=1)


def margins(value_BK: Tensor, weight_BKK: Tensor) -> Float[Tensor, "B K K"]:
    """value_i - value_j for the pairs that count, exactly zero (value and gradient) for all others."""
    return torch.where(weight_BKK > 0, value_BK[:, :, None] - value_BK[:, None, :], 0)


def sides(
    value: Float[Tensor, "B K"] | Float[Tensor, "B K K"], weight_BKK: Float[Tensor, "B K K"]
) -> tuple[Float[Tensor, "B K K"], Float[Tensor, "B K K"]]:
    """The values of the preferred and of the other candidate for the pairs that count, zeros for all others.

    A `value` [B, K, K] is that of the first candidate against the second.
    """
    value_BKK = value if value.dim() == 3 else value[:, :, None].expand_as(weight_BKK)
    counted_BKK = weight_BKK > 0
    return torch.where(counted_BKK, value_BKK, 0), torch.where(counted_BKK, value_BKK.mT, 0)
