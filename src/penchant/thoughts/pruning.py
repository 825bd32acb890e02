"""Pruning: the patterns before the sufficient point that the answer does not need (DTO, arXiv 2505.21765).

`RatedPruning` is the paper's: an auxiliary model rates every intermediate pattern; what it does not call needed is
removed one at a time from the earliest, and a removal stands only if quick decoding after the shortened thought is
still right. `ExitPruning` is ours, for scales without such a model: the same test with the policy's exit probability,
from the last pattern to the first.

The last pattern that was kept is never a candidate: without it the thought ends at a point that was found insufficient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from penchant.feedback.groups import Prompt
from penchant.models.completion import Decoding, TextGenerator
from penchant.thoughts.exits import ExitRule, probabilities, reaches
from penchant.thoughts.reader import rate
from penchant.thoughts.rollouts import Cut, Rollouts
from penchant.thoughts.segmentation import Segment, joined


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The patterns of a thought up to its sufficient point, and which of them are kept."""

    problem: Prompt
    segments: tuple[Segment, ...]
    indices: tuple[int, ...]

    def without(self, index: int) -> Kept:
        """The same without the pattern number `index`."""
        rest = tuple(i for i in self.indices if i != index)
        return Kept(problem=self.problem, segments=self.segments, indices=rest)

    def cut(self) -> Cut:
        """The thought of the kept patterns."""
        return Cut(problem=self.problem, thought=joined([self.segments[i] for i in self.indices]))


@runtime_checkable
class Pruning(Protocol):
    """Which of the kept patterns may go."""

    def prune(self, rollouts: Rollouts, thoughts: Sequence[Kept], rule: ExitRule) -> list[Kept]:
        """The thoughts with the patterns that stay."""


@dataclass(frozen=True, kw_only=True)
class ExitPruning:
    """A pattern goes if the exit probability without it is not lower by more than 1 / M; last to first, greedy.

    Lower than before the first removal, so that a thought does not lose 1 / M with every pattern, and it stays
    sufficient: p > T.
    """

    def prune(self, rollouts: Rollouts, thoughts: Sequence[Kept], rule: ExitRule) -> list[Kept]:
        """The thoughts with the patterns that stay."""
        now = list(thoughts)
        work = [i for i, kept in enumerate(now) if len(kept.indices) > 1]
        before = probabilities(rollouts, [now[i].cut() for i in work], rule)
        needed = {i: max(rule.needed, round(p * rule.samples) - 1) for i, p in zip(work, before, strict=True)}
        candidates = {i: list(now[i].indices[-2::-1]) for i in work}
        while turn := [i for i in work if candidates[i]]:
            shorter = [now[i].without(candidates[i].pop(0)) for i in turn]
            stands = reaches(rollouts, [kept.cut() for kept in shorter], rule, [needed[i] for i in turn])
            for i, kept, ok in zip(turn, shorter, stands, strict=True):
                now[i] = kept if ok else now[i]
        return now


@dataclass(frozen=True, kw_only=True)
class RatedPruning:
    """A pattern goes if an auxiliary model does not rate it needed and greedy decoding without it is right.

    Attributes:
        rater: the auxiliary model.
        decoding: how it answers.
        max_tokens: length of the quick decoding. That it is one greedy answer is ours.
    """

    rater: TextGenerator
    decoding: Decoding = field(default_factory=lambda: Decoding(max_tokens=1024, temperature=0.0))
    max_tokens: int = 32

    def prune(self, rollouts: Rollouts, thoughts: Sequence[Kept], rule: ExitRule) -> list[Kept]:
        """The thoughts with the patterns that stay; one whose rating cannot be read stays whole."""
        now = list(thoughts)
        work = [i for i, kept in enumerate(now) if len(kept.indices) > 1]
        ratings = rate(self.rater, [(now[i].problem, now[i].segments) for i in work], self.decoding)
        candidates = {
            i: [] if rated is None else [k for k in now[i].indices[:-1] if rated[k] != "needed"]
            for i, rated in zip(work, ratings, strict=True)
        }
        quick = Decoding(max_tokens=self.max_tokens, temperature=0.0, stop=rollouts.format.exit_stop)
        while turn := [i for i in work if candidates[i]]:
            shorter = [now[i].without(candidates[i].pop(0)) for i in turn]
            answers = rollouts.exits([kept.cut() for kept in shorter], [0] * len(turn), quick)
            for i, kept, (_, ok) in zip(turn, shorter, answers, strict=True):
                now[i] = kept if ok else now[i]
        return now
