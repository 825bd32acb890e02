"""MusicGen learns online: what is drawn is what is scored, with the value network and the exact KL of MusicRL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import pytest

import penchant.judges
from penchant.feedback.sound import Sound
from penchant.judges.base import Judge
from penchant.likelihoods import Autoregressive
from penchant.models import Policy
from penchant.models.completion import Decoding
from penchant.objectives import OBJECTIVES, REINFORCE
from penchant.recipe import Recipe, RewardTerm, Rollouts, Training
from penchant.references import Reference
from penchant.run import align
from penchant.testing import build


@final
class Loud(Judge):
    """Root mean square of a sound."""

    name, version, dimensions = "loud", "1", ("loud",)

    def __init__(self, path: str | None = None) -> None:
        """Has no weights."""

    def score(self, prompts: Sequence[str], samples: Sequence[Sound]) -> np.ndarray:
        """Of each sound."""
        return np.array([np.sqrt(np.square(s.samples).mean()) for s in samples]).reshape(-1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build("musicgen", tmp_path_factory.mktemp("music") / "musicgen")


@pytest.fixture
def prompts(tmp_path, monkeypatch) -> Path:
    monkeypatch.setitem(penchant.judges.JUDGES, "loud", f"{__name__}:Loud")
    path = tmp_path / "prompts.txt"
    path.write_text("a jig\nrain\na slow waltz\nbells\n")
    return path


def recipe(
    folder: Path, prompts: Path, out: Path, objective, *, K: int, lora: int = 0, guidance: float = 1.0
) -> Recipe:
    return Recipe(
        name="music",
        policy=Policy(path=str(folder), lora=lora, guidance=guidance),
        likelihood=Autoregressive(temperature=0.99),
        objective=objective,
        feedback=Rollouts(
            prompts=str(prompts),
            rewards=(RewardTerm(judge="loud", low=0.0, high=0.1),),
            candidates=K,
            prompts_a_round=4,
            decoding=Decoding(temperature=0.99),
        ),
        reference=Reference(),
        train=Training(steps=2, batch_size=4, lr=1e-3),
        out=str(out),
        threads=1,
    )


def rows(folder: Path) -> list[dict]:
    import json

    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_reinforce_with_a_value_network_and_the_exact_kl(folder, prompts, tmp_path) -> None:
    run = recipe(folder, prompts, tmp_path / "run", REINFORCE(alpha=0.05), K=1)
    assert align(run, say=lambda text: None).outcome.step == 2
    first, second = rows(tmp_path / "run")
    assert first["kl"] == pytest.approx(0, abs=1e-5)
    assert second["kl"] > 0
    assert first["rollouts/steps"] == 15
    assert first["rollouts/unfinished"] == 0
    assert penchant.load(tmp_path / "run" / "model").fingerprint() != penchant.load(folder).fingerprint()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_grpo_begins_on_policy_with_guidance_inside_the_policy_or_without(folder, prompts, tmp_path, guidance) -> None:
    run = recipe(folder, prompts, tmp_path / "run", OBJECTIVES["grpo"](), K=3, lora=2, guidance=guidance)
    assert align(run, say=lambda text: None).outcome.step == 2
    found = rows(tmp_path / "run")
    ratios = [value for row in found for name, value in row.items() if "ratio" in name and "clip" not in name]
    assert ratios
    assert ratios == pytest.approx([1.0] * len(ratios), abs=1e-3)
