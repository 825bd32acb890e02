"""Simulated annotators of clips: what three of them say of a pair, and what a reviewer makes of it. No person is in it.

The rule, for one dimension. A side's quality is minus the level of its corruption. An annotator perceives it with
Gaussian noise of their own, sd 0.45 of a level, prefers the side that seems better by more than 0.75 and otherwise says
"same"; the rating of a side is 5 + the quality perceived, rounded and kept in 1 to 5. The label is what at least two of
three say; if all three differ, a reviewer with an sd of 0.2 decides. The rating is the median. So VideoReward's
annotation is imitated (Liu et al. 2025, appendix A: A / B / same and Likert 1 to 5, three annotators and a reviewer).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

Label = Literal["A", "same", "B"]
ANNOTATORS, NOISE, REVIEWER_NOISE, THRESHOLD = 3, 0.45, 0.2, 0.75


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the panel says of a pair in one dimension.

    Attributes:
        label: which side is better.
        ratings: Likert 1 to 5 of A and B.
        votes: each annotator's label.
        reviewed: whether the reviewer had to decide.
    """

    label: Label
    ratings: tuple[int, int]
    votes: tuple[Label, ...]
    reviewed: bool


def preference(first: float, second: float) -> Label:
    """Of two perceived qualities: the better side, "same" if they are at most `THRESHOLD` apart."""
    if abs(first - second) <= THRESHOLD:
        return "same"
    return "A" if first > second else "B"


def rating(perceived: float) -> int:
    """Likert 1 (worst) to 5 (no fault) of a perceived quality, which is 0 without a fault."""
    return int(np.clip(np.floor(5 + perceived + 0.5), 1, 5))


def judge(first: int, second: int, rng: np.random.Generator) -> Verdict:
    """The panel's verdict on corruption levels 0 (none) to 4 of A and B."""
    quality = -np.array([first, second], dtype=float)
    perceived = quality + NOISE * rng.standard_normal((ANNOTATORS, 2))
    decided = preference(*(quality + REVIEWER_NOISE * rng.standard_normal(2)).tolist())
    votes = tuple(preference(a, b) for a, b in perceived.tolist())
    label, count = Counter(votes).most_common(1)[0]
    medians = [int(np.median([rating(p) for p in side])) for side in perceived.T.tolist()]
    reviewed = count == 1
    return Verdict(
        label=decided if reviewed else label, ratings=(medians[0], medians[1]), votes=votes, reviewed=reviewed
    )
