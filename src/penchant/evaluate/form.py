"""The outward form of texts: how long they are, whether they end, and whether they repeat themselves.

A policy can please a judge by writing more; and a language model that is pushed too far stops ending its texts or says
the same thing again and again. All of it is counted on the texts alone, policy beside base at equal prompts and seeds.

Shape legend: P prompts, S seeds a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from penchant.errors import PenchantError
from penchant.evaluate.diversity import Diversity
from penchant.evaluate.winrate import MeanGain, mean_gain
from penchant.models.completion import Completion

REPEATED = 4
"""Length of the word sequences whose repetition is counted: seq-rep-4 of the source below."""

DISTINCT = 2
"""Longest word sequences by which texts are told apart."""

# Signs count as words; so do single characters of scripts that are written without spaces.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class TextForm:
    """Means over all texts, base (`before`) and policy (`after`), with the interval of the change.

    `tokens` and `words` a text; `repeated`: share of a text's sequences of `REPEATED` words that it has said before;
    `unfinished`: share of texts that ran into the limit of tokens. `tokens` is None where nobody counted them.
    """

    tokens: MeanGain | None
    words: MeanGain
    repeated: MeanGain
    unfinished: MeanGain

    @property
    def length(self) -> MeanGain:
        """In tokens, or in words where tokens are not known."""
        return self.words if self.tokens is None else self.tokens


def words(text: str) -> list[str]:
    """The words and signs of a text, in small letters."""
    return [word.lower() for word in _WORD.findall(text)]


def repetition(text: str) -> float:
    """Share of a text's sequences of `REPEATED` words that occurred in it before: 0 for none.

    seq-rep-n = 1 - |different n-grams| / |n-grams|. (Welleck et al., "Neural text generation with unlikelihood
    training", arXiv:1908.04319, "seq-rep-n" in its metrics.)

    Example:
        >>> repetition("no no no no no no no no")
        0.8
    """
    found = _sequences(words(text), REPEATED)
    return 1 - len(set(found)) / len(found) if found else 0.0


def distance(first: str, second: str) -> float:
    """How little two texts have in common: 1 - Jaccard index of their words and pairs of words.

    0 for the same words in the same order, 1 for no word in common.

    Example:
        >>> round(distance("red fox", "red dog"), 3)
        0.8
    """
    return _distance(_parts(first), _parts(second))


def text_diversity(texts: Sequence[str], *, seeds: int) -> Diversity:
    """Mean over prompts and pairs of texts of `distance`: for when no judge has features.

    Args:
        texts: P x S texts, prompt by prompt.
        seeds: S >= 2.

    Raises:
        PenchantError: there are fewer than two texts a prompt.
    """
    if seeds < 2 or not texts or len(texts) % seeds:
        raise PenchantError(f"{len(texts)} texts with {seeds} seeds.", remedy="give two texts a prompt or more.")
    parts = [_parts(text) for text in texts]
    found = []
    for start in range(0, len(parts), seeds):
        own = parts[start : start + seeds]
        found.append(np.mean([_distance(own[i], own[j]) for i in range(seeds) for j in range(i)]))
    return Diversity(value=float(np.mean(found)), space="words", prompts=len(found), seeds=seeds)


def lengths(*sides: Sequence[Completion]) -> tuple[Float[np.ndarray, " N"], ...]:
    """Length of each side's texts in tokens, the one that ends a text included; in words if some tokens are unknown."""
    counted = all(sample.tokens for side in sides for sample in side)
    return tuple(np.array([float(len(s.tokens) if counted else len(words(s.text))) for s in side]) for side in sides)


def text_form(policy: Sequence[Completion], base: Sequence[Completion], *, seeds: int) -> TextForm:
    """The form of the policy's texts beside the base's.

    Args:
        policy: P x S completions, prompt by prompt.
        base: the base's at the same prompts and seeds.
        seeds: S.

    Raises:
        PenchantError: as `penchant.evaluate.winrate.mean_gain`.
    """

    def gain(measure: Callable[[Completion], float]) -> MeanGain:
        after, before = ([float(measure(s)) for s in side] for side in (policy, base))
        return mean_gain(np.reshape(after, (-1, seeds)), np.reshape(before, (-1, seeds)))

    counted = all(sample.tokens for sample in (*policy, *base))
    return TextForm(
        tokens=gain(lambda sample: len(sample.tokens)) if counted else None,
        words=gain(lambda sample: len(words(sample.text))),
        repeated=gain(lambda sample: repetition(sample.text)),
        unfinished=gain(lambda sample: not sample.finished),
    )


def _sequences(found: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(found[i:] for i in range(n)), strict=False))


def _parts(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {part for n in range(1, DISTINCT + 1) for part in _sequences(found, n)}


def _distance(first: set[tuple[str, ...]], second: set[tuple[str, ...]]) -> float:
    both = len(first | second)
    return 1 - len(first & second) / both if both else 0.0
