"""The toy of `reproduce/flow_toy.py`, short: who moves further than whom, and what shared noise does to a reward."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from penchant.objectives import DPO, RWR, SFT
from penchant.sampling.guidance import RewardGuidance
from penchant.sampling.ode import Steering

sys.path.insert(0, str(Path(__file__).parents[2] / "reproduce"))
import flow_toy as toy

SIZE = toy.Size(pretraining=600, training=50, pairs=1024, samples=1000, sampling=20)
LOOK: dict[str, Any] = {"count": SIZE.samples, "seed": 2, "steps": SIZE.sampling}


@pytest.fixture(scope="module")
def base() -> toy.Plane:
    return toy.pretrained(0, SIZE)


@pytest.fixture(scope="module")
def pairs(base: toy.Plane) -> toy.Pairs:
    drawn = toy.points(base, 2 * SIZE.pairs, seed=1, steps=SIZE.sampling)
    return toy.Pairs(latents_NK2=drawn.reshape(SIZE.pairs, 2, 2))


def test_every_method_moves_to_the_preferred_mode_and_dpo_as_far_as_beta_lets_it(
    base: toy.Plane, pairs: toy.Pairs
) -> None:
    def after(objective: Any, likelihood: Any = toy.CONSTANT) -> dict[str, float]:
        policy = toy.aligned(base, pairs, objective, likelihood, 0, SIZE, rate=1e-3)
        return toy.measure(toy.points(policy, **LOOK))

    before = toy.measure(toy.points(base, **LOOK))
    sft, rwr, tight, loose, derived = (
        after(SFT()),
        after(RWR()),
        after(DPO(beta=20.0)),
        after(DPO(beta=1.0)),
        after(DPO(beta=20.0), toy.DERIVED),
    )
    assert before["good"] < sft["good"] < rwr["good"]
    assert before["good"] < tight["good"] < loose["good"]
    # Imitation stays among the data; a loose leash does not.
    assert max(sft["distance"], rwr["distance"], tight["distance"]) < loose["distance"]
    # At equal beta the weight (1 - t)^2 regularises less: further to the right and further off.
    assert tight["good"] < derived["good"]
    assert tight["distance"] < derived["distance"]


def test_a_reward_from_independent_noise_fades_towards_noise_and_steers_one_from_shared_noise_does_not(
    base: toy.Plane, pairs: toy.Pairs
) -> None:
    rewards = {
        kind: toy.noised_reward(pairs, shared=kind == "shared", seed=0, size=toy.Size(training=80))
        for kind in ("independent", "shared")
    }
    steep = {kind: toy.steepness(reward, pairs.latents_NK2[:500, 0], 3) for kind, reward in rewards.items()}
    assert steep["independent"]["0.97"] < steep["independent"]["0.5"] < steep["independent"]["0.1"]
    assert steep["shared"]["0.97"] > steep["shared"]["0.1"]
    assert steep["shared"]["0.97"] > 10 * steep["independent"]["0.97"]

    def guided(kind: str, scale: float) -> dict[str, float]:
        guidance = RewardGuidance(weights={"right": 1.0}, scale=scale)
        return toy.measure(toy.points(base, **LOOK, steering=Steering(reward=rewards[kind], guidance=guidance)))

    none, little, much = (guided("independent", scale) for scale in (0.0, 0.2, 1.0))
    assert none["good"] < little["good"] < much["good"]
    assert little["distance"] < none["distance"] + 0.1
    assert guided("shared", 0.2)["distance"] > 5 * little["distance"]


def test_the_table_shows_what_was_measured_beside_what_was_recorded() -> None:
    torch.manual_seed(0)
    rows = [
        {
            "methods": {name: {"good": 0.5, "distance": d, "off": 0.0} for name in toy.RECORDED},
            "gradient": {kind: dict.fromkeys(("0.1", "0.5", "0.9", "0.97"), d) for kind in ("independent", "shared")},
        }
        for d in (1.0, 2.0)
    ]
    table = toy.table(rows)
    assert "| SFT on winners | 0.500 ± 0.000 | 1.50 ± 0.71 | 0.00 ± 0.00 | 0.75, 0.37 |" in table
