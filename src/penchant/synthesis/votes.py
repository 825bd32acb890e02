"""From rewards to one score a candidate: rewards vote on pairs, so their scales never meet (Syn-Pic, arXiv 2410.18013).

Shape legend: G groups, R rewards, K candidates, P = K (K - 1) / 2 pairs in the order of `itertools.combinations`.
A missing score is not-a-number; a pair with one is not voted on.

| aggregation   | score phi of a candidate                                                                | source     |
|---------------|-----------------------------------------------------------------------------------------|------------|
| strict-votes  | share of its (reward, opponent) comparisons won; a tie gives nobody a point             | algorithm 1|
| half-credit   | the same, a tie gives each half a point                                                 | ours       |
| bradley-terry | mean probability of beating another candidate, under strengths fitted to all votes      | ours       |
| mean-z        | Phi(mean over rewards of z), z = deviation from the prompt's mean / its std in all data | ours       |

All lie in [0, 1], as RankDPO's gains want them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from penchant.errors import RecipeError, nearest
from penchant.feedback.rankings import log_strengths, win_probability

Aggregation = Literal["strict-votes", "half-credit", "bradley-terry", "mean-z"]


def pairs(K: int) -> list[tuple[int, int]]:
    """The pairs (i, j), i < j, in the order of the vote matrix."""
    return list(combinations(range(K), 2))


def vote_matrix(scores_RK: Float[np.ndarray, "R K"]) -> Float[np.ndarray, "R P"]:
    """+1 where a reward prefers a pair's first candidate, -1 its second, 0 for a tie, not-a-number for no vote.

    >>> vote_matrix(np.array([[3.0, 1.0, 1.0]]))
    array([[ 1.,  1.,  0.]])
    """
    first, second = np.array(pairs(scores_RK.shape[1]), dtype=int).reshape(-1, 2).T
    return np.sign(scores_RK[:, first] - scores_RK[:, second])


def aggregate(
    scores: Sequence[Float[np.ndarray, "R K"]], aggregation: Aggregation = "strict-votes"
) -> list[Float[np.ndarray, K]]:
    """Score of every candidate of every group; not-a-number for a candidate on which nobody voted.

    Args:
        scores: one [R, K] a group; K may differ.
        aggregation: a row of the table above.

    Raises:
        RecipeError: there is no such aggregation.
    """
    if aggregation not in get_args(Aggregation):
        remedy = nearest(aggregation, list(get_args(Aggregation)))
        raise RecipeError(f"there is no aggregation '{aggregation}'.", field="aggregation", remedy=remedy)
    if aggregation == "mean-z":
        return _mean_z(scores)
    rule: Callable[[np.ndarray], np.ndarray] = {
        "strict-votes": lambda wins_KK: _share(wins_KK, tie=0.0),
        "half-credit": lambda wins_KK: _share(wins_KK, tie=0.5),
        "bradley-terry": _bradley_terry,
    }[aggregation]
    return [rule(wins(one)) for one in scores]


def wins(scores_RK: Float[np.ndarray, "R K"]) -> Float[np.ndarray, "K K 2"]:
    """[i, j] = (rewards that prefer i to j, rewards that find them equal)."""
    difference_RKK = scores_RK[:, :, None] - scores_RK[:, None, :]
    return np.stack([(difference_RKK > 0).sum(0), (difference_RKK == 0).sum(0)], -1).astype(np.float64)


def _share(wins_KK2: np.ndarray, *, tie: float) -> np.ndarray:
    won_KK, tied_KK = wins_KK2[..., 0], wins_KK2[..., 1] * (1 - np.eye(len(wins_KK2)))
    asked_K = (won_KK + won_KK.T + tied_KK).sum(1)
    with np.errstate(invalid="ignore"):
        return np.where(asked_K > 0, (won_KK + tie * tied_KK).sum(1) / asked_K, np.nan)


def _bradley_terry(wins_KK2: np.ndarray) -> np.ndarray:
    """With the default prior every pair also counts as tied once, or who never lost would be infinitely strong."""
    K = len(wins_KK2)
    won_KK = wins_KK2[..., 0] + 0.5 * wins_KK2[..., 1] * (1 - np.eye(K))
    mean_K = (win_probability(log_strengths(won_KK)).sum(1) - 0.5) / (K - 1)
    return np.where(np.isnan(_share(wins_KK2, tie=0.5)), np.nan, mean_K)


def _mean_z(scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    from scipy.stats import norm

    with np.errstate(invalid="ignore"):
        deviations = [one - _nan_mean(one, 1)[:, None] for one in scores]
        everything_RN = np.concatenate(deviations, 1)
        spread_R = np.sqrt(_nan_mean(everything_RN**2, 1))
        z = [one / np.where(spread_R > 0, spread_R, 1)[:, None] for one in deviations]
        return [norm.cdf(_nan_mean(one, 0)) for one in z]


def _nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(axis) / np.where(known.sum(axis) > 0, known.sum(axis), np.nan)
