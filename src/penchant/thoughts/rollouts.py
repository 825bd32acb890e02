"""Rollouts: what the policy answers when its thought is cut here, and whether that is right.

Everything is asked for in large lists: the generator reads prefixes that prompts share once. The verifier is given the
answer alone, so that thousands of rollouts are a few different texts to it, which it keeps.

A rollout's seed is counted by problem, thought and number, so it does not depend on what else is asked, and the same
cut asked again is the same rollout (a cache under the generator then has it: `penchant.thoughts.cache`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from penchant.feedback.groups import Prompt, digest
from penchant.judges.base import Judge
from penchant.likelihoods.randomness import generator as counted
from penchant.models.completion import Completion, Decoding, TextGenerator
from penchant.thoughts.budget import Spent
from penchant.thoughts.segmentation import Count
from penchant.thoughts.traces import ThoughtFormat, Trace, opened

# A boxed answer of more nested closing braces than this is cut there and will not be right.
_NESTED = 8


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A problem and a thought about it that ends here."""

    problem: Prompt
    thought: str


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """The policy, a verifier and the format of the traces.

    Attributes:
        generator: the policy.
        verifier: scores (problem's text, answer) in its first dimension; above one half is right.
        format: how traces are written.
        count: tokens of a text.
        seed: key of every draw.
        spent: what the exits were.
    """

    generator: TextGenerator
    verifier: Judge
    format: ThoughtFormat
    count: Count
    seed: int = 0
    spent: Spent = field(default_factory=Spent)

    def traces(self, problems: Sequence[Prompt], *, each: int, decoding: Decoding) -> list[list[Trace]]:
        """`each` traces of every problem, verified; the verifier reads the answer as the trace gives it."""
        asked = [(p, self._seed("trace", p, "", n)) for p in problems for n in range(each)]
        found = self._complete([p for p, _ in asked], [seed for _, seed in asked], decoding)
        split = [self.format.split(completion.text) for completion in found]
        closed = [i for i, parts in enumerate(split) if parts is not None]
        answers = [parts[1] for parts in split if parts is not None]
        right = dict(zip(closed, self.right([asked[i][0] for i in closed], answers), strict=True))
        traces = [
            Trace(
                problem=problem,
                text=completion.text,
                tokens=self.count(completion.text),
                right=right.get(i, False) and completion.finished,
                finished=completion.finished,
                seed=seed,
            )
            for i, ((problem, seed), completion) in enumerate(zip(asked, found, strict=True))
        ]
        return [traces[i : i + each] for i in range(0, len(traces), each)]

    def exits(self, cuts: Sequence[Cut], numbers: Sequence[int], decoding: Decoding) -> list[tuple[str, bool]]:
        """Short answers right after the exit pattern: rollout number `numbers[i]` of `cuts[i]`, and if it is right.

        Returns:
            (answer as the verifier read it, right) for each.
        """
        prompts = [opened(cut.problem, cut.thought + self.format.exit) for cut in cuts]
        seeds = [self._seed("exit", c.problem, c.thought, n) for c, n in zip(cuts, numbers, strict=True)]
        texts = self._short(prompts, seeds, decoding)
        self.spent.add(prompts, sum(map(self.count, texts)), self.count)
        answers = [self.format.answer.format(text) for text in texts]
        return list(zip(answers, self.right([cut.problem for cut in cuts], answers), strict=True))

    def finals(self, cuts: Sequence[Cut], *, each: int, decoding: Decoding) -> list[list[tuple[str, bool]]]:
        """`each` full endings of every cut after the finalise pattern: (pattern and completion, right).

        A completion that did not end by itself is not right.
        """
        pattern = self.format.finalise
        asked = [(cut, n) for cut in cuts for n in range(each)]
        prompts = [opened(cut.problem, cut.thought + pattern) for cut, _ in asked]
        seeds = [self._seed("final", cut.problem, cut.thought, n) for cut, n in asked]
        found = self._complete(prompts, seeds, decoding)
        answers = [pattern + completion.text for completion in found]
        right = self.right([cut.problem for cut, _ in asked], answers)
        ends = [(text, ok and c.finished) for text, ok, c in zip(answers, right, found, strict=True)]
        return [ends[i : i + each] for i in range(0, len(ends), each)]

    def right(self, problems: Sequence[Prompt], answers: Sequence[str]) -> list[bool]:
        """Whether the verifier accepts each answer."""
        if not answers:
            return []
        scores = self.verifier.score([problem.text for problem in problems], list(answers))
        return [bool(score > 0.5) for score in scores[:, 0]]

    def _short(self, prompts: Sequence[Prompt], seeds: Sequence[int], decoding: Decoding) -> list[str]:
        """Completions up to the exit's stop; where braces are open within the answer, up to the one that closes it."""
        texts = [completion.text for completion in self._complete(prompts, seeds, decoding)]
        open_ = list(range(len(texts)))
        for _ in range(_NESTED if self.format.braces else 0):
            open_ = [i for i in open_ if texts[i].count("{") > texts[i].count("}")]
            if not open_:
                break
            longer = [opened(prompts[i], texts[i] + "}") for i in open_]
            more = self._complete(longer, [seeds[i] for i in open_], decoding)
            for i, completion in zip(open_, more, strict=True):
                texts[i] += "}" + completion.text
        return texts

    def _complete(self, prompts: Sequence[Prompt], seeds: Sequence[int], decoding: Decoding) -> list[Completion]:
        if not prompts:
            return []
        return self.generator.complete(prompts, seeds=seeds, decoding=decoding)

    def _seed(self, purpose: str, problem: Prompt, thought: str, number: int) -> int:
        id = digest(problem.text, problem.opening, thought)
        return int(counted(self.seed, number, id, f"thoughts/{purpose}").integers(2**31))
