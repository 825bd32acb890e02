"""A tiny language model that learns online from a judge of letters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from safetensors.torch import load_file

from penchant.judges.base import Judge
from penchant.likelihoods import Autoregressive
from penchant.models import Policy
from penchant.models.completion import Decoding
from penchant.objectives import RWR, SoftmaxWeight
from penchant.recipe import Recipe, RewardTerm, Rollouts, Training

WORDS = ["rain", "a long train", "tea", "the sea at night", "bread"]


@final
class Late(Judge):
    """The mean byte: a liking for late letters, by which even the noise of random weights can be judged."""

    name, version, dimensions = "late", "1", ("late",)

    def __init__(self, path: str | None = None) -> None:
        """Has no weights."""

    def score(self, prompts: Sequence[str], samples: Sequence[str]) -> np.ndarray:
        """Of each text."""
        return np.array([np.mean(list(text.encode()) or [0]) for text in samples]).reshape(-1, 1)


@final
class Lengthy(Judge):
    """Bytes, and their number squared: two dimensions."""

    name, version, dimensions = "lengthy", "1", ("bytes", "squared")

    def __init__(self, path: str | None = None) -> None:
        """Has no weights."""

    def score(self, prompts: Sequence[str], samples: Sequence[str]) -> np.ndarray:
        """Of each text."""
        return np.array([[len(text), len(text) ** 2] for text in samples], dtype=float)


@final
class Broken(Judge):
    """Not a number."""

    name, version, dimensions = "broken", "1", ("broken",)

    def __init__(self, path: str | None = None) -> None:
        """Has no weights."""

    def score(self, prompts: Sequence[str], samples: Sequence[str]) -> np.ndarray:
        """Of each text."""
        return np.full((len(samples), 1), np.nan)


JUDGES = {name: f"online_fixtures:{name.title()}" for name in ("late", "lengthy", "broken")}


def feedback(prompts: Path, **changes: Any) -> Rollouts:
    """Four samples of four prompts, drawn five at a time."""
    made = Rollouts(
        prompts=str(prompts),
        rewards=(RewardTerm(judge="late", low=0.0, high=256.0),),
        candidates=4,
        prompts_a_round=4,
        # Six bytes of random weights hardly ever end.
        unfinished="keep",
        decoding=Decoding(max_tokens=6),
        batch_size=5,
    )
    return replace(made, **changes)


def recipe(llama: Path, prompts: Path, out: Path, *, lora: int = 2, rollouts: Any = None, **changes: Any) -> Recipe:
    """Six steps of two groups: three rounds."""
    parts: dict[str, Any] = {
        "policy": Policy(path=str(llama), lora=lora),
        "likelihood": Autoregressive(),
        "objective": RWR(weight=SoftmaxWeight(temperature=0.1)),
        "feedback": feedback(prompts, **(rollouts or {})),
        "train": Training(steps=6, batch_size=2, lr=1e-2),
        "threads": 1,
    }
    return Recipe(name="online", out=str(out), **parts | changes)


def quiet(text: str) -> None:
    """Says nothing."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the model that a run saved."""
    (file,) = (folder / "model").glob("*.safetensors")
    return load_file(file)


def metrics(folder: Path) -> list[dict[str, float]]:
    """Without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "groups_per_second"} for line in lines]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
