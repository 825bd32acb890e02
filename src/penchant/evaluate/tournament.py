"""Several policies against one another: who wins, who ties, who loses, at equal prompts and seeds.

Two policies' samples of one prompt and seed are compared by a judge's scores; a difference within the margin is a tie.
(MusicRL, arXiv:2402.04229, section 4.3 and table 1: win, tie and loss from two scores of one rater, win rate = win /
(win + loss), a Wilcoxon signed-rank test, and the mean score and number of wins of each model.)

Differences from the paper:

1. Judges are models or rules and not people, so the margin of a tie is a choice of the reader (`tie_margin`).
2. The win rate has an interval, by the cluster bootstrap of `penchant.evaluate.winrate`: prompts are drawn, each with
   all its seeds.
3. The test is over prompts, with the mean of a prompt's differences, for the seeds of a prompt are not independent.

Shape legend: P prompts, S seeds a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from penchant.errors import PenchantError
from penchant.evaluate.winrate import LEVEL, outcomes, resampled_means


@dataclass(frozen=True, kw_only=True)
class Bout:
    """`first` against `second`.

    Attributes:
        first: whose wins are counted.
        second: the other one.
        win: share of comparisons that `first` wins; `tie` and `loss` are the others, and they add up to 1.
        tie: share of ties.
        loss: share that `second` wins.
        rate: win / (win + loss), ties left out; one half if all are ties.
        low: lower end of the rate's 95 % interval.
        high: its upper end.
        p: two-sided p-value of the Wilcoxon signed-rank test over prompts; 1 where no prompt differs.
        prompts: P.
        seeds: S.
    """

    first: str
    second: str
    win: float
    tie: float
    loss: float
    rate: float
    low: float
    high: float
    p: float
    prompts: int
    seeds: int

    def turned(self) -> Bout:
        """The same from the other side."""
        return Bout(
            first=self.second,
            second=self.first,
            win=self.loss,
            tie=self.tie,
            loss=self.win,
            rate=1 - self.rate,
            low=1 - self.high,
            high=1 - self.low,
            p=self.p,
            prompts=self.prompts,
            seeds=self.seeds,
        )


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A policy's mean score, its 95 % interval over prompts, and the comparisons it won against all others."""

    name: str
    mean: float
    low: float
    high: float
    wins: int
    comparisons: int


@dataclass(frozen=True, kw_only=True)
class Tournament:
    """Every pair of policies before one judge; `standings` are in the order in which the policies were given."""

    judge: str
    tie_margin: float
    standings: tuple[Standing, ...]
    bouts: tuple[Bout, ...]

    def bout(self, first: str, second: str) -> Bout:
        """`first` against `second`.

        Raises:
            PenchantError: they did not meet.
        """
        for bout in self.bouts:
            if (bout.first, bout.second) == (first, second):
                return bout
            if (bout.first, bout.second) == (second, first):
                return bout.turned()
        raise PenchantError(f"'{first}' and '{second}' did not meet.", remedy="name two different policies.")


def bout(
    first_scores: ArrayLike,
    second_scores: ArrayLike,
    *,
    first: str = "first",
    second: str = "second",
    tie_margin: float = 0.0,
    seed: int = 0,
) -> Bout:
    """Win, tie and loss of two policies, with the rate among the decided and its interval.

    Args:
        first_scores: scores [P, S], larger = better.
        second_scores: scores of the other policy at the same prompts and seeds, [P, S].
        first: its name.
        second: the other's name.
        tie_margin: differences up to this are ties; 0 means exact equality.
        seed: key of the resampling.

    Raises:
        PenchantError: as `penchant.evaluate.winrate.outcomes`, or scores of several runs.

    Example:
        >>> found = bout([[2.0, 3.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 2.0]])
        >>> found.win, found.tie, found.loss, round(found.rate, 3)
        (0.5, 0.25, 0.25, 0.667)
    """
    won_RPS = outcomes(first_scores, second_scores, tie_margin=tie_margin)
    if len(won_RPS) != 1:
        raise PenchantError("a bout is between two policies, not between runs.", remedy="give scores [P, S].")
    win_P, loss_P = ((won_RPS[0] == side).mean(-1) for side in (1.0, 0.0))
    win, loss = float(win_P.mean()), float(loss_P.mean())
    rate, low, high = _rate(win_P, loss_P, seed=seed)
    difference_PS = np.asarray(first_scores, dtype=np.float64) - np.asarray(second_scores, dtype=np.float64)
    _, prompts, seeds = won_RPS.shape
    return Bout(
        first=first,
        second=second,
        win=win,
        tie=max(0.0, 1 - win - loss),
        loss=loss,
        rate=rate,
        low=low,
        high=high,
        p=signed_rank(difference_PS),
        prompts=prompts,
        seeds=seeds,
    )


