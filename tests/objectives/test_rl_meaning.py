"""One sentence of each paper of online RL at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from log_probs import gradient, of_total, random_inputs, select, tame
from torch import Tensor
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
    SFT,
    VESPO,
    ClippedAdvantage,
    DiffusionNFT,
    DrGRPO,
    ExpertIteration,
    GroupRelative,
    LeaveOneOut,
    PromptHistory,
    RawAdvantage,
    Whitened,
)
from penchant.objectives.ratios import Estimator, counted_steps, kl_steps
from penchant.objectives.values import generalised_advantages
from penchant.types import Density, LogProbs, Objective, ObjectiveInputs, Statistics

RAW = RawAdvantage()
UNSCALED = GroupRelative(scale="none")
by_name = {"ids": lambda o: type(o).__name__}


def steps(values: Any, lengths: Any = None, density: Density = "exact") -> LogProbs:
    """Log-probs [B, K, T], of which the first `lengths` [B, K] steps count."""
    step_BKT = torch.as_tensor(values, dtype=torch.float64)
    T = step_BKT.shape[-1]
    length_BK = torch.full(step_BKT.shape[:2], T) if lengths is None else torch.tensor(lengths)
    return LogProbs(step_BKT=step_BKT, mask_BKT=torch.arange(T) < length_BK[:, :, None], density=density)


def at_ratio(ratio: Any, score: Any, lengths: Any = None, **more: Any) -> ObjectiveInputs:
    """One group [1, K, T] whose policy stands at these ratios to its behavior."""
    ratio_KT, score_K = torch.tensor(ratio, dtype=torch.float64), torch.tensor(score, dtype=torch.float64)
    behavior = steps(torch.full_like(ratio_KT, -1.0)[None], None if lengths is None else [lengths])
    policy = replace(behavior, step_BKT=(ratio_KT.log()[None] - 1.0).requires_grad_())
    mask_BK = torch.ones(1, len(score_K), dtype=torch.bool)
    return ObjectiveInputs(policy=policy, behavior=behavior, scores_BK=score_K[None], mask_BK=mask_BK, **more)


def on_policy(**more: Any) -> ObjectiveInputs:
    """Three groups of three completions of different lengths, without a behavior and without statistics."""
    return replace(random_inputs(B=3, density="exact", T=4), behavior=None, statistics=None, **more)


def centred(inputs: ObjectiveInputs) -> Tensor:
    """Rewards minus their group's mean [B, K, 1]."""
    score_BK = inputs.scores_BK.double()
    return (score_BK - score_BK.mean(-1, keepdim=True))[:, :, None]


# --- advantages -----------------------------------------------------------------------------------------------------


def known(rewards: Any) -> tuple[Tensor, Tensor]:
    reward_BK = torch.tensor(rewards, dtype=torch.float64)
    return reward_BK.nan_to_num(99.0), ~reward_BK.isnan()


def test_group_advantages_have_mean_zero_and_deviation_one_and_ignore_a_prompts_own_level() -> None:
    reward_BK, known_BK = known([[1.0, 2.0, 4.0, 5.0], [0.0, 0.0, 3.0, 1.0]])
    found_BK = GroupRelative(eps=0.0)(reward_BK, known_BK)
    assert_close(found_BK.mean(-1), torch.zeros(2).double(), atol=1e-12, rtol=0)
    assert_close(found_BK.std(-1), torch.ones(2).double())
    assert_close(GroupRelative(eps=0.0)(reward_BK * 3 + 7, known_BK), found_BK)


def test_the_batch_deviation_keeps_easy_and_hard_groups_in_proportion() -> None:
    reward_BK, known_BK = known([[1.0, 3.0], [1.0, 1.2]])
    found_BK = GroupRelative(scale="batch", eps=0.0)(reward_BK, known_BK)
    assert_close(found_BK, torch.tensor([[-1.0, 1.0], [-0.1, 0.1]]).double() / reward_BK.std())
    of_all = Statistics(steps=1.0, mean=9.0, std=2.0)
    assert_close(
        GroupRelative(scale="batch", eps=0.0)(reward_BK, known_BK, of_all),
        torch.tensor([[-0.5, 0.5], [-0.05, 0.05]]).double(),
    )


