"""f-divergences against their definitions, and the stable formulas below them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from log_probs import loss, of_total, pair, random_inputs, slopes
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import (
    DPO,
    EXO,
    IPO,
    AlphaDivergence,
    DiscoPOP,
    Divergence,
    ForwardKL,
    Hinge,
    JensenShannon,
    LengthNormalisedDPO,
    ReverseKL,
    RobustDPO,
)
from penchant.objectives.numerics import log1mexp, power_log
from penchant.types import ObjectiveInputs

# f of t = pi / ref, up to a linear term in t, which no divergence of two distributions sees.
GENERATORS: list[tuple[Divergence, Callable[[Tensor], Tensor], float]] = [
    (ReverseKL(), lambda t: t * t.log(), -1.0),
    (ForwardKL(), lambda t: -t.log(), 1.0),
    (JensenShannon(), lambda t: t * t.log() - (t + 1) * ((t + 1) / 2).log(), 0.0),
    (AlphaDivergence(alpha=0.3), lambda t: (t**0.3 - 0.3 * t) / (0.3 * (0.3 - 1)), -1 / (0.3 - 1) + 1 / (0.3 - 1)),
]
OBJECTIVES: list[Callable[[Divergence], Any]] = [
    lambda f: DPO(beta=0.3, divergence=f),
    lambda f: DPO(divergence=f),
    lambda f: RobustDPO(divergence=f),
    lambda f: Hinge(divergence=f),
    lambda f: IPO(divergence=f),
    lambda f: EXO(divergence=f),
    lambda f: DiscoPOP(divergence=f),
    lambda f: LengthNormalisedDPO(divergence=f),
]


@pytest.mark.parametrize(("divergence", "f", "constant"), GENERATORS, ids=lambda x: type(x).__name__)
def test_the_reward_is_the_slope_of_f(divergence: Divergence, f: Callable[[Tensor], Tensor], constant: float) -> None:
    ratio = torch.tensor([-3.0, -0.5, 0.0, 0.4, 2.0], dtype=torch.float64)
    t = ratio.exp().requires_grad_()
    (slope,) = torch.autograd.grad(f(t).sum(), t)
    assert_close(divergence(ratio), slope + constant)
    assert torch.autograd.gradcheck(divergence, (ratio.requires_grad_(),))


def test_alpha_leads_from_the_forward_to_the_reverse_divergence() -> None:
    ratio = torch.tensor([-2.0, -0.1, 0.0, 0.7], dtype=torch.float64)
    assert_close(AlphaDivergence(alpha=0.0)(ratio), ForwardKL()(ratio))
    assert_close(AlphaDivergence(alpha=1.0)(ratio), ReverseKL()(ratio))
    assert_close(AlphaDivergence(alpha=1 - 1e-9)(ratio), ratio, rtol=1e-7, atol=1e-9)
    assert_close(AlphaDivergence(alpha=0.4)(ratio), (ratio.exp() ** -0.6 - 1) / -0.6)


def test_a_likely_sample_gains_at_most_so_much() -> None:
    far = torch.tensor([200.0])
    for divergence, most in ((ForwardKL(), 1.0), (JensenShannon(), math.log(2)), (AlphaDivergence(alpha=0.5), 2.0)):
        assert_close(divergence(far), torch.tensor([most]))
    assert ReverseKL()(far) == far


def test_dpo_with_a_divergence_is_the_sigmoid_loss_on_its_rewards() -> None:
    rewards = [1 - math.exp(-0.4), 1 - math.exp(0.9)]
    by_hand = math.log1p(math.exp(-2.0 * (rewards[0] - rewards[1])))
    assert_close(loss(DPO(beta=2.0, divergence=ForwardKL()), -0.1, -1.4, (-0.5, -0.5)), by_hand)
    # A loser that the policy has lost is pulled back harder under the forward divergence than under the reverse.
    back = [slopes(Hinge(beta=0.01, divergence=f), -0.5, -3.5, (-0.5, -0.5))[1] for f in (ForwardKL(), ReverseKL())]
    assert back[0] > 10 * back[1] > 0


def test_a_constant_of_the_divergence_counts_where_sides_have_different_lengths() -> None:
    inputs = random_inputs(B=2, K=2, T=4, density="exact")
    assert inputs.reference is not None
    ratio_BK = inputs.policy.total() - inputs.reference.total()
    length_BK = inputs.policy.mask_BKT.sum(-1)
    assert length_BK[0, 0] != length_BK[0, 1]
    reward_BK = JensenShannon()(ratio_BK) / length_BK
    first_BK = inputs.scores_BK.argsort(-1, descending=True)
    margin_B = reward_BK.gather(-1, first_BK).diff(dim=-1)[:, 0].neg()
    assert_close(IPO(beta=0.7, divergence=JensenShannon())(inputs).loss_B, (margin_B - 1 / 1.4).square())


@pytest.mark.parametrize(
    "divergence", [ForwardKL(), JensenShannon(), AlphaDivergence(alpha=0.4), AlphaDivergence(alpha=2.0)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_log_ratios_stay_finite_and_keep_their_direction(divergence: Divergence, dtype: torch.dtype) -> None:
    for build, (won, lost) in itertools.product(OBJECTIVES, itertools.product((0.0, -44.0, -1e4), (0.0, -300.0, -1e4))):
        leaf = torch.tensor([[won, lost]], dtype=dtype, requires_grad=True)
        inputs = ObjectiveInputs(
            policy=of_total(leaf),
            reference=of_total(torch.full((1, 2), -30.0, dtype=dtype)),
            scores_BK=torch.tensor([[1.0, 0.0]]),
            mask_BK=torch.ones(1, 2, dtype=torch.bool),
        )
        loss = build(divergence)(inputs).loss
        loss.backward()
        assert loss.isfinite(), (build(divergence), won, lost)
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all(), (build(divergence), won, lost)
    lost_altogether = torch.tensor([-1e4], dtype=dtype, requires_grad=True)
    divergence(lost_altogether).sum().backward()
    assert lost_altogether.grad is not None
    assert lost_altogether.grad >= (0 if divergence == AlphaDivergence(alpha=2.0) else 0.5)


def test_the_default_divergence_is_dpo_s_own() -> None:
    _, inputs = pair(-0.4, -0.9, (-0.5, -0.5))
    assert DPO(beta=2.0, divergence=ReverseKL())(inputs).loss == DPO(beta=2.0)(inputs).loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_power_transform_joins_its_tangent_smoothly(dtype: torch.dtype) -> None:
    limit = math.log(torch.finfo(dtype).max) / 3
    x = torch.tensor([limit * (1 - 1e-6), limit * (1 + 1e-6)], dtype=dtype, requires_grad=True)
    value = power_log(x, 1.0)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert_close(value[0], value[1], rtol=1e-3, atol=0)
    assert_close(slope[0], slope[1], rtol=1e-3, atol=0)
    tiny = torch.tensor([1e-6], dtype=dtype)
    assert_close(power_log(tiny, 0.5), tiny, rtol=1e-6, atol=0)


def test_log_of_one_minus_exp_keeps_its_digits_at_both_ends() -> None:
    x = torch.tensor([-1e-10, -1e-3, -math.log(2), -1.0, -40.0], dtype=torch.float64, requires_grad=True)
    wanted = [math.log(1e-10), math.log(-math.expm1(-1e-3)), math.log(0.5), math.log1p(-math.exp(-1)), -math.exp(-40)]
    assert_close(log1mexp(x).tolist(), wanted, rtol=1e-9, atol=0)
    assert torch.autograd.gradcheck(log1mexp, (x[1:].detach().requires_grad_(),))
    assert log1mexp(torch.tensor([0.0])).isfinite()
