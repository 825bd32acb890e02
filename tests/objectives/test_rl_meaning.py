"""GRPO and its relatives: one sentence of each paper at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from log_probs import at_ratio, centred, gradient, on_policy, random_inputs, select
from torch.testing import assert_close

from penchant.objectives import (
    BNPO,
    CISPO,
    DAPO,
    GMPO,
    GRPO,
    GSPO,
    LUSPO,
    PPO,
    REINFORCE,
    RLOO,
    SAPO,
    VESPO,
    DiffusionNFT,
    DrGRPO,
    GroupRelative,
    RawAdvantage,
)
from penchant.types import Density, Objective, Statistics

RAW = RawAdvantage()
UNSCALED = GroupRelative(scale="none")
by_name = {"ids": lambda o: type(o).__name__}


@pytest.mark.parametrize("density", ["exact", "bound", "path"])
def test_on_policy_grpo_is_reinforce_with_the_groups_baseline(density: Density) -> None:
    inputs = replace(random_inputs(B=3, density=density, T=4), behavior=None)
    mask_BKT = inputs.policy.mask_BKT
    expected_BKT = -centred(inputs) * mask_BKT / mask_BKT.sum(-1, keepdim=True) / 3
    assert_close(gradient(GRPO(advantage=UNSCALED), inputs), expected_BKT)


def test_a_step_that_went_far_enough_is_left_alone_and_one_that_went_wrong_is_not() -> None:
    """Ratios 0.7, 1 and 1.3 for a good and a bad sample."""
    inputs = at_ratio([[0.7, 1.0, 1.3], [0.7, 1.0, 1.3]], [1.0, -1.0])
    grad_KT = gradient(GRPO(advantage=RAW), inputs)[0]
    assert_close(grad_KT, torch.tensor([[-0.7, -1.0, 0.0], [0.0, 1.0, 1.3]]).double() / 6)
    metrics = GRPO(advantage=RAW)(inputs).metrics
    assert_close(metrics["ratio/clipped"].item(), 2 / 6)
    assert_close(metrics["ratio/mean"].item(), 1.0)


def test_a_bad_sample_pushes_no_further_than_the_dual_clip() -> None:
    inputs = at_ratio([[9.0]], [-2.0])
    assert_close(GRPO(advantage=RAW)(inputs).loss.item(), 18.0)
    held = GRPO(advantage=RAW, dual_clip=3.0)
    assert_close(held(inputs).loss.item(), 6.0)
    assert (gradient(held, inputs) == 0).all()


def test_clip_higher_lets_good_tokens_grow_further() -> None:
    inputs = at_ratio([[1.25], [1.25]], [1.0, -1.0])
    lower, higher = BNPO(advantage=RAW), DAPO(advantage=RAW)
    assert gradient(lower, inputs)[0, 0] == 0
    assert gradient(higher, inputs)[0, 0] < 0
    assert_close(gradient(higher, inputs)[0, 1], gradient(lower, inputs)[0, 1])


def test_dapo_with_equal_clips_is_grpo_over_tokens() -> None:
    inputs = random_inputs(density="exact")
    for same in (BNPO(), GRPO(normaliser="batch")):
        assert_close(DAPO(clip_high=0.2)(inputs).loss_B, same(inputs).loss_B)


def test_long_samples_weigh_as_much_as_short_ones_or_by_their_tokens_or_by_a_constant() -> None:
    """Ratio 1 and advantage -1 everywhere, lengths 1 and 3: who carries how much of the gradient?"""
    inputs = at_ratio([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [-1.0, -1.0], lengths=[1, 3])
    share = {
        name: gradient(objective, inputs)[0].sum(-1).tolist()
        for name, objective in (
            ("sequence", GRPO(advantage=RAW)),
            ("batch", BNPO(advantage=RAW)),
            ("constant", DrGRPO(advantage=RAW, length=10.0)),
        )
    }
    assert_close(share, {"sequence": [0.5, 0.5], "batch": [0.25, 0.75], "constant": [0.05, 0.15]})


def test_dr_grpo_divides_by_no_deviation() -> None:
    inputs = on_policy()
    narrow = replace(inputs, scores_BK=inputs.scores_BK / 10)
    assert_close(gradient(DrGRPO(), inputs), 10 * gradient(DrGRPO(), narrow))
    even = GRPO(advantage=GroupRelative(eps=0.0))
    assert_close(gradient(even, inputs), gradient(even, narrow), rtol=1e-6, atol=1e-8)


def test_with_one_step_a_sequence_is_a_token() -> None:
    inputs = random_inputs(density="exact", T=1)
    clips = {"clip_low": 0.1, "clip_high": 0.2}
    for same in (GRPO(**clips), LUSPO(**clips)):
        assert_close(GSPO(**clips)(inputs).loss_B, same(inputs).loss_B)
        assert_close(gradient(GSPO(**clips), inputs), gradient(same, inputs))


def test_gspo_takes_or_leaves_a_sequence_whole() -> None:
    """Two samples with the same wild token; the second is balanced by its other one."""
    inputs = at_ratio([[2.0, 1.0], [2.0, 0.5]], [1.0, 1.0])
    grad_KT = gradient(GSPO(advantage=RAW), inputs)[0]
    assert (grad_KT[0] == 0).all()
    assert_close(grad_KT[1], torch.tensor([-0.25, -0.25]).double())
    assert (gradient(GRPO(advantage=RAW), inputs)[0, :, 0] == 0).all()


def test_luspo_gives_a_sequence_back_its_length() -> None:
    inputs = at_ratio([[1.1, 1.2, 1.0], [0.9, 1.1, 1.0]], [1.0, -1.0])
    clips = {"clip_low": 0.3, "clip_high": 0.3, "advantage": RAW}
    assert_close(gradient(LUSPO(**clips), inputs), 3 * gradient(GSPO(**clips), inputs))


def test_cispo_holds_the_weight_and_keeps_every_token() -> None:
    inputs = at_ratio([[0.5, 1.0, 4.0, 9.0]], [2.0])
    grad_T = gradient(CISPO(advantage=RAW), inputs)[0, 0]
    assert_close(grad_T, -2.0 * torch.tensor([0.5, 1.0, 4.0, 5.0]).double() / 4)
    assert_close(CISPO(advantage=RAW)(inputs).metrics["ratio/clipped"].item(), 0.25)


def test_gmpo_is_gspo_while_nothing_is_clipped_and_minds_a_wild_token_less_than_grpo() -> None:
    clips = {"advantage": RAW, "clip_low": 9.0, "clip_high": 9.0}
    inputs = random_inputs(density="exact")
    assert_close(gradient(GMPO(**clips), inputs), gradient(GSPO(**clips), inputs))
    wild = at_ratio([[8.0, 1.0, 1.0]], [-1.0])
    assert_close(GMPO(**clips)(wild).loss.item(), 2.0)
    assert_close(GRPO(**clips)(wild).loss.item(), 10 / 3)
    # Its clip is a token's own, in log space.
    tame_one = at_ratio([[math.exp(0.9), 1.0, 1.0]], [1.0])
    assert_close(GMPO(advantage=RAW)(tame_one).loss.item(), -math.exp(0.4 / 3))
    assert gradient(GMPO(advantage=RAW), tame_one)[0, 0].tolist()[0] == 0


def test_sapo_begins_as_the_policy_gradient_and_fades_sooner_for_bad_samples() -> None:
    inputs = at_ratio([[1.0], [1.0]], [1.0, -1.0])
    assert_close(gradient(SAPO(advantage=RAW), inputs)[0, :, 0], torch.tensor([-0.5, 0.5]).double())
    far = at_ratio([[4.0], [4.0]], [1.0, -1.0])
    good, bad = gradient(SAPO(advantage=RAW), far)[0, :, 0].abs().tolist()
    assert bad < good < 0.5 * 4


def test_vespo_begins_as_the_policy_gradient_and_fades_for_samples_far_away() -> None:
    inputs = on_policy()
    assert_close(gradient(VESPO(), inputs), gradient(CISPO(), inputs))
    far = at_ratio([[3.0, 1.0]], [1.0])
    assert_close(gradient(VESPO(advantage=RAW), far)[0, 0], torch.full((2,), -9 * math.exp(-6) / 2).double())


def test_samples_that_the_policy_has_left_behind_are_left_out() -> None:
    inputs = at_ratio([[0.5], [0.5], [0.95]], [1.0, -1.0, -1.0])
    objective = GRPO(advantage=RAW, clip_low=0.9, stale=0.1)
    assert_close(gradient(objective, inputs)[0, :, 0], torch.tensor([-0.5, 0.0, 0.95]).double() / 3)


def test_rloo_on_policy_is_reinforce_and_its_penalty_is_a_reward() -> None:
    inputs = on_policy()
    expected_BKT = -centred(inputs) * 3 / 2 / 3 * inputs.policy.mask_BKT
    assert_close(gradient(RLOO(beta=0.0), inputs), expected_BKT)
    assert inputs.reference is not None
    drift_BK = (inputs.policy.total() - inputs.reference.total()).detach()
    penalised = replace(inputs, scores_BK=inputs.scores_BK - 0.3 * drift_BK)
    assert_close(gradient(RLOO(beta=0.3), inputs), gradient(RLOO(beta=0.0), penalised))
    assert_close(RLOO(beta=0.3)(inputs).metrics["kl/sequence"], drift_BK.mean())


def test_rloo_s_ratio_is_that_of_the_whole_sample() -> None:
    inputs = at_ratio([[1.2, 0.9]], [-1.0])
    assert_close(RLOO(advantage=RAW, beta=0.0)(inputs).loss.item(), 1.08)
    assert (gradient(RLOO(advantage=RAW, beta=0.0), at_ratio([[0.8, 0.9]], [-1.0])) == 0).all()


def test_advantage_weighted_matching_is_grpo_on_a_bound() -> None:
    """On-policy: the gradient of the denoising error, weighted by the advantage."""
    inputs = replace(random_inputs(density="bound", T=2), behavior=None)
    error_B = (centred(inputs) * -inputs.policy.step_BKT).mean((-1, -2))
    (expected,) = torch.autograd.grad(error_B.sum(), inputs.policy.step_BKT)
    assert_close(gradient(GRPO(advantage=UNSCALED), inputs), expected)


@pytest.mark.parametrize("objective", [GRPO(), DAPO(), CISPO(), GMPO(), RLOO(beta=0.0)], **by_name)
def test_an_unscorable_sample_is_in_no_baseline_and_has_no_gradient(objective: Objective) -> None:
    inputs = on_policy()
    others = select(inputs, (slice(None), [0, 2]))
    inputs.scores_BK[:, 1] = math.nan
    grad_BKT = gradient(objective, inputs)
    assert (grad_BKT[:, 1] == 0).all()
    # Only the normaliser knows that there is one sample more.
    ratio_BKT = grad_BKT[:, [0, 2]] / gradient(objective, others)
    assert_close(ratio_BKT.nan_to_num(ratio_BKT[0, 0, 0].item()), ratio_BKT[:1, :1, :1].expand_as(ratio_BKT))
    assert 0 < ratio_BKT[0, 0, 0] < 1


def test_groups_that_say_nothing_are_counted() -> None:
    inputs = on_policy()
    inputs.scores_BK[1] = 0.5
    for objective in (GRPO(), DAPO()):
        assert_close(objective(inputs).metrics["advantages/silent"].item(), 1 / 3)
        assert (gradient(objective, inputs)[1] == 0).all()


@pytest.mark.parametrize("scale", ["group", "batch"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("kind", [GRPO, BNPO, DAPO, CISPO, VESPO, PPO, RLOO, REINFORCE])
def test_micro_batches_add_up(kind: Any, beta: float, scale: Any) -> None:
    """Of rewards and steps everything is known that a micro-batch cannot know, so the parts are the whole."""
    inputs = random_inputs(B=6, density="exact")
    score_BK, mask_BKT = inputs.scores_BK.double() + torch.arange(6)[:, None], inputs.policy.mask_BKT
    a_group = mask_BKT.sum().item() / 6
    of_all = Statistics(steps=a_group, mean=score_BK.mean().item(), std=score_BK.std().item())
    inputs = replace(inputs, statistics=of_all, scores_BK=score_BK)
    objective = kind(**{"beta": beta} if kind is not REINFORCE else {"alpha": beta, "whiten_rewards": True})
    # Those of RLOO are penalised first, so that a collection's deviation of plain rewards is not theirs.
    if hasattr(objective, "advantage") and kind is not RLOO:
        objective = replace(objective, advantage=GroupRelative(scale=scale))
    parts = [objective(select(inputs, cut)).loss_B for cut in (slice(0, 1), slice(1, 3), slice(3, 6))]
    assert_close(objective(inputs).loss_B, torch.cat(parts))
    # And knowing it changes nothing where the batch is all there is.
    assert_close(objective(replace(inputs, statistics=None)).loss_B, objective(inputs).loss_B)


def test_what_is_needed_follows_from_the_options() -> None:
    assert not GRPO().needs.reference
    assert GRPO(beta=0.1).needs.reference
    assert GRPO(beta=0.1, kl="exact").needs.divergence
    assert GRPO().needs.min_candidates == 2
    assert GRPO(advantage=RAW).needs.min_candidates == 1
    assert not RLOO(beta=0.0).needs.reference
    assert not PPO(beta=0.0).needs.reference
    assert not REINFORCE(alpha=0.0).needs.divergence


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (GRPO, {"beta": -0.1}),
        (GRPO, {"clip_low": -0.1}),
        (GRPO, {"length": 0.0}),
        (CISPO, {"ceiling": 0.0}),
        (GMPO, {"clip_high": -1.0}),
        (SAPO, {"tau_bad": 0.0}),
        (REINFORCE, {"alpha": 1.0}),
        (PPO, {"lam": 1.1}),
        (DiffusionNFT, {"beta": 0.0}),
    ],
)
def test_options_without_a_meaning_are_refused(kind: Any, options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        kind(**options)
