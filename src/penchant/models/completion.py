"""What text generation is: prompts in, completions out, whoever does the work (a local model, a server)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from penchant.errors import RecipeError

if TYPE_CHECKING:
    from penchant.feedback.groups import Prompt


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How tokens are drawn.

    Attributes:
        max_tokens: the longest completion, in tokens, the opening not counted.
        temperature: the logits are divided by it; 0 is greedy.
        top_p: the smallest set of tokens with this much probability is drawn from; 1 is all of them.
        stop: texts that end the completion and are cut from it.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise RecipeError("a completion has at least one token.", field="max_tokens", remedy="use 1 or more.")
        if not 0 <= self.temperature < float("inf"):
            raise RecipeError("not a temperature.", field="temperature", remedy="use 0 (greedy) or more.")
        if not 0 < self.top_p <= 1:
            raise RecipeError("not a probability.", field="top_p", remedy="use a value in (0, 1]; 1 cuts nothing.")
        if not all(self.stop):
            raise RecipeError("an empty text would stop everything.", field="stop", remedy="leave it out.")


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One completion.

    Attributes:
        text: what was generated, without the end token, the stop text and the prompt's opening.
        tokens: ids of all tokens generated, the end token included; () if a server does not tell.
        log_probs: of all tokens generated, at the sampling temperature before top_p cuts; () if unknown. A server may
            tell them without the tokens.
        finished: it ended by itself or at a stop text, not at `max_tokens`.
    """

    text: str
    tokens: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    finished: bool


@runtime_checkable
class TextGenerator(Protocol):
    """Completes prompts. A row depends on its (prompt, seed) alone, not on its batch."""

    def complete(self, prompts: Sequence[Prompt], *, seeds: Sequence[int], decoding: Decoding) -> list[Completion]:
        """One completion a (prompt, seed), in their order."""