def test_leave_one_out_compares_with_the_others() -> None:
    reward_BK, known_BK = known([[1.0, 2.0, 6.0]])
    assert_close(LeaveOneOut()(reward_BK, known_BK), torch.tensor([[-3.0, -1.5, 4.5]]).double())
    # It is the group's baseline times K / (K - 1).
    assert_close(LeaveOneOut()(reward_BK, known_BK), UNSCALED(reward_BK, known_BK) * 3 / 2)


@pytest.mark.parametrize("advantage", [GroupRelative(), UNSCALED, LeaveOneOut(), Whitened(), RAW], **by_name)
def test_a_reward_that_is_not_a_number_counts_nowhere(advantage: Any) -> None:
    with_gap, without = known([[1.0, math.nan, 2.0, 6.0]]), known([[1.0, 2.0, 6.0]])
    found_BK = advantage(*with_gap)
    assert found_BK[0, 1] == 0
    assert_close(found_BK[:, [0, 2, 3]], advantage(*without))


@pytest.mark.parametrize("advantage", [GroupRelative(), UNSCALED, LeaveOneOut()], **by_name)
def test_alone_or_equal_there_is_nothing_to_learn(advantage: Any) -> None:
    assert (advantage(*known([[3.0, math.nan]])) == 0).all()
    assert (advantage(*known([[0.5, 0.5, 0.5]])) == 0).all()
    assert advantage.min_candidates == 2
    assert ClippedAdvantage(advantage=advantage).min_candidates == 2


def test_advantages_are_held() -> None:
    found = ClippedAdvantage(advantage=RAW, largest=2.0)(*known([[-9.0, 1.0, 9.0]]))
    assert found.tolist() == [[-2.0, 1.0, 2.0]]
    with pytest.raises(ValueError, match="largest"):
        ClippedAdvantage(largest=0.0)


def test_whitened_by_the_statistics_of_a_collection() -> None:
    reward_BK, known_BK = known([[1.0, 2.0], [3.0, 6.0]])
    of_all = Statistics(steps=1.0, mean=reward_BK.mean().item(), std=reward_BK.std().item())
    assert_close(Whitened()(reward_BK, known_BK), Whitened()(reward_BK, known_BK, of_all))


def test_a_history_compares_a_prompt_with_its_own_past_once_it_has_one() -> None:
    history = PromptHistory(size=3, least=3, eps=1e-12)
    assert_close(history.advantages(["a", "b"], [1.0, 3.0]), [-1.0, 1.0])
    history.advantages(["a", "b"], [2.0, 9.0])
    # a: 1, 2, 6 with mean 3 and deviation sqrt(14/3); then the oldest is forgotten: 2, 6, 4.
    assert_close(history.advantages(["a", "b"], [6.0, math.nan])[0], 3 / math.sqrt(14 / 3))
    again = PromptHistory(size=3, least=3, eps=1e-12)
    again.restore(history.state())
    for one in (history, again):
        assert_close(one.advantages(["a"], [4.0])[0], 0.0)
    assert again.state() == history.state()
    with pytest.raises(ValueError, match="least"):
        PromptHistory(size=4, least=5)
    with pytest.raises(ValueError, match="eps"):
        PromptHistory(eps=0.0)


# --- GRPO and its relatives -----------------------------------------------------------------------------------------


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


# --- estimates of the KL divergence ---------------------------------------------------------------------------------


