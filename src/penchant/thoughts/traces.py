"""Traces: how a model writes a thought and its answer, and what of a completion is which."""

from __future__ import annotations

from dataclasses import dataclass, replace

from penchant.errors import RecipeError
from penchant.feedback.groups import Prompt, digest


@dataclass(frozen=True, kw_only=True)
class ThoughtFormat:
    r"""How a model's traces are written, and the words that end a thought.

    Attributes:
        end: closes the thought in the model's own traces; the answer follows.
        exit: the exit pattern. Appended to a thought that was cut, it makes the answer come at once.
        exit_stop: texts that end such an answer.
        answer: an exit's completion `{}` as the verifier reads answers, e.g. `\boxed{{{}}}`.
        finalise: the finalise pattern. It says that enough has been reasoned and closes the thought; the full answer
            follows. The paper describes it and does not print it: the words are ours.
        braces: the exit's answer stands in a brace that the exit pattern opened and ends where that is closed.
    """

    end: str
    exit: str
    finalise: str
    exit_stop: tuple[str, ...] = ()
    answer: str = "{}"
    braces: bool = False

    def __post_init__(self) -> None:
        if not (self.end and self.exit and self.finalise):
            raise RecipeError("a thought needs words that end it.", field="end, exit, finalise")
        if self.answer.format("x") == self.answer.format("y"):
            raise RecipeError("has no place for the answer.", field="answer", remedy="put {} where it goes.")

    def split(self, text: str) -> tuple[str, str] | None:
        """(thought, answer) of a trace, the answer with the words before it; None if the thought was never closed."""
        thought, end, answer = text.partition(self.end)
        return (thought, end + answer) if end else None


# The paper's exit pattern (DTO, arXiv 2505.21765); models of the R1 family close a thought with </think>.
R1 = ThoughtFormat(
    end="</think>",
    exit="... Wait, I suddenly got the final answer to the whole problem. Final Answer: \\boxed{",
    exit_stop=("}",),
    answer="\\boxed{{{}}}",
    finalise="\n\nI have reasoned enough, and what stands above settles the problem.\n</think>\n\n",
    braces=True,
)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One completion of a problem by the policy.

    Attributes:
        problem: what was asked.
        text: all of the completion.
        tokens: its length.
        right: the verifier accepts its answer.
        finished: it ended by itself.
        seed: what it was drawn with.
    """

    problem: Prompt
    text: str
    tokens: int
    right: bool
    finished: bool = True
    seed: int = 0

    @property
    def id(self) -> str:
        """Hash of problem and text."""
        return digest("trace", self.problem.text, self.problem.opening, self.text)


def opened(problem: Prompt, thought: str) -> Prompt:
    """The problem with an answer that has begun with `thought`."""
    return replace(problem, opening=problem.opening + thought)
