"""Simulated annotators: votes of known reliability, drawn from the scores of a real judge.

A simulated annotator prefers candidate i to j with the Bradley-Terry probability

    sigmoid( (score_i - score_j) / temperature )

so it is sure where the judge sees a wide gap and guesses where it sees none; equal scores are a coin.
`temperature_for` finds the temperature at which it agrees with the judge's own order as often as asked. Nobody voted:
judgements carry the source `simulated:NAME`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from penchant.errors import FeedbackError
from penchant.feedback.groups import Group, Judgement
from penchant.feedback.rankings import VERDICT, verdict

Scores = Sequence[float | None]


@dataclass(frozen=True, kw_only=True)
class SimulatedAnnotator:
    """One of several voters that share a judge's taste, each with its own luck.

    Args:
        name: of the judge, for the source.
        number: which annotator; two numbers vote independently.
        temperature: in units of the judge's score (`temperature_for`).
        seed: of the votes; a vote depends on (seed, annotator, group, pair) and on nothing else.
    """

    name: str
    number: int = 0
    temperature: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise FeedbackError("the temperature is not above 0.", field="temperature", remedy="use temperature_for.")

    @property
    def annotator(self) -> str:
        """The hash under which it votes."""
        return hashlib.sha256(f"annotator:simulated:{self.name}/{self.number}".encode()).hexdigest()[:16]

    def verdicts(self, group: Group, scores: Scores, *, dimension: str = VERDICT) -> tuple[Judgement, ...]:
        """A verdict on every pair of the group, except those with a missing score; the same sample twice is a tie.

        Args:
            group: K candidates.
            scores: the judge's K scores in the order of the candidates, larger = better.
            dimension: of the judgements.

        Raises:
            FeedbackError: there are not K scores.
        """
        if len(scores) != len(group.candidates):
            raise FeedbackError(
                f"{len(scores)} scores for {len(group.candidates)} candidates.",
                field="scores",
                remedy="give one score for each candidate, None where there is none.",
            )
        K = len(scores)
        return tuple(
            verdict(
                i,
                j,
                K,
                self._outcome(group, i, j, first - second),
                annotator=self.annotator,
                source=f"simulated:{self.name}",
                dimension=dimension,
            )
            for i, j in combinations(range(K), 2)
            if (first := scores[i]) is not None and (second := scores[j]) is not None
        )

    def _outcome(self, group: Group, i: int, j: int, difference: float) -> float:
        from scipy.special import expit

        from penchant.likelihoods.randomness import generator

        one, other = group.candidates[i].id, group.candidates[j].id
        if one == other:
            return 0.5
        # Keyed by the candidates and not by their places, so that a shuffled group is judged alike.
        low, high = sorted((one, other))
        draw = generator(self.seed, 0, group.id, f"vote:{self.annotator}:{low}:{high}").random()
        low_wins = draw < expit((difference if one == low else -difference) / self.temperature)
        return float(low_wins == (one == low))


def expected_agreement(scores: Iterable[Scores], temperature: float) -> float:
    """The mean over all pairs with unequal scores of the probability to vote as the judge orders them, in (1/2, 1)."""
    return _agreement(_gaps(scores), temperature)


def temperature_for(agreement: float, scores: Iterable[Scores]) -> float:
    """The temperature at which `expected_agreement` over these groups is `agreement`.

    Args:
        agreement: above 1/2 (a coin) and below 1 (the judge itself), by at least 1e-6.
        scores: the judge's scores, one sequence a group; None where there is none.

    Raises:
        FeedbackError: an agreement out of range, or no pair with unequal scores.
    """
    from scipy.optimize import brentq

    if not 0.5 + 1e-6 <= agreement <= 1 - 1e-6:
        raise FeedbackError(
            f"agreement {agreement:g} is not between one half and 1.", field="agreement", remedy="use 0.6 to 0.9."
        )
    gaps = _gaps(scores)
    # At these ends the mean is within 1e-6 of 1 and of one half, whatever the gaps.
    coldest, hottest = np.log(gaps.min() / 20), np.log(gaps.max() * 1e6)
    return float(np.exp(brentq(lambda log: _agreement(gaps, np.exp(log)) - agreement, coldest, hottest, xtol=1e-12)))


def _agreement(gaps: np.ndarray, temperature: float) -> float:
    from scipy.special import expit

    return float(expit(gaps / temperature).mean())


def _gaps(scores: Iterable[Scores]) -> np.ndarray:
    """|score_i - score_j| of all pairs with unequal scores."""
    gaps = np.array(
        [
            abs(first - second)
            for given in scores
            for first, second in combinations([s for s in given if s is not None], 2)
            if first != second
        ]
    )
    if not len(gaps):
        raise FeedbackError("the judge orders no pair.", field="scores", remedy="give groups with unequal scores.")
    return gaps
