"""Pictures and clips in the same loop: paths whose steps were drawn, and final latents on the ordinary bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from online_fixtures import WORDS, metrics, quiet, same, weights

import penchant
from penchant.feedback.groups import Prompt
from penchant.likelihoods import DenoisingPath, Diffusion, FlowMatching
from penchant.likelihoods.transitions import CPS, DDIM, DanceSDE, FlowSDE
from penchant.models import Policy
from penchant.objectives import DPO, GRPO, DiffusionNFT
from penchant.recipe import Recipe, RewardTerm, Rollouts, Training
from penchant.references import Reference
from penchant.rollouts import Collector
from penchant.rollouts.actors import actor_of
from penchant.rollouts.rewards import Purse
from penchant.run import align
from penchant.testing import build
from penchant.types import Draw

FAMILIES = ("stable-diffusion", "stable-diffusion-3", "wan")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pipelines")
    return {name: build(name, root / name) for name in FAMILIES}


def recipe(
    folder: Path, prompts: Path, out: Path, likelihood: Any, *, judge: str = "sharpness", **changes: Any
) -> Recipe:
    parts: dict[str, Any] = {
        "objective": GRPO(clip_low=1e-4, clip_high=1e-4),
        "train": Training(steps=2, batch_size=2, lr=1e-3, micro_batch=1),
        "threads": 1,
    }
    feedback = Rollouts(
        prompts=str(prompts), rewards=(RewardTerm(judge=judge),), candidates=3, prompts_a_round=2, steps=3, batch_size=4
    )
    policy = Policy(path=str(folder), lora=2, resolution=16)
    return Recipe(
        name="online", policy=policy, likelihood=likelihood, feedback=feedback, out=str(out), **parts | changes
    )


PATHS: dict[str, tuple[str, Any]] = {
    "DDPO": ("stable-diffusion", DenoisingPath(transition=DDIM(), steps=4)),
    "DDPO with guidance": ("stable-diffusion", DenoisingPath(transition=DDIM(), steps=3, guidance=2.0)),
    "Flow-GRPO": ("stable-diffusion-3", DenoisingPath(transition=FlowSDE(), steps=4)),
    "a window": ("stable-diffusion-3", DenoisingPath(transition=CPS(), steps=6, window=2)),
    "DanceGRPO on clips": ("wan", DenoisingPath(transition=DanceSDE(), steps=3)),
}


@pytest.mark.parametrize(("family", "likelihood"), PATHS.values(), ids=PATHS)
def test_a_path_is_scored_as_it_was_drawn_and_learnt_from(family, likelihood, folders, prompts, tmp_path):
    judge = "smoothness" if family == "wan" else "sharpness"
    run = recipe(folders[family], prompts, tmp_path / "run", likelihood, judge=judge)
    model = penchant.load(run.policy)
    data = Collector(
        run, [Prompt(text=w) for w in WORDS], actor_of(run, model, Accelerator()), Purse(run.feedback), Accelerator()
    )
    data.before_step(0, model)
    batch = data.batch([0, 1])
    scored = likelihood.log_prob(model, batch, Draw(key_B=batch.group_ids))
    assert batch.behavior is not None
    assert torch.equal(batch.behavior.mask_BKT, scored.mask_BKT)
    torch.testing.assert_close(batch.behavior.per_step(), scored.per_step().detach(), rtol=1e-4, atol=1e-4)
    align(run, say=quiet)
    first = metrics(tmp_path / "run")[0]
    assert first["ratio/mean"] == pytest.approx(1, abs=1e-3)
    assert np.isfinite([line["loss"] for line in metrics(tmp_path / "run")]).all()
    before = [p.detach().clone() for p in model.trainable_parameters()]
    after = penchant.load(Policy(path=str(folders[family]), adapter=str(tmp_path / "run" / "model"), resolution=16))
    moved = [float((a.detach() - b).abs().max()) for a, b in zip(after.trainable_parameters(), before, strict=True)]
    assert max(moved) > 0


@pytest.mark.parametrize(
    ("family", "likelihood", "changes"),
    [
        ("stable-diffusion", Diffusion(), {"objective": DiffusionNFT(), "reference": Reference(kind="round")}),
        (
            "stable-diffusion-3",
            FlowMatching(),
            {"objective": DiffusionNFT(), "reference": Reference(kind="round", lag=0.5)},
        ),
        # Advantage Weighted Matching, one update a round.
        ("stable-diffusion-3", FlowMatching(), {"objective": GRPO()}),
        ("stable-diffusion", Diffusion(), {"objective": DPO(beta=100.0, pairing="best_worst")}),
    ],
)
def test_bounds_learn_from_final_latents(family, likelihood, changes, folders, prompts, tmp_path):
    run = recipe(folders[family], prompts, tmp_path / "run", likelihood, **changes)
    align(run, say=quiet)
    assert np.isfinite([line["loss"] for line in metrics(tmp_path / "run")]).all()
    assert "rewards/sharpness" in metrics(tmp_path / "run")[0]


def test_samples_of_a_prompt_may_begin_alike(folders, prompts, tmp_path):
    from dataclasses import replace

    likelihood = DenoisingPath(transition=DDIM(), steps=3)
    states = []
    for share in (False, True):
        run = recipe(folders["stable-diffusion"], prompts, tmp_path / str(share), likelihood)
        run = replace(run, feedback=replace(run.feedback, share_start=share))
        model = penchant.load(run.policy)
        actor = actor_of(run, model, Accelerator())
        drawn = actor.draw(model, [Prompt(text="a"), Prompt(text="a"), Prompt(text="b")], [1, 2, 3], round=0)
        states.append([rollout.candidate["state"][0] for rollout in drawn])
    assert not torch.equal(states[0][0], states[0][1])
    assert torch.equal(states[1][0], states[1][1])
    assert not torch.equal(states[1][0], states[1][2])


def test_a_path_run_resumes_to_the_same_bits(folders, prompts, tmp_path, monkeypatch):
    from test_collector import StopAfter

    import penchant.train.guards as guards

    likelihood = DenoisingPath(transition=FlowSDE(), steps=4, window=1)
    train = Training(steps=3, batch_size=2, lr=1e-3)
    whole = recipe(folders["stable-diffusion-3"], prompts, tmp_path / "whole", likelihood, train=train)
    align(whole, say=quiet)
    cut = recipe(folders["stable-diffusion-3"], prompts, tmp_path / "cut", likelihood, train=train)
    with monkeypatch.context() as patch:
        patch.setattr(guards, "StopRequest", lambda: StopAfter(2))
        assert align(cut, say=quiet).outcome.stopped_by == 15
    align(cut, resume=True, say=quiet)
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
