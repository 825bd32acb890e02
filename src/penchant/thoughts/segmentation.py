"""A thought as a list of thinking patterns: hypothesis, check, interim summary, another way (DTO, arXiv 2505.21765).

A pattern begins where a sentence begins with a linguistic marker ("Wait", "Alternatively", "So" ...). Segments are
pieces of the thought itself: joined, they are the thought again, to the character.

The list of markers, and that a pattern shorter than 16 tokens joins its neighbour, are ours: the paper does not give
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from penchant.errors import RecipeError
from penchant.feedback.groups import Prompt

Count = Callable[[str], int]
"""How many tokens a text has."""

# A sentence begins at the start of the thought, after a line break, or after a mark that ends a sentence and a space.
_SENTENCE_START = r"(?:\A|(?<=\n)|(?<=[.!?:;)\]] )|(?<=[.!?]\" )|(?<=[.!?]\n))"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One thinking pattern: its text as it stands in the thought, and what it is (the marker, or a reader's name)."""

    text: str
    pattern: str


@runtime_checkable
class Segmenter(Protocol):
    """Divides thoughts into patterns."""

    def divide(self, thoughts: Sequence[tuple[Prompt, str]], count: Count) -> list[tuple[Segment, ...] | None]:
        """The patterns of every (problem, thought); None of one that could not be divided."""


@dataclass(frozen=True, kw_only=True)
class Markers:
    """Linguistic markers: where a new thinking pattern begins.

    Attributes:
        words: markers; one counts only as whole words, at the start of a sentence, in this spelling.
        shortest: a segment of fewer tokens joins the one before it; the first one joins the one after it.
    """

    words: tuple[str, ...] = (
        "Wait",
        "Alternatively",
        "Hmm",
        "But",
        "However",
        "Let me check",
        "Let me verify",
        "Let me double-check",
        "Let me reconsider",
        "Another way",
        "So",
        "Therefore",
    )
    shortest: int = 16

    def __post_init__(self) -> None:
        if not self.words or not all(word.strip() == word and word for word in self.words):
            raise RecipeError("a marker is a word or a few.", field="words", remedy="give each without outer spaces.")
        if self.shortest < 0:
            raise RecipeError("a length is 0 or more.", field="shortest", remedy="use 0 to merge nothing.")

    def divide(self, thoughts: Sequence[tuple[Prompt, str]], count: Count) -> list[tuple[Segment, ...] | None]:
        """The patterns of every thought."""
        return [segment(thought, self, count) for _, thought in thoughts]


def segment(thought: str, markers: Markers, count: Count) -> tuple[Segment, ...]:
    """The patterns of a thought, in order; none of an empty one. A segment's `pattern` is the marker it begins with.

    Text before the first marker is a segment with the pattern "start".

    Args:
        thought: the text between the prompt and the end of the thought.
        markers: where patterns begin.
        count: tokens of a text, for the shortest segment.
    """
    # Longer markers first: "Let me double-check" must not read as a shorter one that begins it.
    words = sorted(markers.words, key=len, reverse=True)
    found = re.compile(rf"{_SENTENCE_START}(?:{'|'.join(map(re.escape, words))})\b")
    starts = [(match.start(), match.group()) for match in found.finditer(thought)]
    if not starts or starts[0][0] > 0:
        starts.insert(0, (0, "start"))
    ends = [start for start, _ in starts[1:]] + [len(thought)]
    pieces = [Segment(text=thought[a:b], pattern=name) for (a, name), b in zip(starts, ends, strict=True) if b > a]
    return merged(pieces, markers.shortest, count)


def merged(segments: Sequence[Segment], shortest: int, count: Count) -> tuple[Segment, ...]:
    """Slivers joined to the segment before them; a first one that is a sliver to the one after it, which names both."""
    out: list[Segment] = []
    for piece in segments:
        if out and count(out[0].text) < shortest and len(out) == 1:
            out[0] = Segment(text=out[0].text + piece.text, pattern=piece.pattern)
        elif out and count(piece.text) < shortest:
            out[-1] = Segment(text=out[-1].text + piece.text, pattern=out[-1].pattern)
        else:
            out.append(piece)
    return tuple(out)


def joined(segments: Sequence[Segment]) -> str:
    """The thought that segments make."""
    return "".join(piece.text for piece in segments)
