"""What the tests of the pipeline share: a recipe of toy stages, and how to run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toy_stages import Digits, Words

from penchant.synthesis import Made, Synthesis, Work, synthesize

PROMPTS = 10


def recipe(folder: Path, **more: Any) -> Synthesis:
    """Ten prompts, two generators, two rewards: 20 samples, 40 scores."""
    prompts = folder / "prompts.txt"
    if not prompts.exists():
        prompts.write_text("\n".join(f"prompt {i}" for i in range(PROMPTS)))
    settings: dict[str, Any] = {
        "name": "toy",
        "prompts": str(prompts),
        "generators": (Words(name="plain"), Words(name="fancy", style="fancy")),
        "rewards": (Digits(name="last"), Digits(name="second", place=2)),
        "out": str(folder / "out"),
        "licence": "CC0",
        "work": Work(workers=2),
    }
    return Synthesis(**(settings | more))


def make(recipe: Synthesis, **more: Any) -> Made:
    return synthesize(recipe, say=lambda line: None, **more)
