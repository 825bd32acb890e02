"""What the exits cost, and what they would have cost naively: every rollout reads its own prompt, none is saved.

Counted in tokens that go through the model. Prefixes that the prompts of one call share count once ("shared"): what a
generator with a prefix cache reads, and a lower bound for one that shares in part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from penchant.feedback.groups import Prompt, digest
from penchant.thoughts.segmentation import Count


@dataclass(kw_only=True)
class Spent:
    """What a generator was asked.

    Attributes:
        points: hashes of the different cuts that were asked about.
        rollouts: completions.
        generated: their tokens.
        read: tokens of their prompts, each counted for every completion.
        shared: tokens of their prompts, each prefix of a call counted once.
    """

    points: set[str] = field(default_factory=set)
    rollouts: int = 0
    generated: int = 0
    read: int = 0
    shared: int = 0

    def add(self, prompts: Sequence[Prompt], generated: int, count: Count) -> None:
        """One more call."""
        texts = [prompt.text + prompt.opening for prompt in prompts]
        self.points.update(digest(text) for text in texts)
        self.rollouts += len(texts)
        self.generated += generated
        self.read += sum(map(count, texts))
        self.shared += tree_size(texts, count)


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Tokens through the model: naively, and as it was done."""

    naive: float
    spent: float

    def __str__(self) -> str:
        cut = 1 - self.spent / max(self.naive, 1)
        without = f"{self.naive:,.0f} without shared prefixes and early stops"
        return f"{self.spent:,.0f} tokens instead of {without} (-{cut:.0%})"


def tree_size(texts: Sequence[str], count: Count) -> int:
    """Tokens of a prefix tree of the texts: what they share is in it once."""
    size, before = 0, ""
    # Sorted, a text shares most with its neighbour.
    for text in sorted(set(texts)):
        size += count(text[_common(before, text) :])
        before = text
    return size


def saving(spent: Spent, *, samples: int) -> Saving:
    """The estimate against `samples` rollouts at every point, of the same mean lengths."""
    mean = (spent.read + spent.generated) / max(spent.rollouts, 1)
    return Saving(naive=len(spent.points) * samples * mean, spent=spent.shared + spent.generated)


def _common(first: str, second: str) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
