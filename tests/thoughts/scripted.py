"""A policy that plays back a table, so that a test decides which rollout is right, beside the real verifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penchant.feedback.groups import Prompt
from penchant.judges.verifiers import ExactMatch
from penchant.models.completion import Completion, Decoding
from penchant.thoughts import Rollouts, ThoughtFormat

FORMAT = ThoughtFormat(end="#", exit="# ", finalise="# ", answer="# {}")
PROBLEM = Prompt(text="3+4=")


class Scripted:
    """Completions by what is asked (text and opening): the n-th different seed gets the n-th line, or the last.

    Greedy is the first line. `asked` records every (question, seed) in order.
    """

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        self.table = {question: list(lines) for question, lines in table.items()}
        self.seeds: dict[str, list[int]] = {}
        self.asked: list[tuple[str, int]] = []

    def complete(self, prompts: Sequence[Prompt], *, seeds: Sequence[int], decoding: Decoding) -> list[Completion]:
        found = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            question = prompt.text + prompt.opening
            self.asked.append((question, seed))
            known = self.seeds.setdefault(question, [])
            if seed not in known:
                known.append(seed)
            place = 0 if decoding.temperature == 0 else known.index(seed)
            text = self.table[question][min(place, len(self.table[question]) - 1)]
            found.append(Completion(text=text.removesuffix("..."), finished=not text.endswith("...")))
        return found


def rollouts(table: Mapping[str, Sequence[str]], **more: object) -> Rollouts:
    """Rollouts of a scripted policy on the problem 3+4=, whose answer is 7."""
    verifier = ExactMatch({PROBLEM.text: "7"}, marker="#")
    return Rollouts(generator=Scripted(table), verifier=verifier, format=FORMAT, count=len, **more)  # type: ignore[arg-type]


def lines(right: int, *, of: int = 8, first: bool = True) -> list[str]:
    """`of` answers, `right` of them 7; the right ones first or last."""
    good, bad = ["7"] * right, ["8"] * (of - right)
    return good + bad if first else bad + good
