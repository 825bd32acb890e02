"""Losses that come from language models: one sentence of each paper at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from log_probs import gradient, loss, of_total, pair, random_inputs, select, slopes, take
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import (
    AOT,
    BCO,
    CPO,
    DPO,
    EXO,
    IPO,
    LDDPO,
    NCA,
    ORPO,
    SFT,
    SPPO,
    AOTUnpaired,
    APODown,
    APOZero,
    APOZeroUnpaired,
    DiscoPOP,
    LengthNormalisedDPO,
    MaPO,
    RankDPO,
    ReferenceFree,
    SimPO,
    bradley_terry_loss,
)
from penchant.types import LogProbs, ObjectiveInputs


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def tokens(rows: list[list[float]], scores: list[float], reference: list[list[float]] | None = None) -> Any:
    """(leaf, inputs) of one group of completions of these token log-probs, padded."""
    T = max(map(len, rows))

    def padded(values: list[list[float]]) -> Tensor:
        return torch.tensor([[row + [0.0] * (T - len(row)) for row in values]], dtype=torch.float64)

    mask = torch.tensor([[[t < len(row) for t in range(T)] for row in rows]])
    leaf = padded(rows).requires_grad_()

    def kept(step: Tensor) -> LogProbs:
        return LogProbs(step_BKT=step, mask_BKT=mask, density="exact")

    return leaf, ObjectiveInputs(
        policy=kept(leaf),
        reference=None if reference is None else kept(padded(reference)),
        scores_BK=torch.tensor([scores]),
        mask_BK=torch.ones(1, len(rows), dtype=torch.bool),
    )


def twice(inputs: ObjectiveInputs) -> ObjectiveInputs:
    """Every answer said twice."""

    def longer(log_probs: LogProbs) -> LogProbs:
        step, mask = log_probs.step_BKT.repeat(1, 1, 2), log_probs.mask_BKT.repeat(1, 1, 2)
        return replace(log_probs, step_BKT=step, mask_BKT=mask, collision_BKT=None)

    assert inputs.reference is not None
    return replace(inputs, policy=longer(inputs.policy), reference=longer(inputs.reference))


# --- SimPO, AlphaPO -------------------------------------------------------------------------------------------------


def test_simpo_worked_by_hand() -> None:
    """-30 over 60 tokens against -80 over 120: z = -5/6."""
    leaf, inputs = tokens([[-30 / 60] * 60, [-80 / 120] * 120], [1.0, 0.0])
    output = SimPO(beta=2.5, gamma=1.25)(inputs)
    assert_close(output.loss.item(), 1.1942181492, rtol=0, atol=1e-10)
    assert_close(output.metrics["rewards/margins"].item(), 2.5 * (-0.5 + 80 / 120))
    output.loss.backward()
    assert_close(
        leaf.grad[0, 0], torch.full((120,), 0.0).double().index_fill(0, torch.arange(60), -sigmoid(5 / 6) / 24)
    )


@pytest.mark.parametrize(
    "objective", [SimPO(), SimPO(alpha=0.25), LengthNormalisedDPO(), ORPO(), MaPO(), IPO(beta=1.0)]
)
def test_length_is_no_reward(objective: Any) -> None:
    inputs = random_inputs(B=3, K=2, density="exact")
    assert_close(objective(twice(inputs)).loss_B, objective(inputs).loss_B)
    assert not torch.allclose(DPO(beta=1.0)(twice(inputs)).loss_B, DPO(beta=1.0)(inputs).loss_B)


def test_simpo_asks_for_a_margin_of_gamma() -> None:
    assert_close(loss(SimPO(beta=2.0, gamma=0.8), -1.0, -1.0, None), softplus(0.8))
    won, lost = slopes(SimPO(beta=2.0, gamma=0.8), -1.0, -1.4, None)
    assert_close((won, lost), (-2 * 0.5, 2 * 0.5))


def test_alphapo_bends_the_reward_and_is_simpo_in_the_limit() -> None:
    a, p_w, p_l = 0.25, math.exp(-0.7), math.exp(-1.1)
    bent = [(1 - p**-a) / a for p in (p_w, p_l)]
    by_hand = softplus(-(2.0 * (bent[0] - bent[1]) - 0.8))
    assert_close(loss(SimPO(beta=2.0, gamma=0.8, alpha=a), -0.7, -1.1, None), by_hand)
    limit, plain = (loss(SimPO(beta=2.0, gamma=0.8, alpha=alpha), -0.7, -1.1, None) for alpha in (1e-7, 0.0))
    assert_close(limit, plain, rtol=1e-6, atol=0)
    # Positive alpha weighs unlikely answers more.
    unlikely, likely = (abs(slopes(SimPO(alpha=a), x, x, None)[1]) for x in (-4.0, -0.1))
    assert unlikely > 2 * likely


# --- CPO, ORPO ------------------------------------------------------------------------------------------------------


def test_cpo_is_dpo_with_a_uniform_reference_and_imitation_of_the_winner() -> None:
    inputs = random_inputs(B=4, K=2, density="exact")
    parts = ReferenceFree(objective=DPO(beta=0.7, label_smoothing=0.1))(inputs), SFT(reduce="mean")(inputs)
    got = CPO(beta=0.7, label_smoothing=0.1, nll_weight=0.6)(inputs)
    assert_close(got.loss_B, parts[0].loss_B + 0.6 * parts[1].loss_B)
    uniform = replace(inputs, reference=of_total(torch.zeros(4, 2).double(), "exact"))
    assert_close(parts[0].loss_B, DPO(beta=0.7, label_smoothing=0.1)(uniform).loss_B)


def test_orpo_worked_by_hand() -> None:
    """P of a geometric mean: e^-0.5 for the winner, e^-0.8 for the loser."""
    leaf, inputs = tokens([[-0.5, -0.5], [-0.8, -1.2, -0.4]], [1.0, 0.0])
    odds = [p / (1 - p) for p in (math.exp(-0.5), math.exp(-0.8))]
    output = ORPO(beta=0.3)(inputs)
    assert_close(output.loss.item(), 0.5 + 0.3 * softplus(-math.log(odds[0] / odds[1])))
    output.loss.backward()
    # The odds term pushes with the preference, not against it as in diffusers' script.
    assert (leaf.grad[0, 0, :2] < -0.5).all()
    assert (leaf.grad[0, 1] > 0).all()


def test_orpo_stays_finite_where_the_policy_is_certain() -> None:
    for won, lost in ((0.0, -3.0), (-3.0, 0.0), (0.0, 0.0), (-1e-9, -1e-12)):
        assert all(map(math.isfinite, (loss(ORPO(), won, lost, None), *slopes(ORPO(), won, lost, None))))


# --- each reward by itself: BCO, NCA, SPPO, APO ---------------------------------------------------------------------


def test_bco_classifies_each_answer_and_bounds_dpo_from_above() -> None:
    r = (2.0 * 0.3, 2.0 * -0.2)
    assert_close(loss(BCO(beta=2.0), 0.3, -0.2), softplus(-r[0]) + softplus(r[1]))
    for won, lost in ((0.3, -0.2), (-1.0, 0.4), (0.0, 0.0), (2.0, 1.0)):
        assert loss(BCO(beta=2.0), won, lost) > loss(DPO(beta=2.0), won, lost)
    # The winner's push does not depend on the loser.
    assert slopes(BCO(beta=2.0), 0.3, -0.2)[0] == slopes(BCO(beta=2.0), 0.3, 5.0)[0]


def test_nca_keeps_the_winner_where_its_reward_is_log_two() -> None:
    beta = 0.5
    at, above, below = (slopes(NCA(beta=beta), math.log(2) / beta + x, 0.0)[0] for x in (0, 1, -1))
    assert_close(at, 0.0, rtol=0, atol=1e-15)
    assert above > 0 > below
    assert slopes(NCA(beta=beta), 0.0, -50.0)[1] > 0
    by_hand = softplus(-0.4) + softplus(0.4) / 2 + softplus(-0.1) / 2
    assert_close(loss(NCA(beta=beta), 0.8, -0.2), by_hand)


def test_sppo_regresses_each_log_ratio_to_half_a_step() -> None:
    beta = 0.4
    half = 1 / (2 * beta)
    assert_close(loss(SPPO(beta=beta), half, -half), 0.0)
    assert_close(loss(SPPO(beta=beta), 0.0, 0.0), 2 * half**2)
    assert_close(slopes(SPPO(beta=beta), 0.3, -0.2), (2 * (0.3 - half), 2 * (-0.2 + half)))
    assert_close(SPPO(beta=beta)(pair(0.0, 0.0)[1]).metrics["gradient_factor"].item(), 1.0)


def test_apo_zero_moves_apart_and_apo_down_moves_both_down() -> None:
    assert_close(loss(APOZero(beta=2.0), 0.3, -0.2), sigmoid(-0.6) + sigmoid(-0.4))
    assert_close(loss(APODown(beta=2.0), 0.3, -0.2), sigmoid(0.6) + sigmoid(-1.0))
    won, lost = slopes(APOZero(beta=2.0), 0.3, 0.1)
    assert won < 0 < lost
    # Once they are far apart only the winner's own term is left, and it goes down.
    won, lost = slopes(APODown(beta=2.0), 0.3, -9.0)
    assert won > 0
    assert 0 <= lost < 1e-6


def test_apo_zero_on_pairs_is_twice_its_unpaired_form() -> None:
    inputs = random_inputs(B=4, K=2)
    labels = (inputs.scores_BK == inputs.scores_BK.amax(-1, keepdim=True)).float()
    unpaired = APOZeroUnpaired(beta=0.8, threshold=0.5)(replace(inputs, scores_BK=labels))
    assert_close(APOZero(beta=0.8)(inputs).loss_B, 2 * unpaired.loss_B)


# --- EXO, DiscoPOP --------------------------------------------------------------------------------------------------


def test_exo_is_a_reverse_kl_and_zero_where_the_policy_is_as_sure_as_the_label() -> None:
    e, beta = 0.1, 2.0
    sure = math.log((1 - e) / e) / beta
    assert_close(loss(EXO(beta=beta, label_smoothing=e), sure, 0.0), 0.0, rtol=0, atol=1e-15)
    assert_close(slopes(EXO(beta=beta, label_smoothing=e), sure, 0.0)[0], 0.0, rtol=0, atol=1e-14)
    assert slopes(EXO(beta=beta, label_smoothing=e), sure + 0.5, 0.0)[0] > 0
    q = sigmoid(2.0 * 0.3)
    by_hand = q * math.log(q / (1 - e)) + (1 - q) * math.log((1 - q) / e)
    assert_close(loss(EXO(beta=beta, label_smoothing=e), 0.3, 0.0), by_hand)
    with pytest.raises(ValueError, match="sure"):
        EXO(label_smoothing=0.0)


def test_discopop_is_logistic_for_wrong_pairs_and_exponential_for_right_ones() -> None:
    objective = DiscoPOP(beta=1.0, tau=0.05)
    assert_close(loss(objective, -2.0, 0.0), softplus(2.0), rtol=1e-9, atol=0)
    assert_close(loss(objective, 2.0, 0.0), math.exp(-2.0), rtol=1e-9, atol=0)
    m = sigmoid(0.04 / 0.05)
    assert_close(loss(objective, 0.04, 0.0), (1 - m) * softplus(-0.04) + m * math.exp(-0.04))


def test_discopop_pushes_the_wrong_way_at_the_reference() -> None:
    """Not convex: the exponential is higher than the logistic where one goes over into the other."""
    objective = DiscoPOP(beta=1.0, tau=0.05)
    assert slopes(objective, 0.0, 0.0)[0] > 0 > slopes(objective, 0.5, 0.0)[0]
    assert slopes(objective, -0.5, 0.0)[0] < 0
    with pytest.raises(ValueError, match="outgrows"):
        DiscoPOP(tau=1.0)


# --- lengths: LN-DPO, LD-DPO ----------------------------------------------------------------------------------------


def test_length_normalised_dpo_counts_per_token() -> None:
    _, inputs = tokens([[-0.5, -0.7], [-1.0, -0.2, -0.3]], [1.0, 0.0], [[-0.6, -0.8], [-0.8, -0.3, -0.1]])
    assert_close(LengthNormalisedDPO(beta=5.0)(inputs).loss.item(), softplus(-5.0 * (0.2 / 2 + 0.3 / 3)))
    one_token = random_inputs(B=3, K=3, T=1, density="exact")
    assert_close(LengthNormalisedDPO(beta=2.0)(one_token).loss_B, DPO(beta=2.0)(one_token).loss_B)
    # The draws of a denoising bound are no tokens.
    drawn = random_inputs(B=3, K=3, T=4)
    assert_close(LengthNormalisedDPO(beta=2.0)(drawn).loss_B, DPO(beta=2.0)(drawn).loss_B)


def test_ld_dpo_discounts_what_the_longer_answer_says_beyond_the_shorter() -> None:
    winner, loser = [0.1, 0.2, 0.4, 0.8], [0.3, 0.5]
    leaf, inputs = tokens([winner, loser], [1.0, 0.0], [[0.0] * 4, [0.0] * 2])
    for alpha in (0.0, 0.3, 1.0):
        margin = 0.1 + 0.2 + alpha * (0.4 + 0.8) - (0.3 + 0.5)
        assert_close(LDDPO(beta=2.0, alpha=alpha)(inputs).loss.item(), softplus(-2.0 * margin))
    LDDPO(beta=2.0, alpha=0.3)(inputs).loss.backward()
    assert_close(leaf.grad[0, 0, 2:], 0.3 * leaf.grad[0, 0, :2])
    assert_close(leaf.grad[0, 1], torch.tensor([1.0, 1.0, 0.0, 0.0]).double() * -leaf.grad[0, 0, 0])
    everyone = random_inputs(B=4, K=3, density="exact")
    assert_close(LDDPO(beta=2.0, alpha=1.0)(everyone).loss_B, DPO(beta=2.0)(everyone).loss_B)


def test_ld_dpo_shares_a_length_pair_by_pair() -> None:
    inputs = random_inputs(B=1, K=4, T=5, density="exact")
    objective = LDDPO(beta=2.0, alpha=0.2)
    pairs = [objective(select(inputs, (slice(None), [i, j]))).loss_B for i in range(4) for j in range(i)]
    assert_close(objective(inputs).loss_B, torch.stack(pairs).mean(0))
    margins = objective(inputs).metrics["rewards/margins"]
    order = inputs.scores_BK[0].argsort()
    ends = select(inputs, (slice(None), [int(order[0]), int(order[-1])]))
    assert_close(margins, objective(ends).metrics["rewards/margins"])


# --- AOT ------------------------------------------------------------------------------------------------------------


def quantiles(objective: Any, won: list[float], lost: list[float], reference: list[tuple[float, float]]) -> list[float]:
    """The losses of groups of two whose winner stands first, lowest first."""
    inputs = ObjectiveInputs(
        policy=of_total(torch.tensor([won, lost], dtype=torch.float64).T, "exact"),
        reference=of_total(torch.tensor(reference, dtype=torch.float64), "exact"),
        scores_BK=torch.tensor([[1.0, 0.0]]).expand(len(won), 2),
        mask_BK=torch.ones(len(won), 2, dtype=torch.bool),
    )
    return sorted(objective(inputs).loss_B.tolist())


def test_aot_compares_quantile_with_quantile() -> None:
    won, lost, reference = [-1.0, -4.0, -2.0], [-3.0, -3.5, -1.0], [(-2.0, -2.5), (-3.0, -1.0), (-1.0, -1.5)]
    margins, fixed = [2.0, -0.5, -1.0], [0.5, -2.0, 0.5]
    by_hand = sorted(softplus(-0.7 * (m - f)) for m, f in zip(sorted(margins), sorted(fixed), strict=True))
    assert_close(quantiles(AOT(beta=0.7), won, lost, reference), by_hand)
    up, down = [1.0, -1.0, -1.0], [-0.5, -2.5, 0.5]
    by_hand = sorted(softplus(-0.7 * (u - d)) for u, d in zip(sorted(up), sorted(down), strict=True))
    assert_close(quantiles(AOTUnpaired(beta=0.7), won, lost, reference), by_hand)


@pytest.mark.parametrize("kind", [AOT, AOTUnpaired])
def test_a_group_has_the_loss_of_its_own_quantile(kind: Any) -> None:
    """Against a flat reference and flat losers: the further a winner is ahead, the less its group costs."""
    won = torch.tensor([-1.0, -4.0, -2.0, -0.5], dtype=torch.float64)
    inputs = ObjectiveInputs(
        policy=of_total(torch.stack([won, torch.full_like(won, -3.0)], 1), "exact"),
        reference=of_total(torch.zeros(4, 2).double(), "exact"),
        scores_BK=torch.tensor([[1.0, 0.0]]).expand(4, 2),
        mask_BK=torch.ones(4, 2, dtype=torch.bool),
    )
    assert kind()(inputs).loss_B.argsort().tolist() == won.argsort(descending=True).tolist()


def test_aot_does_not_care_which_group_a_quantile_is_from() -> None:
    won, lost, reference = [-1.0, -4.0, -2.0], [-3.0, -3.5, -1.0], [(-2.0, -2.5), (-3.0, -1.0), (-1.0, -1.5)]
    rolled = reference[1:] + reference[:1]
    assert_close(quantiles(AOT(), won, lost, rolled), quantiles(AOT(), won, lost, reference))
    assert quantiles(DPO(beta=0.1), won, lost, rolled) != quantiles(DPO(beta=0.1), won, lost, reference)
    # Unpaired: with a flat reference any winner may meet any loser.
    flat = [(0.0, 0.0)] * 3
    shuffled = [lost[2], lost[0], lost[1]]
    assert_close(quantiles(AOTUnpaired(), won, shuffled, flat), quantiles(AOTUnpaired(), won, lost, flat))
    assert quantiles(AOT(), won, shuffled, flat) != quantiles(AOT(), won, lost, flat)


@pytest.mark.parametrize("kind", [AOT, AOTUnpaired])
def test_aot_in_micro_batches_of_one_is_dpo(kind: Any) -> None:
    inputs = random_inputs(B=4, K=3)
    assert inputs.reference is not None
    inputs = replace(inputs, reference=take(inputs.reference, [1, 2, 3, 0]))
    singles = torch.cat([kind(beta=0.9)(select(inputs, slice(b, b + 1))).loss_B for b in range(4)])
    assert_close(singles, DPO(beta=0.9, pairing="best_worst")(inputs).loss_B)
    assert not torch.allclose(kind(beta=0.9)(inputs).loss_B.sum(), singles.sum())


@pytest.mark.parametrize("kind", [AOT, AOTUnpaired])
def test_groups_without_order_take_no_quantile(kind: Any) -> None:
    inputs = random_inputs(B=4, K=2)
    tied = replace(inputs, scores_BK=torch.where(torch.arange(4)[:, None] == 1, 0.5, inputs.scores_BK))
    kept = [0, 2, 3]
    assert_close(kind()(tied).loss_B[kept], kind()(select(inputs, kept)).loss_B)
    assert kind()(tied).loss_B[1] == 0
    assert (gradient(kind(), tied)[1] == 0).all()


# --- MaPO and RankDPO on text, SFT per token ------------------------------------------------------------------------


def test_mapo_on_text_reads_the_mean_token_log_prob() -> None:
    inputs = random_inputs(B=3, K=2, density="exact")
    means = replace(inputs, policy=of_total(inputs.policy.mean()))
    assert_close(MaPO()(inputs).loss_B, MaPO()(means).loss_B)
    _, one = tokens([[-0.2, -0.4], [-0.9]], [1.0, 0.0])
    phi = [x / math.expm1(x) for x in (0.5 * 0.6, 0.5 * 1.8)]
    by_hand = 0.6 + 0.1 * softplus(-8.0 * (phi[0] - phi[1]))
    assert_close(MaPO(amplitude=8.0)(one).loss.item(), by_hand)


def test_rankdpo_on_text_weighs_the_log_ratios_of_whole_answers() -> None:
    inputs = random_inputs(B=3, K=4, density="exact")
    assert inputs.reference is not None
    whole = replace(inputs, policy=of_total(inputs.policy.total()), reference=of_total(inputs.reference.total()))
    assert_close(RankDPO(beta=2.0)(inputs).loss_B, RankDPO(beta=2.0)(whole).loss_B)


def test_sft_counts_answers_or_tokens() -> None:
    _, inputs = tokens([[-0.2, -0.4, -0.9], [-5.0]], [1.0, 0.0])
    assert_close(SFT()(inputs).loss.item(), 1.5)
    assert_close(SFT(reduce="mean")(inputs).loss.item(), 0.5)


# --- Bradley-Terry losses of reward models --------------------------------------------------------------------------


def rewards_loss(rewards: list[float], scores: list[float], **options: Any) -> float:
    mask = torch.ones(1, len(rewards), dtype=torch.bool)
    return bradley_terry_loss(torch.tensor([rewards]).double(), torch.tensor([scores]), mask, **options).item()


def test_bradley_terry_likelihood_margin_and_centre() -> None:
    assert_close(rewards_loss([0.3, 0.3], [1.0, 0.0]), math.log(2))
    assert_close(rewards_loss([0.2, 1.0], [0.0, 1.0]), softplus(-0.8))
    asked = torch.tensor([[[9.0, 9.0], [0.5, 9.0]]])
    assert_close(rewards_loss([0.2, 1.0], [0.0, 1.0], margin_BKK=asked), softplus(-0.3))
    # The likelihood does not see a constant; the centring term does.
    assert_close(rewards_loss([5.2, 6.0], [0.0, 1.0]), softplus(-0.8))
    assert_close(rewards_loss([5.2, 6.0], [0.0, 1.0], centering=0.01), softplus(-0.8) + 0.01 * 11.2**2)


def test_bradley_terry_of_a_group_is_the_mean_over_its_pairs_without_what_is_missing() -> None:
    pairs = [softplus(-(a - b)) for a, b in ((0.7, -0.2), (0.7, 0.1), (0.1, -0.2))]
    assert_close(rewards_loss([0.1, 0.7, -0.2], [2.0, 3.0, 1.0]), sum(pairs) / 3)
    rewards = torch.tensor([[0.7, math.nan, -0.2]], requires_grad=True)
    loss_B = bradley_terry_loss(rewards, torch.tensor([[3.0, 9.0, 1.0]]), torch.tensor([[True, False, True]]))
    assert_close(loss_B.item(), softplus(-0.9))
    loss_B.sum().backward()
    assert rewards.grad is not None
    assert rewards.grad[0, 1] == 0
    assert rewards_loss([0.4, 0.1], [1.0, 1.0]) == 0
