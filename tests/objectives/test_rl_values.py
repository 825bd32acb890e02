"""REINFORCE and PPO: losses with a value network."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from log_probs import gradient, on_policy, steps, tame
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import PPO, REINFORCE
from penchant.objectives.values import generalised_advantages
from penchant.types import Objective, ObjectiveInputs


def with_values(values: Any, rewards: Any, lengths: Any = None, **more: Any) -> ObjectiveInputs:
    """One group, values [K, T] with gradient."""
    value_BKT = torch.tensor([values], dtype=torch.float64, requires_grad=True)
    policy = steps(torch.full_like(value_BKT.detach(), -0.5), None if lengths is None else [lengths])
    policy.step_BKT.requires_grad_()
    score_BK = torch.tensor([rewards], dtype=torch.float64)
    mask_BK = torch.ones_like(score_BK, dtype=torch.bool)
    return ObjectiveInputs(policy=policy, value_BKT=value_BKT, scores_BK=score_BK, mask_BK=mask_BK, **more)


def both_gradients(objective: Objective, inputs: ObjectiveInputs) -> tuple[Tensor, Tensor]:
    """d loss / d (log-probs, values)."""
    assert inputs.value_BKT is not None
    return torch.autograd.grad(objective(inputs).loss_B.sum(), (inputs.policy.step_BKT, inputs.value_BKT))


def test_reinforce_by_hand() -> None:
    """alpha 0.2; R = 2 with V = (1.5, 3), R = -1 with V = 0 and one token; KL 0.1 a step."""
    inputs = with_values([[1.5, 3.0], [0.0, 9.0]], [2.0, -1.0], lengths=[2, 1])
    inputs = replace(inputs, reference=inputs.policy, divergence_BKT=torch.full((1, 2, 2), 0.1).double())
    of_policy, of_value = both_gradients(REINFORCE(alpha=0.2), inputs)
    assert_close(of_policy[0], -0.8 * torch.tensor([[0.5, -1.0], [-1.0, 0.0]]).double() / 2)
    assert_close(of_value[0], -2 * torch.tensor([[0.5, -1.0], [-1.0, 0.0]]).double() / 2)
    policy_loss = 0.8 * 0.5 * (0.5 - 1.0 - 1.0)
    value_loss = 0.25 + 1.0 + 1.0
    output = REINFORCE(alpha=0.2)(inputs)
    assert_close(output.loss.item(), (policy_loss + value_loss + 0.2 * 0.3) / 2)
    assert_close(output.metrics["kl/sequence"].item(), 0.15)
    assert_close(output.metrics["loss/value"].item(), 0.75)
    # The mean over tokens instead of their sum.
    of_policy, _ = both_gradients(REINFORCE(alpha=0.2, reduce="mean"), inputs)
    assert_close(of_policy[0], -0.8 * torch.tensor([[0.25, -0.5], [-1.0, 0.0]]).double() / 2)


def test_a_reward_that_was_foreseen_teaches_nothing() -> None:
    inputs = with_values([[2.0, 2.0], [-1.0, -1.0]], [2.0, -1.0])
    for objective in (REINFORCE(alpha=0.0), PPO(beta=0.0)):
        of_policy, of_value = both_gradients(objective, inputs)
        assert (of_policy == 0).all()
        assert (of_value == 0).all()
        assert_close(objective(inputs).metrics["values/explained"].item(), 1.0)


def test_the_kl_term_is_differentiated_and_no_reward() -> None:
    inputs = with_values([[0.0]], [0.0])
    divergence = torch.full((1, 1, 1), 0.4).double().requires_grad_()
    inputs = replace(inputs, reference=inputs.policy, divergence_BKT=divergence)
    REINFORCE(alpha=0.3)(inputs).loss.backward()
    assert divergence.grad is not None
    assert_close(divergence.grad.item(), 0.3)
    assert (inputs.policy.step_BKT.grad == 0).all()  # type: ignore[union-attr]


def test_whitening_is_of_rewards_before_or_of_advantages_after_the_baseline() -> None:
    inputs = with_values([[0.0, 0.0], [0.0, 0.0]], [10.0, 30.0])
    scaled = -torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double() / 2
    of_policy, of_value = both_gradients(REINFORCE(alpha=0.0, whiten_rewards=True), inputs)
    assert_close(of_policy[0], scaled / math.sqrt(2), rtol=1e-4, atol=0)
    assert_close(of_value[0], 2 * scaled / math.sqrt(2), rtol=1e-4, atol=0)
    of_policy, of_value = both_gradients(REINFORCE(alpha=0.0, whiten_advantages=True), inputs)
    assert_close(of_policy[0], scaled * math.sqrt(3 / 4), rtol=1e-4, atol=0)
    assert_close(of_value[0], -2 * torch.tensor([[10.0, 10.0], [30.0, 30.0]]).double() / 2)


def test_an_unscorable_sample_has_no_policy_and_no_value_term() -> None:
    inputs = with_values([[0.5], [0.7]], [2.0, math.nan])
    of_policy, of_value = both_gradients(REINFORCE(alpha=0.0), inputs)
    assert of_policy[0, :, 0].tolist() == [-0.75, 0.0]
    assert of_value[0, :, 0].tolist() == [-1.5, 0.0]


# --- PPO ------------------------------------------------------------------------------------------------------------


def test_without_values_and_with_lambda_one_ppo_is_reinforce() -> None:
    inputs = replace(on_policy(), value_BKT=torch.zeros(3, 3, 4).double(), behavior_value_BKT=None)
    plain = PPO(lam=1.0, beta=0.0, value_weight=0.0)
    mask_BKT = inputs.policy.mask_BKT
    expected_BKT = -inputs.scores_BK[:, :, None].double() * mask_BKT * 3 / mask_BKT.sum()
    assert_close(gradient(plain, inputs), expected_BKT)


def test_with_lambda_one_the_advantage_is_the_return_minus_the_value_as_in_reinforce() -> None:
    inputs = replace(on_policy(), behavior_value_BKT=None)
    ppo, plain = PPO(lam=1.0, beta=0.0, value_weight=0.0), REINFORCE(alpha=0.0, value_weight=0.0)
    tokens = inputs.policy.mask_BKT.sum().item()
    assert_close(gradient(ppo, inputs) * tokens / 3, gradient(plain, inputs) * 3)


def test_generalised_advantages_by_hand() -> None:
    """gamma 0.5, lambda 0.8 over two steps that count and one that does not."""
    reward = torch.tensor([[[1.0, 2.0, 7.0]]]).double()
    value = torch.tensor([[[3.0, 4.0, 7.0]]]).double()
    mask = torch.tensor([[[True, True, False]]])
    last = 2.0 - 4.0
    first = (1.0 + 0.5 * 4.0 - 3.0) + 0.5 * 0.8 * last
    found = generalised_advantages(reward, value, mask, gamma=0.5, lam=0.8)
    assert_close(found, torch.tensor([[[first, last, 0.0]]]).double())
    # A step that does not count may also stand in between.
    gap = generalised_advantages(
        reward[..., [0, 2, 1]], value[..., [0, 2, 1]], mask[..., [0, 2, 1]], gamma=0.5, lam=0.8
    )
    assert_close(gap, torch.tensor([[[first, 0.0, last]]]).double())


def test_the_reward_comes_at_the_last_step_and_the_penalty_at_every_one() -> None:
    """lambda = 0 and V = 0: the advantage of a step is its own reward."""
    inputs = with_values([[0.0, 0.0, 0.0]], [2.0], lengths=[2])
    reference = replace(inputs.policy, step_BKT=inputs.policy.step_BKT.detach() - 0.1)
    of_policy, _ = both_gradients(PPO(lam=0.0, beta=0.5), replace(inputs, reference=reference))
    assert_close(of_policy[0, 0], -torch.tensor([-0.05, 2.0 - 0.05, 0.0]).double() / 2)


def test_the_value_may_move_only_so_far_from_the_rollout_s() -> None:
    """Target 1 from the rollout's value 0: at 0.5 the clipped error is the larger one and has no gradient."""
    inputs = with_values([[0.5, 0.1]], [1.0])
    inputs = replace(inputs, behavior_value_BKT=torch.zeros(1, 1, 2).double())
    objective = PPO(lam=1.0, beta=0.0, value_weight=1.0, value_clip=0.2)
    _, of_value = both_gradients(objective, inputs)
    assert_close(of_value[0, 0], torch.tensor([0.0, -0.9 / 2]).double())
    _, free = both_gradients(replace(objective, value_clip=None), inputs)
    assert_close(free[0, 0], torch.tensor([-0.5 / 2, -0.9 / 2]).double())
    with pytest.raises(ValueError, match="behavior_value_BKT"):
        objective(replace(inputs, behavior_value_BKT=None))


def test_whitened_ppo_has_advantages_of_mean_zero() -> None:
    inputs = on_policy()
    metrics = replace(tame("ppo"), whiten=True)(inputs).metrics  # type: ignore[call-arg]
    assert_close(metrics["advantages/mean"].item(), 0.0, atol=1e-9, rtol=0)
    assert_close(metrics["advantages/std"].item(), 1.0, atol=0.05, rtol=0)
