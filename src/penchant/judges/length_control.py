"""How much of a win rate is length: the rate as it is, and what it would be at equal lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from penchant.errors import FeedbackError

# Keeps the fit finite where length alone explains every verdict.
_RIDGE = 1e-3


@dataclass(frozen=True, kw_only=True)
class LengthControl:
    """Win rates of the first text of each pair, ties counting half.

    Attributes:
        raw: as judged.
        controlled: at equal lengths, by the fit.
        slope: log odds that a text gains as its length grows e-fold; 0 for a judge that does not mind.
        pairs: how many verdicts.
    """

    raw: float
    controlled: float
    slope: float
    pairs: int


def length_control(outcomes: Float[np.ndarray, N], first: Sequence[str], second: Sequence[str]) -> LengthControl:
    """Win rate of `first` with and without length control.

        logit P(first wins) = a + slope * log( (1 + |first|) / (1 + |second|) ),    controlled = sigmoid(a)

    Lengths are in characters. A logistic regression on the log ratio, in the spirit of length-controlled AlpacaEval
    (Dubois et al., arXiv 2404.04475), which has a bounded function of the difference and a term for each instruction
    (ours is shorter). With a penalty of 0.001 on both terms, so that it is finite.

    Args:
        outcomes: 1 the first wins, 0 the second, between them a probability or a tie; NaN is left out.

    Raises:
        FeedbackError: no verdict at all.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    ratio = np.log([(1 + len(a)) / (1 + len(b)) for a, b in zip(first, second, strict=True)])
    judged = ~np.isnan(outcomes)
    won, ratio = np.asarray(outcomes, dtype=np.float64)[judged], ratio[judged]
    if not len(won):
        raise FeedbackError("nothing was judged.", field="outcomes", remedy="give at least one verdict.")
    features = np.stack([np.ones_like(ratio), ratio], axis=1)

    def loss(terms: np.ndarray) -> tuple[float, np.ndarray]:
        logit = features @ terms
        value = (np.logaddexp(0, logit) - won * logit).mean() + _RIDGE / 2 * (terms @ terms)
        return float(value), features.T @ (expit(logit) - won) / len(won) + _RIDGE * terms

    a, slope = minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-8}).x
    return LengthControl(raw=float(won.mean()), controlled=float(expit(a)), slope=float(slope), pairs=len(won))
