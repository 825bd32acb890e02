"""Expert iteration and DiffusionNFT: online RL without ratios."""

from __future__ import annotations

import math

import pytest
import torch
from log_probs import of_total, random_inputs
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import SFT, DiffusionNFT, ExpertIteration, RawAdvantage
from penchant.types import LogProbs, ObjectiveInputs

RAW = RawAdvantage()


def test_without_a_threshold_the_expert_is_the_best_of_its_group() -> None:
    inputs = random_inputs(density="exact")
    assert_close(ExpertIteration()(inputs).loss_B, SFT()(inputs).loss_B)
    assert_close(ExpertIteration(reduce="mean")(inputs).loss_B, SFT(reduce="mean")(inputs).loss_B)


def test_groups_that_are_not_good_enough_teach_nothing() -> None:
    inputs = ObjectiveInputs(
        policy=of_total(torch.tensor([[-1.0, -2.0, -4.0], [-1.0, -2.0, -4.0]], dtype=torch.float64)),
        scores_BK=torch.tensor([[0.5, 0.9, 0.1], [0.2, 0.3, math.nan]]),
        mask_BK=torch.ones(2, 3, dtype=torch.bool),
    )
    output = ExpertIteration(threshold=0.4)(inputs)
    assert output.loss_B.tolist() == [2.0, 0.0]
    assert output.metrics["experts/groups"] == 0.5
    assert ExpertIteration(threshold=0.4, keep="all")(inputs).loss_B.tolist() == [1.5, 0.0]
    assert ExpertIteration(threshold=0.9)(inputs).loss == 0


# --- DiffusionNFT ----------------------------------------------------------------------------------------------------


def predictions(B: int = 2, K: int = 3, T: int = 2, D: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """(policy with gradient, old policy, target) velocities [B, K, T, D]."""
    g = torch.Generator().manual_seed(7)
    policy, old, target = torch.randn(3, B, K, T, D, generator=g, dtype=torch.float64)
    return policy.requires_grad_(), old, target


def matched(policy: Tensor, old: Tensor, target: Tensor, scores_BK: Tensor) -> ObjectiveInputs:
    """What a flow likelihood says of them."""

    def log_probs(v: Tensor) -> LogProbs:
        step_BKT = -(v - target).square().mean(-1) / 2
        return LogProbs(step_BKT=step_BKT, mask_BKT=torch.ones_like(step_BKT, dtype=torch.bool), density="bound")

    return ObjectiveInputs(
        policy=log_probs(policy),
        reference=log_probs(old),
        divergence_BKT=(policy - old).square().mean(-1),
        scores_BK=scores_BK,
        mask_BK=torch.ones_like(scores_BK, dtype=torch.bool),
    )


@pytest.mark.parametrize("b", [0.1, 1.0, 1.7])
@pytest.mark.parametrize("adaptive", [False, True])
def test_nft_is_the_contrast_of_explicit_velocities(b: float, adaptive: bool) -> None:
    policy, old, target = predictions()
    scores_BK = torch.tensor([[9.0, 0.5, -1.0], [-9.0, 2.0, 0.0]]).double()
    good_BK1 = ((scores_BK / 5).clamp(-1, 1) / 2 + 0.5)[:, :, None]

    def error(v: Tensor) -> Tensor:
        mse = (v - target).square().mean(-1)
        return mse / mse.detach().sqrt() if adaptive else mse

    towards, away = error((1 - b) * old + b * policy), error((1 + b) * old - b * policy)
    explicit = ((good_BK1 * towards + (1 - good_BK1) * away) * 5 / b).mean((-1, -2))
    output = DiffusionNFT(beta=b, advantage=RAW, adaptive=adaptive)(matched(policy, old, target, scores_BK))
    assert_close(output.loss_B, explicit)
    ours, theirs = (torch.autograd.grad(loss.sum(), policy)[0] for loss in (output.loss_B, explicit))
    assert_close(ours, theirs)


def test_nft_begins_as_advantage_weighted_matching_whatever_beta_is() -> None:
    policy, _, target = predictions()
    scores_BK = torch.tensor([[1.0, 2.0, -3.0], [0.0, 4.0, -1.0]]).double()
    inputs = matched(policy, policy.detach(), target, scores_BK)
    weighted = (scores_BK[:, :, None] * (policy - target).square().mean(-1)).mean((-1, -2)).sum()
    (expected,) = torch.autograd.grad(weighted, policy, retain_graph=True)
    for b in (0.1, 1.0):
        loss = DiffusionNFT(beta=b, advantage=RAW, adaptive=False)(inputs).loss_B.sum()
        assert_close(torch.autograd.grad(loss, policy, retain_graph=True)[0], expected)


def test_a_surely_good_sample_is_plain_matching_at_beta_one() -> None:
    policy, old, target = predictions()
    inputs = matched(policy, old, target, torch.full((2, 3), 5.0).double())
    loss_B = DiffusionNFT(advantage=RAW, adaptive=False)(inputs).loss_B
    assert_close(loss_B, 5 * (policy - target).square().mean((-1, -2, -3)))


def test_adaptive_sizes_make_the_loss_a_root_and_never_divide_by_nothing() -> None:
    policy, _, _ = predictions()
    old = policy.detach()
    exact = matched(policy, old, old, torch.zeros(2, 3).double())
    loss = DiffusionNFT()(exact).loss
    assert loss == 0
    assert torch.autograd.grad(loss, policy)[0].isfinite().all()
