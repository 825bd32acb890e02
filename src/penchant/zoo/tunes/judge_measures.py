"""How good the judges of tunes are: which caption they name, how they order spoilt strains, whose votes they foretell.

Intervals are 95 % percentile intervals of 2,000 bootstrap resamples, of strains or of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from penchant.errors import FeedbackError
from penchant.evaluate.winrate import LEVEL, RESAMPLES
from penchant.feedback.groups import Group
from penchant.judges.base import Judge
from penchant.zoo.tunes.halves import Strain


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number with its interval, and on how many strains or pairs it rests."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.count})"


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How often the own caption scores highest of all that are known.

    Attributes:
        top_one: over strains, as the books have them.
        by_caption: mean over captions, each alike.
        chance: 1 over the captions.
        commonest: what always naming the most frequent caption gets.
    """

    top_one: Measured
    by_caption: Measured
    chance: float
    commonest: float


def naming(judge: Judge, strains: Sequence[Strain], captions: Sequence[str]) -> Naming:
    """Asks the judge (its dimension "adherence", or its only one) about every strain and caption."""
    texts = [strain.record.text for strain in strains]
    d = judge.dimensions.index("adherence") if "adherence" in judge.dimensions else 0
    score_CN = np.stack([judge.score([caption] * len(texts), texts)[:, d] for caption in captions])
    own_N = np.array([captions.index(strain.record.caption) for strain in strains])
    right_N = (score_CN.argmax(0) == own_N).astype(float)

    def by_caption(chosen_M: np.ndarray) -> float:
        return float(np.mean([right_N[chosen_M][own_N[chosen_M] == c].mean() for c in np.unique(own_N[chosen_M])]))

    return Naming(
        top_one=share(right_N > 0),
        by_caption=_measured(by_caption, len(right_N)),
        chance=1 / len(captions),
        commonest=float(np.bincount(own_N).max() / len(own_N)),
    )


@dataclass(frozen=True, kw_only=True)
class Rating:
    """How the judge's quality follows the ratings: rank correlation and, in units of the rating, the mean error."""

    spearman: Measured
    error: Measured


def rating(judge: Judge, groups: Sequence[Group], *, dimension: str = "quality") -> Rating:
    """Over both sides of rated pairs; a resample draws whole pairs.

    Raises:
        FeedbackError: a group has no score judgement first.
    """
    from scipy.stats import spearmanr

    if any(not g.judgements or g.judgements[0].kind != "score" for g in groups):
        raise FeedbackError("a pair has no ratings.", field="judgements", remedy="give zoo:tunes/rated.")
    score_P2 = scores(judge, groups, dimension)
    rated_P2 = np.array([g.judgements[0].values for g in groups], dtype=float)
    error_P = np.abs(score_P2 - rated_P2).mean(1)
    return Rating(
        spearman=_measured(lambda p: float(spearmanr(score_P2[p].ravel(), rated_P2[p].ravel()).statistic), len(groups)),
        error=_measured(lambda p: float(error_P[p].mean()), len(groups)),
    )


def accuracy(judge: Judge, groups: Sequence[Group], *, dimension: str) -> Measured:
    """How often the voted sample scores higher; equal scores count half."""
    score_P2 = scores(judge, groups, dimension)
    gap_P = score_P2[:, 0] - score_P2[:, 1]
    first_P = np.array([g.judgements[0].values[0] > g.judgements[0].values[1] for g in groups])  # type: ignore[operator]
    right_P = np.where(gap_P == 0, 0.5, (gap_P > 0) == first_P)
    return _measured(lambda p: float(right_P[p].mean()), len(groups))


def scores(judge: Judge, groups: Sequence[Group], dimension: str) -> Float[np.ndarray, "P 2"]:
    """The judge's scores of both samples; of a judge with one dimension that one, whatever its name."""
    d = judge.dimensions.index(dimension) if len(judge.dimensions) > 1 else 0
    prompts = [group.prompt for group in groups]
    return np.stack(
        [judge.score(prompts, [group.candidates[side].text for group in groups])[:, d] for side in range(2)], 1
    )


def share(true_N: Bool[np.ndarray, N]) -> Measured:
    """How many are true."""
    return _measured(lambda n: float(true_N[n].mean()), len(true_N))


def _measured(statistic: Callable[[np.ndarray], float], count: int) -> Measured:
    """The statistic of all `count` rows, and its interval over resamples of their places."""
    rng = np.random.Generator(np.random.Philox(key=0))
    drawn = [statistic(rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Measured(value=statistic(np.arange(count)), low=float(low), high=float(high), count=count)