def over_a_vocabulary(policy_V: Tensor, reference_V: Tensor, behavior_V: Tensor) -> ObjectiveInputs:
    """One candidate a token of the vocabulary: what is drawn, by all that could be."""

    def each(p_V: Tensor) -> LogProbs:
        return LogProbs(step_BKT=p_V.log()[None, :, None], mask_BKT=torch.ones(1, len(p_V), 1).bool(), density="exact")

    return ObjectiveInputs(
        policy=each(policy_V),
        reference=each(reference_V),
        behavior=each(behavior_V),
        scores_BK=torch.zeros(1, len(policy_V)),
        mask_BK=torch.ones(1, len(policy_V)).bool(),
    )


def expected_kl(estimator: Estimator, policy_V: Tensor, reference_V: Tensor, behavior_V: Tensor) -> Tensor:
    """The mean of an estimator over what the behavior draws."""
    inputs = over_a_vocabulary(policy_V, reference_V, behavior_V)
    return (behavior_V.detach() * kl_steps(inputs, estimator)[0, :, 0]).sum()


P, Q, MU = (torch.tensor(p, dtype=torch.float64) for p in ([0.5, 0.3, 0.2], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]))


def test_k1_and_k3_are_unbiased_and_the_weighted_one_off_policy_too() -> None:
    exact = (P * (P / Q).log()).sum()
    for estimator in ("k1", "k3", "weighted_k3"):
        assert_close(expected_kl(estimator, P, Q, P), exact)
    assert_close(expected_kl("weighted_k3", P, Q, MU), exact)
    assert not torch.isclose(expected_kl("k3", P, Q, MU), exact)
    assert not torch.isclose(expected_kl("k2", P, Q, P), exact)


def test_as_a_loss_k1_pulls_nowhere_and_k2_and_the_weighted_k3_pull_as_the_divergence_does() -> None:
    def pull(estimator: Estimator) -> Tensor:
        logits = P.log().requires_grad_()
        policy_V = logits.softmax(-1)
        loss = expected_kl(estimator, policy_V, Q, P)
        return torch.autograd.grad(loss, logits)[0]

    logits = P.log().requires_grad_()
    p = logits.softmax(-1)
    (exact,) = torch.autograd.grad((p * (p / Q).log()).sum(), logits)
    assert_close(pull("k1"), torch.zeros(3).double(), atol=1e-12, rtol=0)
    assert_close(pull("k2"), exact)
    assert_close(pull("weighted_k3"), exact)
    assert not torch.allclose(pull("k3"), exact)


def test_no_estimate_at_the_reference_and_none_that_is_negative_but_k1() -> None:
    inputs = random_inputs(density="exact")
    assert inputs.reference is not None
    same = replace(inputs, policy=replace(inputs.reference, output=None))
    for estimator in ("k1", "k2", "k3", "weighted_k3"):
        assert (kl_steps(same, estimator) == 0).all()
        assert (kl_steps(inputs, estimator) >= 0).all() or estimator == "k1"
    assert_close(kl_steps(inputs, "exact"), torch.where(counted_steps(inputs), inputs.divergence_BKT, 0))


def test_the_kl_term_pulls_back_and_is_reported_by_step() -> None:
    inputs = random_inputs(density="exact")
    objective = GRPO(advantage=RAW, beta=0.5)
    still = replace(inputs, scores_BK=torch.zeros_like(inputs.scores_BK))
    assert inputs.reference is not None
    (away_BKT,) = (inputs.policy.step_BKT.detach() - inputs.reference.step_BKT,)
    grad_BKT = gradient(objective, still)
    counted = inputs.policy.mask_BKT
    assert (grad_BKT.sign()[counted] == away_BKT.sign()[counted]).all()
    assert_close(objective(still).metrics["kl"], kl_steps(still, "k3")[counted].mean().detach())


# --- REINFORCE with a value network ---------------------------------------------------------------------------------


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


# --- expert iteration -----------------------------------------------------------------------------------------------


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


# --- DiffusionNFT ---------------------------------------------------------------------------------------------------


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
