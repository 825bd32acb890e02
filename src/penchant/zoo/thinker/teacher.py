"""The simulated teacher of the thinker: a program, not a person, that adds up numbers, slips and over-thinks.

A trace continues the problem `4+3-2+5=`, one step between two commas, the running sum written twice:

    4+3=7, 7-2=5, 5+5=10. Wait, check: 4+3=7, 7-2=5, 5+5=10. Alternatively: -2+5=+3, +3+3=+6, 4+6=10. # 10

The first pattern works from the left. Whether another pattern follows is a coin that does not look at the problem: that
is the over-thinking. A check works from the left again, an alternative from the right, and the last result is the
answer, so a further pattern repairs a slip or makes one. Checks are careful after a slip that was noticed and careless
otherwise: they help after a wrong result and hurt after a right one. Rates and format are ours.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

CHECK = "Wait, check: "
ALTERNATIVE = "Alternatively: "
# How a further thinking pattern begins, at the start of a sentence; none begins like the answer does.
MARKERS = ("Wait", "Alternatively")
# The answer stands behind this mark, at the end of the trace.
ANSWER = "#"
# What stands between two patterns, and between the last pattern and the answer.
SEPARATOR = " "
# Appended to a pattern and its separator, it makes the model answer at once: the mark that the teacher answers with.
EXIT = "# "
# Ends a trajectory that was cut: here the same words.
FINALISE = "# "

_TERM = re.compile(r"[+-]?\d+")


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """How often the simulated teacher slips and thinks on.

    `slip` is the rate of wrong steps of the first pattern; `careless` and `careful` multiply it for later ones.
    """

    slip: float = 0.03
    careless: float = 2.5
    careful: float = 0.4
    notice: float = 0.75
    further: float = 0.75
    check: float = 0.65
    max_patterns: int = 4

    def trace(self, expression: str, rng: random.Random) -> str:
        """A trace for the chain `expression`, such as `4+3-2+5`, up to and including the answer."""
        truth = sum(int(term) for term in terms(expression))
        patterns = [work(expression, self.slip, rng)]
        while len(patterns) < self.max_patterns and rng.random() < self.further:
            checks = rng.random() < self.check
            wrong = result(patterns[-1]) != truth
            noticed = checks and wrong and rng.random() < self.notice
            rate = self.slip * (self.careful if noticed else self.careless)
            marker = CHECK if checks else ALTERNATIVE
            patterns.append(marker + work(expression, rate, rng, backwards=not checks))
        return SEPARATOR.join([*patterns, f"{EXIT}{result(patterns[-1])}"])


def terms(expression: str) -> list[str]:
    """The signed terms of a chain: `4+3-2` gives `4`, `+3`, `-2`."""
    return _TERM.findall(expression)


def work(expression: str, rate: float, rng: random.Random, *, backwards: bool = False) -> str:
    """One pass over the chain, each step wrong with probability `rate`: `4+3=7, 7-2=5, 5+5=10.`"""
    first, *rest = terms(expression)
    steps = []
    if backwards:
        running = rest[-1]
        for left in [*rest[-2::-1], first]:
            total = _add(left, running, rate, rng)
            steps.append(f"{left}{running}={total:+d}")
            running = f"{total:+d}"
        steps[-1] = steps[-1].replace("=+", "=")
    else:
        running = first
        for right in rest:
            total = _add(running, right, rate, rng)
            steps.append(f"{running}{right}={total}")
            running = str(total)
    return ", ".join(steps) + "."


def result(pattern: str) -> int:
    """What a pattern came to."""
    return int(pattern.rstrip(".").rpartition("=")[2])


def _add(left: str, right: str, rate: float, rng: random.Random) -> int:
    """The sum, or with probability `rate` a number one or two away from it."""
    slip = rng.choice((-2, -1, 1, 2)) if rng.random() < rate else 0
    return int(left) + int(right) + slip
