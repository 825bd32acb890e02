"""Exit probability: how likely the policy is right if it must answer now (DTO, arXiv 2505.21765).

    p_i = right / M     of M short answers after the patterns 1..i of a thought and the exit pattern
    i'  = the first i with p_i > T: the earliest sufficient point

M = 8 answers of at most 32 tokens, T = 0.5 (so at least 5 of 8), temperature 0.6 and top-p 0.95 are ours: the paper's
values could not be read.

To find i' is cheaper than to know every p_i. `earliest` stops sampling a point once p_i > T is decided (5 are right,
or 4 are wrong) and leaves out what lies behind a point that is sufficient already. Its answer is the one that all M
samples would give: they are the same rollouts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from penchant.errors import RecipeError
from penchant.models.completion import Decoding
from penchant.thoughts.rollouts import Cut, Rollouts


@dataclass(frozen=True, kw_only=True)
class ExitRule:
    """When a thought is sufficient.

    Attributes:
        samples: M, answers a point.
        threshold: T, the probability that a sufficient point exceeds.
        max_tokens: length of an answer.
        temperature: of its sampling.
        top_p: of its sampling.
    """

    samples: int = 8
    threshold: float = 0.5
    max_tokens: int = 32
    temperature: float = 0.6
    top_p: float = 0.95

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise RecipeError("a probability needs a sample.", field="samples", remedy="use 1 or more.")
        if not 0 <= self.threshold < 1:
            raise RecipeError("nothing exceeds it.", field="threshold", remedy="use a value in [0, 1).")
        if self.samples > 1 and self.temperature == 0:
            raise RecipeError(
                "greedy answers are all the same.", field="temperature", remedy="use one sample, or a temperature."
            )

    @property
    def needed(self) -> int:
        """How many of the M must be right for p > T."""
        return math.floor(self.threshold * self.samples + 1e-9) + 1

    def decoding(self, stop: tuple[str, ...]) -> Decoding:
        """How an exit's answer is drawn."""
        return Decoding(max_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p, stop=stop)


@dataclass(frozen=True, kw_only=True)
class Tally:
    """`right` of the `tried` first samples of a point were right."""

    right: int = 0
    tried: int = 0

    def enough(self, needed: int, samples: int) -> bool | None:
        """Whether at least `needed` of all `samples` are right; None while that is open."""
        if self.right >= needed:
            return True
        return False if self.tried - self.right > samples - needed else None

    def missing(self, needed: int, samples: int) -> int:
        """The fewest further samples that may decide; sampling just these wastes none."""
        return min(needed - self.right, samples - needed + 1 - (self.tried - self.right))


def probabilities(rollouts: Rollouts, cuts: Sequence[Cut], rule: ExitRule) -> list[float]:
    """The exit probability of every cut, from all M samples."""
    rows = [(i, n) for i in range(len(cuts)) for n in range(rule.samples)]
    found = _tried(rollouts, cuts, rule, rows)
    right = [0] * len(cuts)
    for (i, _), ok in zip(rows, found, strict=True):
        right[i] += ok
    return [count / rule.samples for count in right]


def reaches(rollouts: Rollouts, cuts: Sequence[Cut], rule: ExitRule, needed: Sequence[int]) -> list[bool]:
    """Whether at least `needed[i]` of the M samples of `cuts[i]` are right, each sampled until that is decided."""
    tallies = [Tally() for _ in cuts]
    while open_ := [i for i, t in enumerate(tallies) if t.enough(needed[i], rule.samples) is None]:
        _sample(rollouts, cuts, rule, tallies, {i: needed[i] for i in open_})
    return [bool(t.enough(n, rule.samples)) for t, n in zip(tallies, needed, strict=True)]


def earliest(
    rollouts: Rollouts, points: Sequence[Sequence[Cut]], rule: ExitRule
) -> list[tuple[int | None, tuple[Tally, ...]]]:
    """The earliest sufficient point of every thought.

    Args:
        rollouts: the policy and its verifier.
        points: for every thought its cuts, from the first pattern to the last.
        rule: what is sufficient.

    Returns:
        for every thought (index of the first sufficient cut or None, what was seen at each cut). A point before it has
        as many samples as it took to rule it out; one behind it may have none.
    """
    cuts = [cut for some in points for cut in some]
    tallies = [Tally() for _ in cuts]
    first = [0, *accumulate(len(some) for some in points)]
    spans = [range(a, b) for a, b in pairwise(first)]

    def verdict(row: int) -> bool | None:
        return tallies[row].enough(rule.needed, rule.samples)

    while True:
        best = [next((row for row in span if verdict(row)), None) for span in spans]
        before = [
            range(span.start, span.stop if found is None else found) for span, found in zip(spans, best, strict=True)
        ]
        open_ = [row for span in before for row in span if verdict(row) is None]
        if not open_:
            break
        _sample(rollouts, cuts, rule, tallies, dict.fromkeys(open_, rule.needed))
    return [
        (None if found is None else found - span.start, tuple(tallies[row] for row in span))
        for found, span in zip(best, spans, strict=True)
    ]


def _sample(
    rollouts: Rollouts, cuts: Sequence[Cut], rule: ExitRule, tallies: list[Tally], needed: dict[int, int]
) -> None:
    """One round: for every open cut as many further samples as may decide it, all in one call."""
    rows = [
        (i, tallies[i].tried + n) for i, want in needed.items() for n in range(tallies[i].missing(want, rule.samples))
    ]
    for (i, _), ok in zip(rows, _tried(rollouts, cuts, rule, rows), strict=True):
        tallies[i] = Tally(right=tallies[i].right + ok, tried=tallies[i].tried + 1)


def _tried(rollouts: Rollouts, cuts: Sequence[Cut], rule: ExitRule, rows: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether sample n of cut i is right, for each (i, n)."""
    decoding = rule.decoding(rollouts.format.exit_stop)
    answers = rollouts.exits([cuts[i] for i, _ in rows], [n for _, n in rows], decoding)
    return [right for _, right in answers]