def signed_rank(difference_PS: np.ndarray) -> float:
    """Two-sided p-value of the Wilcoxon signed-rank test on the prompts' mean differences; zeros are left out.

    (Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1 (1945).)
    """
    from scipy.stats import wilcoxon

    mean_P = np.asarray(difference_PS, dtype=np.float64).mean(-1)
    return 1.0 if not mean_P.any() else float(wilcoxon(mean_P, zero_method="wilcox").pvalue)


def tournament(
    scores: Mapping[str, ArrayLike], *, judge: str = "judge", tie_margin: float = 0.0, seed: int = 0
) -> Tournament:
    """Every pair of policies, and what each one won in all.

    Args:
        scores: by policy, [P, S] at the same prompts and seeds, larger = better.
        judge: who scored.
        tie_margin: differences up to this are ties.
        seed: key of the resampling.

    Raises:
        PenchantError: there are fewer than two policies, or as `bout`.
    """
    if len(scores) < 2:
        raise PenchantError(f"{len(scores)} policies have nobody to meet.", field="scores", remedy="give two or more.")
    bouts = tuple(
        bout(scores[a], scores[b], first=a, second=b, tie_margin=tie_margin, seed=seed)
        for a, b in combinations(scores, 2)
    )
    return Tournament(
        judge=judge,
        tie_margin=tie_margin,
        standings=tuple(_standing(name, np.asarray(scores[name], dtype=np.float64), bouts, seed) for name in scores),
        bouts=bouts,
    )


def _standing(name: str, score_PS: np.ndarray, bouts: tuple[Bout, ...], seed: int) -> Standing:
    own = [b if b.first == name else b.turned() for b in bouts if name in (b.first, b.second)]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled_means(score_PS.mean(-1)[None], seed=seed), [tail, 1 - tail])
    return Standing(
        name=name,
        mean=float(score_PS.mean()),
        low=float(low),
        high=float(high),
        wins=round(sum(b.win for b in own) * score_PS.size),
        comparisons=len(own) * score_PS.size,
    )


def _rate(win_P: np.ndarray, loss_P: np.ndarray, *, seed: int) -> tuple[float, float, float]:
    """win / (win + loss) and its interval: the same prompts are drawn for both sums."""
    decided = int((win_P + loss_P > 0).sum())
    if decided == 0:
        return 0.5, 0.0, 1.0
    rate = float(win_P.mean() / (win_P + loss_P).mean())
    if rate in (0.0, 1.0):
        # Nothing to resample: the exact binomial bound, as in `winrate`, over the prompts that decide.
        reach = ((1 - LEVEL) / 2) ** (1 / decided)
        return (1.0, reach, 1.0) if rate == 1.0 else (0.0, 0.0, 1 - reach)
    wins, losses = (resampled_means(side[None], seed=seed) for side in (win_P, loss_P))
    total, tail = wins + losses, (1 - LEVEL) / 2
    # A draw of nothing but ties says nothing.
    low, high = np.quantile((wins / np.where(total > 0, total, 1))[total > 0], [tail, 1 - tail])
    return rate, float(low), float(high)
