"""The thinker's problems: chains of one-digit numbers made and scored by reasoning-gym's `chain_sum`.

Training and held-out problems differ by their text: a checksum of the expression says to which side a problem belongs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from penchant.errors import ModelError
from penchant.zoo.thinker.teacher import ANSWER

Split = Literal["train", "test"]

# Numbers of terms that the thinker is trained on.
TERMS = (3, 7)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """`prompt` is what the model reads, `4+3-2=`; `entry` is reasoning-gym's own record, which its scorer wants."""

    prompt: str
    answer: str
    entry: Mapping[str, Any]

    @property
    def expression(self) -> str:
        return self.prompt.removesuffix("=")

    @property
    def terms(self) -> int:
        return int(self.entry["metadata"]["num_terms"])


def split_of(expression: str) -> Split:
    """One chain in eight is held out."""
    return "test" if zlib.crc32(expression.encode()) % 8 == 0 else "train"


def stream(terms: int | tuple[int, int], seed: int, *, split: Split = "test") -> Iterator[Problem]:
    """Problems without end, with repetitions; `terms` is a number of terms or a range, both ends included.

    Raises:
        ModelError: reasoning-gym is not installed.
    """
    low, high = (terms, terms) if isinstance(terms, int) else terms
    source, index = _source(low, high), seed * 10_000_019
    while True:
        entry = source[index]
        expression = entry["metadata"]["expression"].replace(" ", "")
        if split_of(expression) == split:
            yield Problem(prompt=f"{expression}=", answer=entry["answer"], entry=entry)
        index += 1


def problems(
    count: int, terms: int | tuple[int, int] = TERMS, seed: int = 0, *, split: Split = "test"
) -> list[Problem]:
    """`count` different problems; the same for the same arguments."""
    found: dict[str, Problem] = {}
    for problem in stream(terms, seed, split=split):
        found.setdefault(problem.prompt, problem)
        if len(found) >= count:
            break
    return list(found.values())


def answer_of(text: str) -> str | None:
    """What stands behind the last answer mark, or None."""
    _, mark, answer = text.rpartition(ANSWER)
    return answer.strip() if mark else None


def verify(problem: Problem, text: str) -> bool:
    """Whether `text` ends in the right answer, by reasoning-gym's own scorer."""
    answer = answer_of(text)
    return bool(answer) and _source(2, 2).score_answer(answer, dict(problem.entry)) == 1.0


@cache
def _source(low: int, high: int) -> Any:
    try:
        from reasoning_gym.arithmetic.chain_sum import ChainSumConfig, ChainSumDataset
    except ImportError as error:
        raise ModelError("reasoning-gym is not installed.", remedy='pip install "penchant[reasoning]"') from error
    return ChainSumDataset(ChainSumConfig(min_terms=low, max_terms=high, min_digits=1, max_digits=1, seed=0, size=1))
