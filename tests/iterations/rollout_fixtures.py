"""A tiny language model, a judge that reads anything, and iterations of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np

from penchant.iterations import Draws, Iterations, SimulatedPanel
from penchant.judges.base import Judge
from penchant.likelihoods import Autoregressive
from penchant.models import Policy
from penchant.models.completion import Decoding
from penchant.objectives import IREPO
from penchant.recipe import Evaluation, Training

WORDS = ["rain", "a long train", "tea", "the sea at night", "bread", "snow", "wool", "a red door", "ink", "two birds"]


@final
class Late(Judge):
    """The mean byte: a liking for late letters, by which even the noise of random weights can be judged."""

    name, version, dimensions = "late", "1", ("late",)

    def __init__(self, path: str | None = None) -> None:
        """Has no weights."""

    def score(self, prompts: Sequence[str], samples: Sequence[str]) -> np.ndarray:
        """Of each text."""
        return np.array([np.mean(list(text.encode()) or [0]) for text in samples]).reshape(-1, 1)


def spec(llama: Path, prompts: Path, out: Path, **changes) -> Iterations:
    made = Iterations(
        name="rounds",
        policy=Policy(path=str(llama), lora=2),
        likelihood=Autoregressive(),
        objective=IREPO(beta=0.5),
        prompts=str(prompts),
        annotators=(SimulatedPanel(judge="late", agreement=0.8, annotators=3),),
        train=Training(batch_size=2, lr=1e-2),
        rounds=2,
        prompts_a_round=4,
        draws=Draws(candidates=3, decoding=Decoding(max_tokens=6, top_p=0.95), batch_size=4),
        stop_at=None,
        out=str(out),
        threads=1,
    )
    return replace(made, **changes)


def judged(prompts: Path) -> Evaluation:
    """By the same judge, on prompts of another file."""
    decoding = Decoding(max_tokens=6)
    return Evaluation(prompts=str(prompts), count=4, decoding=decoding, judges=("late",))


def quiet(text: str) -> None:
    """Says nothing."""
