"""Music goes through the unchanged loop: pairs of sounds and rollouts, codes and latents, resumed exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_loop import align_until, metrics, quiet

import penchant
from penchant.feedback import Candidate, Group, Judgement, export_audio_alpaca
from penchant.feedback.audio_encoding import encode_sound
from penchant.feedback.groups import Media
from penchant.feedback.sound import Sound
from penchant.likelihoods import Autoregressive, Diffusion
from penchant.models import Policy
from penchant.objectives import DPO, OBJECTIVES
from penchant.recipe import Preferences, Recipe, Training
from penchant.recipe_file import to_toml
from penchant.recipes import find
from penchant.run import align
from penchant.testing import build

FAMILIES = {
    "musicgen": (Autoregressive(caption_dropout=0.1), DPO(beta=0.1)),
    "stable-audio": (Diffusion(prediction="v_prediction"), DPO(beta=100.0)),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("music")
    for name in FAMILIES:
        build(name, root / name)
    rng = np.random.default_rng(0)

    def tone(pitch: float) -> Candidate:
        samples = 0.4 * np.sin(2 * np.pi * pitch * np.arange(9600) / 16000) + 0.02 * rng.standard_normal(9600)
        return Candidate(media=Media.of(encode_sound(Sound(samples=samples[None].astype(np.float32), rate=16000))))

    groups = []
    for i in range(6):
        low, high = tone(200 + 10 * i), tone(900 + 50 * i)
        vote = Judgement(kind="pair", source="reward:clap", values=(1.0, 0.0))
        groups.append(Group(prompt=f"a low tone, number {i}", candidates=(low, high), judgements=(vote,)))
    assert export_audio_alpaca(groups, root / "train.parquet") == 6
    return root


def recipe(root: Path, family: str, out: Path, *, lora: int = 2, **train) -> Recipe:
    likelihood, objective = FAMILIES[family]
    return Recipe(
        name=family,
        policy=Policy(path=str(root / family), lora=lora),
        likelihood=likelihood,
        objective=objective,
        feedback=Preferences(path=str(root / "train.parquet")),
        train=Training(**{"steps": 4, "batch_size": 3, "lr": 3e-3} | train),
        out=str(out),
        threads=1,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_of_sounds_train_a_model_that_comes_back(root, family, tmp_path) -> None:
    said: list[str] = []
    run = recipe(root, family, tmp_path / "run", steps=6, batch_size=6, lr=1e-3)
    assert align(run, say=said.append).outcome.step == 6
    rows = metrics(tmp_path / "run")
    assert rows[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert rows[-1]["loss"] < rows[0]["loss"]
    model = penchant.load(root / family, adapter=str(tmp_path / "run" / "model"))
    assert model.fingerprint() != penchant.load(root / family, lora=2).fingerprint()
    if family == "musicgen":
        assert any("longer than 0.12 s" in line for line in said)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_run_is_the_run_that_was_never_stopped(root, family, tmp_path, monkeypatch) -> None:
    whole = recipe(root, family, tmp_path / "whole")
    align(whole, say=quiet)
    parts = replace(whole, out=str(tmp_path / "parts"))
    assert 0 < align_until(parts, 2, monkeypatch) < 4
    align(parts, resume=True, say=quiet)
    names = {
        penchant.load(root / family, adapter=str(tmp_path / name / "model")).fingerprint()
        for name in ("whole", "parts")
    }
    assert len(names) == 1
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


def test_one_candidate_at_a_time_gives_the_same_run(root, tmp_path) -> None:
    for name, by_candidate in (("at-once", False), ("one-by-one", True)):
        align(recipe(root, "musicgen", tmp_path / name, by_candidate=by_candidate), say=quiet)
    losses = [[row["loss"] for row in metrics(tmp_path / name)] for name in ("at-once", "one-by-one")]
    np.testing.assert_allclose(*losses, rtol=1e-4, atol=1e-5)


def test_the_real_scales_recipe_trains_a_tiny_model(root, tmp_path) -> None:
    found = find("stable-audio-dpo")
    assert found.train.steps * found.train.batch_size <= 4 * 15_000 < (found.train.steps + 1) * found.train.batch_size
    assert (found.objective, found.policy.seconds, found.train.lr) == (OBJECTIVES["dpo"](beta=2000.0), 10.0, 9.6e-7)
    run = replace(
        found,
        policy=replace(found.policy, path=str(root / "stable-audio"), seconds=0.016),
        feedback=replace(found.feedback, path=str(root / "train.parquet")),
        train=replace(found.train, steps=2, batch_size=2, micro_batch=1, precision="no"),
        out=str(tmp_path / "run"),
    )
    assert "stable-audio" in to_toml(run)
    assert align(run, say=quiet).outcome.step == 2
    assert torch.isfinite(torch.tensor([row["loss"] for row in metrics(tmp_path / "run")])).all()
