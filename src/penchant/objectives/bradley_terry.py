"""The losses that train a reward model: Bradley and Terry's likelihood of observed preferences.

    loss = -log sigmoid( r_w - r_l - margin ) + centering * (r_w + r_l)^2

A margin asks for more where the preference was strong (Llama 2, arXiv 2307.09288, eq. 2); the centering term fixes the
constant that Bradley and Terry's model leaves free (Eisenstein et al., arXiv 2312.09244, section 2).

These are functions of rewards, not of a policy's log-probs: no `Objective`.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from penchant.objectives.inputs import at_least_float32
from penchant.objectives.pairs import Pairing, pair_weights, sides


def bradley_terry_loss(
    reward_BK: Float[Tensor, "B K"],
    scores_BK: Float[Tensor, "B K"],
    mask_BK: Bool[Tensor, "B K"],
    *,
    margin_BKK: Float[Tensor, "B K K"] | None = None,
    centering: float = 0.0,
    pairing: Pairing = "all",
    tie_credit: float = 0.0,
) -> Float[Tensor, B]:
    """The loss of every group: the mean over its ordered pairs, zero where nothing is ordered.

    Args:
        reward_BK: the rewards that a model gives; those of missing candidates have no part and no gradient.
        scores_BK: what was preferred, larger = better.
        mask_BK: which candidates there are.
        margin_BKK: by how much the first candidate must beat the second one, where it does.
        centering: weight of the squared sum of a pair's rewards; 0.01 in the paper.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.

    Returns:
        loss [B], at least float32.
    """
    reward_BK = at_least_float32(reward_BK)
    weight_BKK = pair_weights(scores_BK, mask_BK, pairing=pairing, tie_credit=tie_credit, dtype=reward_BK.dtype)
    won_BKK, lost_BKK = sides(reward_BK, weight_BKK)
    margin = 0 if margin_BKK is None else sides(margin_BKK.to(reward_BK.dtype), weight_BKK)[0]
    loss_BKK = softplus(lost_BKK + margin - won_BKK) + centering * (won_BKK + lost_BKK).square()
    return (weight_BKK * loss_BKK).sum((-1, -2))
