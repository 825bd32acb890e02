"""Objectives on a real, tiny language model: what they are given arrives, at once and one candidate at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.testing import assert_close

import penchant
from penchant.likelihoods import Autoregressive
from penchant.objectives import IREPO, LDDPO, ORPO, TPO, WPO, MaPO, RankDPO, SimPO
from penchant.recipe import Recipe
from penchant.recipes import find
from penchant.references import Reference
from penchant.testing import build
from penchant.train.meters import Averages
from penchant.train.scoring import Scorer
from penchant.types import CandidateBatch, Objective

OBJECTIVES = [WPO(), SimPO(), IREPO(pairing="all"), LDDPO(), ORPO(), TPO(), MaPO(), RankDPO(beta=0.1)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = build("llama", tmp_path_factory.mktemp("llama"))
    return penchant.load(str(folder))


def batch() -> CandidateBatch:
    """Two prompts with four completions of different lengths; the second prompt lacks one."""
    g = torch.Generator().manual_seed(0)
    return CandidateBatch(
        group_ids=("a", "b"),
        sample_ids=(("a0", "a1", "a2", "a3"), ("b0", "b1", "b2", "b3")),
        prompts=("", ""),
        candidates={
            "tokens": torch.randint(3, 200, (2, 4, 6), generator=g),
            "length": torch.tensor([[6, 2, 4, 3], [1, 5, 6, 2]]),
        },
        condition={"prompt": torch.randint(3, 200, (2, 5), generator=g), "prompt_length": torch.tensor([5, 3])},
        scores_BK=torch.tensor([[0.1, 0.9, 0.4, 0.6], [0.7, 0.2, 0.3, 0.0]]),
        mask_BK=torch.tensor([[True] * 4, [True, True, True, False]]),
    )


def scored(model: Any, objective: Objective, *, by_candidate: bool) -> tuple[Averages, list[Tensor]]:
    recipe: Recipe = find("diffusion-dpo")
    train = replace(recipe.train, by_candidate=by_candidate)
    recipe = replace(recipe, likelihood=Autoregressive(), objective=objective, train=train)
    reference = Reference().build(model) if objective.needs.reference else None
    averages = Averages()
    for parameter in model.trainable_parameters():
        parameter.grad = None
    scorer = Scorer(recipe=recipe, model=model, reference=reference, accelerator=Accelerator(cpu=True))
    # The reference is the policy before it moved.
    with torch.no_grad():
        for i, parameter in enumerate(model.trainable_parameters()):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    scorer.backward([(0, batch())], share=1.0, averages=averages)
    with torch.no_grad():
        for i, parameter in enumerate(model.trainable_parameters()):
            parameter.sub_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    return averages, [p.grad.clone() for p in model.trainable_parameters() if p.grad is not None]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_one_candidate_at_a_time_is_the_same_gradient(model: Any, objective: Objective) -> None:
    (once, whole), (turns, parts) = (scored(model, objective, by_candidate=b) for b in (False, True))
    assert_close(turns.means()["loss"], once.means()["loss"], rtol=1e-4, atol=1e-6)
    assert any(grad.abs().max() > 1e-4 for grad in whole)
    assert len(whole) == len(parts) > 0
    for a, b in zip(whole, parts, strict=True):
        assert_close(b, a, rtol=1e-3, atol=1e-5 * float(max(g.abs().max() for g in whole)))


def test_wpo_is_given_how_peaked_the_policy_is(model: Any) -> None:
    given = Autoregressive().log_prob(model, batch(), Autoregressive().draw(batch(), seed=0, epoch=0), keep_output=True)
    assert given.collision_BKT is not None
    assert (given.collision_BKT[given.mask_BKT] < 0).all()
    assert "weights/pairs" in scored(model, WPO(), by_candidate=True)[0].means()
