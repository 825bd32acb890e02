"""How often a reward agrees with people, with and without ties.

A model gives differences d of scores, people say A, B or same. Without ties: the pairs that people decided, and a
difference of exactly zero is wrong. With ties: a tie is predicted where |d| <= threshold, and the threshold is the one
with the best three-way accuracy (tie calibration, Deutsch, Foster and Freitag, arXiv 2305.14324, algorithm 1).

VideoAlign's `calc_accuracy.py` never tries the threshold that predicts no tie at all, and where several |d| are equal
it also scores half of them moved; `compat="videoalign"` gives its numbers to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from penchant.errors import FeedbackError
from penchant.reward_models.losses import A_BETTER, B_BETTER, SAME

Compat = Literal["penchant", "videoalign"]


@dataclass(frozen=True, kw_only=True)
class TieThreshold:
    """The |d| up to which a tie is predicted, and the three-way accuracy with it; -inf predicts no tie."""

    value: float
    accuracy: float


def without_ties(difference: Sequence[float] | Float[np.ndarray, N], label: Sequence[int]) -> float:
    """Share of the decided pairs whose difference has the label's sign; NaN if people decided none.

    >>> without_ties([0.5, -0.5, 0.0, 3.0], [1, 1, -1, 0])
    0.3333333333333333
    """
    d_N, label_N = _checked(difference, label)
    decided_N = label_N != SAME
    if not decided_N.any():
        return float("nan")
    return int((d_N * label_N > 0)[decided_N].sum()) / int(decided_N.sum())


def with_ties(
    difference: Sequence[float] | Float[np.ndarray, N], label: Sequence[int], *, compat: Compat = "penchant"
) -> TieThreshold:
    """The best threshold over all distinct |d| and -inf; of equally good ones the smallest.

    Args:
        difference: N differences of scores, A minus B.
        label: 1 A better, -1 B better, 0 same.
        compat: "videoalign" for the numbers of its code.

    Raises:
        FeedbackError: no pair, a difference that is not finite, or another label.
    """
    d_N, label_N = _checked(difference, label)
    order_N = np.argsort(np.abs(d_N), kind="stable")
    size_N, correct_N, tied_N = (x[order_N] for x in (np.abs(d_N), d_N * label_N > 0, label_N == SAME))
    # right[i]: how many are right when the i smallest differences are called ties.
    right = np.concatenate([[0], tied_N.cumsum()]) + correct_N.sum() - np.concatenate([[0], correct_N.cumsum()])
    threshold = np.concatenate([[-np.inf], size_N])
    if compat == "videoalign":
        tried = np.arange(1, len(right))
    else:
        tried = np.flatnonzero(np.concatenate([size_N != threshold[:-1], [True]]))
    best = tried[int(right[tried].argmax())]
    return TieThreshold(value=float(threshold[best]), accuracy=int(right[best]) / len(d_N))


def at_threshold(difference: Sequence[float] | Float[np.ndarray, N], label: Sequence[int], threshold: float) -> float:
    """Three-way accuracy when a tie is predicted where |d| <= threshold, as on pairs that did not choose it."""
    d_N, label_N = _checked(difference, label)
    tie_N = np.abs(d_N) <= threshold
    return int(np.where(tie_N, label_N == SAME, d_N * label_N > 0).sum()) / len(d_N)


def by_chance(label: Sequence[int]) -> tuple[float, float]:
    """What random scores get: (with ties, without ties) = (max(1/3, share of ties), 1/2)."""
    return max(1 / 3, float((np.asarray(label) == SAME).mean())), 0.5


def _checked(
    difference: Sequence[float] | np.ndarray, label: Sequence[int]
) -> tuple[Float[np.ndarray, N], Int[np.ndarray, N]]:
    d_N, label_N = np.asarray(difference, dtype=np.float64), np.asarray(label, dtype=np.int64)
    if d_N.shape != label_N.shape or d_N.ndim != 1 or not len(d_N):
        raise FeedbackError(
            f"{d_N.shape} differences and {label_N.shape} labels are no list of judged pairs.",
            field="label",
            remedy="give one label for each difference, and at least one.",
        )
    if not np.isfinite(d_N).all():
        raise FeedbackError("a difference of scores is not finite.", field="difference", remedy="look at the scores.")
    if not np.isin(label_N, (A_BETTER, B_BETTER, SAME)).all():
        raise FeedbackError("a label is none of 1, -1 and 0.", field="label", remedy="leave out what was not judged.")
    return d_N, label_N
