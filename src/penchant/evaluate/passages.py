"""Texts to look at: a prompt or conversation, and what several models answered, side by side.

Whatever a model wrote is shown as text and as nothing else. Every text stands in an element of its own with
`dir="auto"`, which isolates it: characters that turn the direction of writing end with the text that they stand in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penchant.errors import PenchantError
from penchant.evaluate.figures import count, number
from penchant.evaluate.markup import Markup, el
from penchant.feedback.groups import Prompt
from penchant.sampling.samplers import Modality

MOST = 20_000
"""Characters shown of one text; a page of a few dozen texts must stay a page."""

_COLUMNS = 3  # more would be too narrow to read


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text, the model it came from, the judge's score of it if any, its length and whether it ended by itself."""

    text: str
    label: str
    score: float | None = None
    tokens: int | None = None
    finished: bool = True


@dataclass(frozen=True, kw_only=True)
class TextRow:
    """Texts of one prompt and seed from several models, the base first.

    `preferred` is the index of the text that the judge prefers, None for a tie or where nobody judged.
    """

    modality: ClassVar[Modality] = "text"

    prompt: Prompt
    seed: int
    passages: tuple[Passage, ...]
    preferred: int | None = None

    def __post_init__(self) -> None:
        if not self.passages or (self.preferred is not None and not 0 <= self.preferred < len(self.passages)):
            raise PenchantError(
                f"text {self.preferred} of {len(self.passages)} cannot be the preferred one.", field="preferred"
            )

    def figure(self) -> Markup:
        """The texts as a <figure>, the prompt above them."""
        cells = [_cell(p, self.prompt.opening, index == self.preferred) for index, p in enumerate(self.passages)]
        columns = len(cells) if len(cells) <= _COLUMNS else 2 if len(cells) % 2 == 0 else _COLUMNS
        texts = el("div", *cells, class_="passages", style=f"--n:{columns}")
        return el("figure", _asked(self.prompt, self.seed), texts, class_="exhibit broad text")


@dataclass(frozen=True, kw_only=True)
class TextPair:
    """The base's and a policy's text of the same prompt and seed; the judge prefers the higher score."""

    modality: ClassVar[Modality] = "text"

    prompt: Prompt
    seed: int
    before: Passage
    after: Passage

    def row(self) -> TextRow:
        """The pair as a row of two."""
        first, second = self.before.score, self.after.score
        preferred = None if first is None or second is None or first == second else int(second > first)
        return TextRow(prompt=self.prompt, seed=self.seed, passages=(self.before, self.after), preferred=preferred)

    def figure(self) -> Markup:
        """The pair as a <figure>."""
        return self.row().figure()


def _asked(prompt: Prompt, seed: int) -> Markup:
    """The prompt: one text, or the turns of a conversation with who spoke."""
    mark = el("span", f"seed {seed}", class_="seed")
    if not prompt.messages:
        return el("figcaption", _text(prompt.text, class_="prompt"), mark)
    turns = [
        el("div", el("span", str(m.get("role", "")), class_="role"), _text(str(m.get("content", "")), class_="prompt"))
        for m in prompt.messages
    ]
    return el("figcaption", el("div", *turns), mark)


def _cell(passage: Passage, opening: str, preferred: bool) -> Markup:
    name = el("span", passage.label, el("span", " preferred by the judge", class_="spoken") if preferred else None)
    facts = [] if passage.tokens is None else [f"{count(passage.tokens)} tokens"]
    facts += [] if passage.finished else ["unfinished"]
    facts += [] if passage.score is None else [number(passage.score)]
    label = el("p", name, el("span", " · ".join(facts), class_="score"), class_="label")
    begun = el("span", opening, class_="opening") if opening else None
    body = _text(passage.text, begun, class_="words") if passage.text.strip() or opening else _empty(passage)
    return el("div", label, body, class_="passage preferred" if preferred else "passage")


def _empty(passage: Passage) -> Markup:
    return el("div", el("span", "(spaces only)" if passage.text else "(empty)", class_="quiet"), class_="words")


def _text(text: str, begun: Markup | None = None, *, class_: str) -> Markup:
    more = len(text) - MOST
    left = el("span", f" … {count(more)} more characters", class_="quiet") if more > 0 else None
    return el("div", begun, text[:MOST], left, dir="auto", class_=class_)
