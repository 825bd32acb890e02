"""What the thinker does on problems that it was not trained on: how often it is right, how long it thinks, what for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from penchant.feedback.groups import Prompt
from penchant.models.completion import Decoding, TextGenerator
from penchant.zoo.thinker.problems import TERMS, Problem, problems, verify
from penchant.zoo.thinker.teacher import ANSWER, EXIT, MARKERS, SEPARATOR

_BOUNDARY = re.compile(rf"(?<=\.){SEPARATOR}(?={'|'.join((*MARKERS, ANSWER))})")
# A trace of the teacher has at most 360 characters on 8 terms; an answer has three and the end.
_TRACE, _EXIT = 400, 6


@dataclass(frozen=True, kw_only=True)
class Thought:
    """What the model wrote about a problem, its thinking patterns, and whether the answer is right."""

    problem: Problem
    text: str
    patterns: tuple[str, ...]
    right: bool


def think(model: TextGenerator, asked: Sequence[Problem], *, seed: int = 0, temperature: float = 1.0) -> list[Thought]:
    """One trace a problem."""
    written = model.complete(
        [Prompt(text=problem.prompt) for problem in asked],
        seeds=[seed] * len(asked),
        decoding=Decoding(max_tokens=_TRACE, temperature=temperature),
    )
    return [
        Thought(
            problem=problem,
            text=completion.text,
            patterns=tuple(p for p in _BOUNDARY.split(completion.text) if not p.startswith(ANSWER)),
            right=completion.finished and verify(problem, completion.text),
        )
        for problem, completion in zip(asked, written, strict=True)
    ]


def exits(model: TextGenerator, thoughts: Sequence[Thought], *, samples: int = 8, seed: int = 0) -> list[list[float]]:
    """The share of right answers, of `samples` at temperature 1, when each thought stops after its 1st, 2nd ...
    pattern."""
    rows = [(thought, SEPARATOR.join((*thought.patterns[:n], EXIT))) for thought in thoughts for n in _points(thought)]
    written = model.complete(
        [Prompt(text=t.problem.prompt, opening=opening) for t, opening in rows for _ in range(samples)],
        seeds=[seed + i for _ in rows for i in range(samples)],
        decoding=Decoding(max_tokens=_EXIT),
    )
    right = [verify(rows[i // samples][0].problem, EXIT + done.text) for i, done in enumerate(written)]
    shares = iter([sum(right[i : i + samples]) / samples for i in range(0, len(right), samples)])
    return [[next(shares) for _ in _points(thought)] for thought in thoughts]


def measure(model: TextGenerator, *, count: int = 400, seed: int = 1) -> Mapping[str, float]:
    """The numbers on the card, from `count` held-out problems of each kind."""
    usual, longer = problems(count, TERMS, seed), problems(count, TERMS[1] + 1, seed)
    thoughts = think(model, usual)
    curves = exits(model, thoughts)
    further = [curve for curve in curves if len(curve) > 1]
    wrong = [curve for thought, curve in zip(thoughts, curves, strict=True) if not thought.right]
    found = {
        "right": fmean(t.right for t in thoughts),
        "right, greedy": fmean(t.right for t in think(model, usual, temperature=0.0)),
        "right, one term more": fmean(t.right for t in think(model, longer)),
        "right, one term more, greedy": fmean(t.right for t in think(model, longer, temperature=0.0)),
        "patterns": fmean(len(t.patterns) for t in thoughts),
        "characters": fmean(len(t.text) for t in thoughts),
        "exit after the first pattern, traces that think on": fmean(curve[0] for curve in further),
        "exit after the last pattern, the same traces": fmean(curve[-1] for curve in further),
        "wrong traces with an earlier right exit": fmean(max(curve[:-1], default=0.0) > 0.5 for curve in wrong),
    }
    for n in range(max(map(len, curves))):
        found[f"exit after pattern {n + 1}"] = fmean(curve[n] for curve in curves if len(curve) > n)
    for n in range(TERMS[0], TERMS[1] + 1):
        found[f"right, {n} terms"] = fmean(t.right for t in thoughts if t.problem.terms == n)
    return {name: round(value, 3) for name, value in found.items()}


def _points(thought: Thought) -> range:
    return range(1, len(thought.patterns) + 1)
