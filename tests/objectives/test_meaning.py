"""One sentence of each paper at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from log_probs import gradient, loss, of_total, pair, random_inputs, select, slopes, tame
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import (
    BCO,
    CPO,
    DPO,
    DSPO,
    EXO,
    IPO,
    IREPO,
    KTO,
    NCA,
    ORPO,
    SFT,
    SPPO,
    APODown,
    APOZero,
    APOZeroUnpaired,
    DiffusionKTO,
    DiscoPOP,
    Hinge,
    LengthNormalisedDPO,
    MaPO,
    RobustDPO,
    SimPO,
)
from penchant.objectives.mapo import log_phi
from penchant.types import Objective, ObjectiveInputs

BY_MARGIN: list[Objective] = [
    DPO(beta=3.0),
    RobustDPO(beta=3.0),
    Hinge(beta=3.0),
    IPO(beta=3.0),
    EXO(beta=3.0),
    DiscoPOP(beta=3.0),
    LengthNormalisedDPO(beta=3.0),
]
EACH_BY_ITSELF: list[Objective] = [BCO(beta=3.0), NCA(beta=3.0), SPPO(beta=3.0), APOZero(beta=3.0), APODown(beta=3.0)]
REFERENCED = [*BY_MARGIN, *EACH_BY_ITSELF]
PAIRED: list[Objective] = [
    *REFERENCED,
    IREPO(beta=3.0, pairing="all"),
    MaPO(amplitude=10.0),
    SimPO(),
    CPO(beta=3.0),
    ORPO(),
]
by_name = {"ids": lambda o: type(o).__name__}


# --- every pairwise loss --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [*PAIRED, DSPO(beta=0.5)], **by_name)
def test_winner_up_loser_down(objective: Objective) -> None:
    # DiscoPOP pushes the wrong way around zero: see its own tests.
    ahead = 0.3 if isinstance(objective, DiscoPOP) else 0.0
    won, lost = slopes(objective, -0.5 + ahead, -0.5, (-0.5, -0.5), divergence_BKT=torch.zeros(1, 2, 1))
    assert won < 0 or isinstance(objective, APODown)
    assert lost > 0 or isinstance(objective, DSPO)


@pytest.mark.parametrize("objective", BY_MARGIN, **by_name)
def test_only_the_distance_from_the_reference_counts(objective: Objective) -> None:
    assert_close(loss(objective, -0.5, -0.7, (-0.6, -0.6)), loss(objective, -1.5, -0.2, (-1.6, -0.1)))
    assert loss(objective, -0.5, -0.7, (-0.6, -0.6)) != loss(objective, -0.5, -0.7, (-0.5, -0.7))


@pytest.mark.parametrize("objective", [*REFERENCED, DSPO(beta=0.5)], **by_name)
def test_swapping_the_scores_negates_the_logit_exactly(objective: Objective) -> None:
    inputs = random_inputs(B=8, K=2)
    swapped = replace(inputs, scores_BK=inputs.scores_BK.flip(1))
    margins = [objective(i).metrics["rewards/margins"].item() for i in (inputs, swapped)]
    assert margins[0] == -margins[1]
    assert margins[0] != 0


@pytest.mark.parametrize("objective", PAIRED, **by_name)
def test_the_score_decides_who_won_not_the_place(objective: Objective) -> None:
    inputs = random_inputs(B=6, K=2)
    assert_close(objective(select(inputs, (slice(None), [1, 0]))).loss_B, objective(inputs).loss_B)
    swapped = replace(inputs, scores_BK=inputs.scores_BK.flip(1))
    assert not torch.allclose(objective(swapped).loss_B, objective(inputs).loss_B)


@pytest.mark.parametrize("objective", PAIRED, **by_name)
def test_a_group_is_the_mean_over_its_ordered_pairs(objective: Objective) -> None:
    inputs = random_inputs(B=1, K=4)
    pairs = [objective(select(inputs, (slice(None), [i, j]))).loss_B for i in range(4) for j in range(i)]
    assert_close(objective(inputs).loss_B, torch.stack(pairs).mean(0))


@pytest.mark.parametrize("objective", PAIRED, **by_name)
def test_best_against_worst_only(objective: Objective) -> None:
    inputs = replace(random_inputs(B=1, K=4), scores_BK=torch.tensor([[0.3, 0.9, 0.1, 0.5]]))
    ends = objective(select(inputs, (slice(None), [1, 2]))).loss_B
    assert_close(replace(objective, pairing="best_worst")(inputs).loss_B, ends)  # type: ignore[type-var]


@pytest.mark.parametrize("objective", [*REFERENCED, DSPO(beta=0.5)], **by_name)
def test_a_tie_is_left_out_or_credited_half_each_way(objective: Objective) -> None:
    inputs = random_inputs(B=1, K=2)
    tied = replace(inputs, scores_BK=torch.zeros(1, 2))
    assert objective(tied).loss.item() == 0
    half = replace(objective, tie_credit=0.5)  # type: ignore[type-var]
    both = [objective(replace(inputs, scores_BK=torch.tensor([s]))).loss for s in ([1.0, 0.0], [0.0, 1.0])]
    assert_close(half(tied).loss, (both[0] + both[1]) / 2)
    assert_close(half(inputs).loss, objective(inputs).loss)


# --- DPO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 5000.0])
def test_dpo_starts_at_log_two(beta: float) -> None:
    assert_close(loss(DPO(beta=beta), -0.3, -0.9, (-0.3, -0.9)), math.log(2))
    metrics = DPO(beta=beta)(pair(-0.3, -0.9, (-0.3, -0.9))[1]).metrics
    assert metrics["gradient_factor"] == 0.5
    assert metrics["rewards/accuracies"] == 0.5


def test_dpo_worked_by_hand() -> None:
    """Two pairs of errors, beta 5000: logits +5 and -5 (the note's reference values)."""
    m, r = torch.tensor([[0.10, 0.11], [0.12, 0.10]]), torch.tensor([[0.101, 0.109], [0.119, 0.101]])
    inputs = ObjectiveInputs(
        policy=of_total(-0.5 * m.double()),
        reference=of_total(-0.5 * r.double()),
        scores_BK=torch.tensor([[1.0, 0.0]]).expand(2, 2),
        mask_BK=torch.ones(2, 2, dtype=torch.bool),
    )
    output = DPO(beta=5000)(inputs)
    assert_close(output.loss.item(), 2.5067153485, rtol=0, atol=1e-4)
    exact = replace(
        inputs,
        policy=of_total(-0.5 * torch.tensor([[0.10, 0.11], [0.12, 0.10]], dtype=torch.float64)),
        reference=of_total(-0.5 * torch.tensor([[0.101, 0.109], [0.119, 0.101]], dtype=torch.float64)),
    )
    assert_close(DPO(beta=5000)(exact).loss.item(), 2.5067153485, rtol=0, atol=1e-10)
    logits = [math.log(math.expm1(v)) for v in DPO(beta=5000)(exact).loss_B.tolist()]
    assert_close(logits, [-5.0, 5.0])


def test_beta_doubles_the_logit() -> None:
    margins = [DPO(beta=b)(random_inputs(K=2)).metrics["rewards/margins"].item() for b in (1.0, 2.0)]
    assert_close(margins[1], 2 * margins[0])


def test_dpo_gradient_is_the_probability_of_being_wrong() -> None:
    won, lost = slopes(DPO(beta=2.0), -0.4, -0.9, (-0.5, -0.5))
    wrong = 1 / (1 + math.exp(2.0 * 0.5))
    assert_close((won, lost), (-2.0 * wrong, 2.0 * wrong))


def test_label_smoothing_is_the_expectation_over_flipped_labels() -> None:
    inputs = random_inputs(K=2)
    flipped = replace(inputs, scores_BK=inputs.scores_BK.flip(1))
    clean = DPO(beta=2.0)
    assert_close(
        DPO(beta=2.0, label_smoothing=0.2)(inputs).loss_B, 0.8 * clean(inputs).loss_B + 0.2 * clean(flipped).loss_B
    )


def test_robust_dpo_is_unbiased_under_flipped_labels() -> None:
    inputs, robust = random_inputs(K=2), RobustDPO(beta=2.0, label_smoothing=0.2)
    flipped = replace(inputs, scores_BK=inputs.scores_BK.flip(1))
    expected = 0.8 * robust(inputs).loss_B + 0.2 * robust(flipped).loss_B
    assert_close(expected, DPO(beta=2.0)(inputs).loss_B)
    with pytest.raises(ValueError, match="half"):
        RobustDPO(label_smoothing=0.5)


@pytest.mark.parametrize("objective", REFERENCED, **by_name)
def test_gradient_factor_is_the_slope_in_the_logit(objective: Any) -> None:
    inputs = random_inputs(B=1, K=2)
    won = inputs.scores_BK.argmax(-1).item()
    pushes = [gradient(objective, inputs)[0, k].sum().abs() for k in (int(won), 1 - int(won))]
    slope = (pushes[0] + pushes[1]) / 2 / objective.beta
    if isinstance(objective, (IPO, SPPO)):
        # Relative to the start, where it is 1 / beta by the margin.
        slope = slope * objective.beta**2
    assert_close(objective(inputs).metrics["gradient_factor"], slope)


def test_saturated_pairs_are_counted() -> None:
    inputs = random_inputs(B=5, K=2)
    assert DPO(beta=1e-6)(inputs).metrics["saturated"] == 0
    correct = DPO(beta=1.0)(inputs).metrics["rewards/accuracies"]
    assert_close(DPO(beta=1e6)(inputs).metrics["saturated"], correct)


# --- hinge, IPO -----------------------------------------------------------------------------------------------------


def test_hinge_is_one_at_the_start_and_stops_at_one_logit() -> None:
    assert loss(Hinge(beta=2.0), 0.0, 0.0) == 1
    assert_close(loss(Hinge(beta=2.0), 0.2, 0.0), 0.6)
    assert loss(Hinge(beta=2.0), 0.6, 0.0) == 0
    assert slopes(Hinge(beta=2.0), 0.6, 0.0) == (0, 0)
    assert_close(loss(Hinge(beta=2.0), -0.2, 0.0), 1.4)


def test_ipo_is_zero_at_its_target_and_pulls_back_beyond() -> None:
    beta = 0.8
    target = 1 / (2 * beta)
    assert_close(loss(IPO(beta=beta), target, 0.0), 0.0)
    assert slopes(IPO(beta=beta), target + 0.1, 0.0)[0] > 0 > slopes(IPO(beta=beta), target - 0.1, 0.0)[0]
    assert_close(loss(IPO(beta=beta), 0.0, 0.0), target**2)


def test_ipo_counts_per_token_so_that_length_is_no_reward() -> None:
    inputs = random_inputs(B=2, K=2, density="exact", T=4)
    longer = replace(
        inputs,
        policy=replace(
            inputs.policy,
            step_BKT=torch.cat([inputs.policy.step_BKT] * 2, -1),
            mask_BKT=torch.cat([inputs.policy.mask_BKT] * 2, -1),
        ),
        reference=replace(
            inputs.reference,
            step_BKT=torch.cat([inputs.reference.step_BKT] * 2, -1),  # type: ignore[union-attr]
            mask_BKT=torch.cat([inputs.reference.mask_BKT] * 2, -1),  # type: ignore[union-attr]
        ),
    )
    assert_close(IPO(beta=1.0)(longer).loss_B, IPO(beta=1.0)(inputs).loss_B)
    assert not torch.allclose(DPO(beta=1.0)(longer).loss_B, DPO(beta=1.0)(inputs).loss_B)


# --- SFT ------------------------------------------------------------------------------------------------------------


def test_sft_is_half_the_winners_error_and_ignores_the_loser() -> None:
    assert_close(loss(SFT(), -0.5 * 0.31, -0.5 * 0.9), 0.5 * 0.31)
    assert slopes(SFT(), -0.2, -0.9) == (-1, 0)
    tied = replace(pair(-0.2, -0.6)[1], scores_BK=torch.ones(1, 2))
    assert_close(SFT()(tied).loss.item(), 0.4)


# --- MaPO -----------------------------------------------------------------------------------------------------------


def test_mapo_worked_by_hand() -> None:
    """beta 0.1, scale 0.5, T 1000 on the errors of the DPO example: z = (2.456254028, -4.908342652)."""
    errors = torch.tensor([[0.10, 0.11], [0.12, 0.10]], dtype=torch.float64)
    inputs = ObjectiveInputs(
        policy=of_total(-0.5 * errors),
        scores_BK=torch.tensor([[1.0, 0.0]]).expand(2, 2),
        mask_BK=torch.ones(2, 2, dtype=torch.bool),
    )
    output = MaPO.code()(inputs)
    assert_close(output.loss.item(), 0.3598988187, rtol=0, atol=1e-9)
    z = [-math.log(math.expm1((v - m) / 0.1)) for v, m in zip(output.loss_B.tolist(), (0.10, 0.12), strict=True)]
    assert_close(z, [2.456254028, -4.908342652], rtol=0, atol=1e-7)
    assert_close(output.metrics["rewards/margins"].item(), sum(z) / 2)


def test_mapo_needs_no_reference() -> None:
    assert not MaPO.needs.reference
    with_reference, without = pair(-0.1, -0.3, (-0.9, -0.2))[1], pair(-0.1, -0.3, None)[1]
    assert MaPO()(with_reference).loss == MaPO()(without).loss


@pytest.mark.parametrize("objective", [MaPO.code(), MaPO.paper_power(), MaPO.paper_scale(32.0)])
def test_mapo_margin_is_antisymmetric_and_zero_at_equal_errors(objective: MaPO) -> None:
    inputs = random_inputs(B=8, K=2)
    margins = [
        objective(replace(inputs, scores_BK=s)).metrics["rewards/margins"].item()
        for s in (inputs.scores_BK, inputs.scores_BK.flip(1))
    ]
    assert margins[0] == -margins[1] != 0
    at_zero = loss(objective, -0.2, -0.2, None)
    assert_close(at_zero, 0.4 + objective.beta * math.log(2))


def test_mapo_presets_are_the_formulas_of_their_sources() -> None:
    m_w, m_l = 0.3, 0.7
    phi = {m: m / (math.exp(m) - 1) for m in (m_w, m_l, 0.5 * m_w, 0.5 * m_l)}
    log_sigmoid = lambda z: -math.log1p(math.exp(-z))  # noqa: E731
    code = m_w - 0.1 * log_sigmoid(1000 * (phi[0.5 * m_w] - phi[0.5 * m_l]))
    assert_close(loss(MaPO.code(), -m_w / 2, -m_l / 2, None), code)
    power = m_w - log_sigmoid(phi[m_w] ** 8 - phi[m_l] ** 8) / 8
    assert_close(loss(MaPO.paper_power(8.0), -m_w / 2, -m_l / 2, None), power)
    scale = m_w - log_sigmoid(8 * phi[m_w] - 8 * phi[m_l]) / 8
    assert_close(loss(MaPO.paper_scale(8.0), -m_w / 2, -m_l / 2, None), scale)


def test_mapo_gradient_at_equal_errors_is_twelve_times_the_sft_gradient() -> None:
    """The code's preset: 0.1 * 0.5 * 246 = 12.3 on the winner's error of 0.1, against 1 for SFT."""
    won, lost = (s / -2 for s in slopes(MaPO(), -0.05, -0.05, None))
    assert_close((won, lost), (1 + 12.3, -12.3), rtol=5e-3, atol=0)


def test_phi_falls_from_one_to_zero_and_its_slope_starts_at_minus_half() -> None:
    x = torch.tensor(
        [0.0, 1e-12, 1e-6, 0.1, 0.999999, 1.000001, 3.0, 88.0, 1e4], dtype=torch.float64, requires_grad=True
    )
    phi = log_phi(x).exp()
    phi.sum().backward()
    assert phi[0] == 1
    assert phi[-1] == 0
    assert (phi.diff() < 0).all() or (phi.diff() <= 0).sum() == len(x) - 1
    assert x.grad is not None
    assert_close(x.grad[:3], torch.full((3,), -0.5, dtype=torch.float64), rtol=1e-6, atol=0)
    assert_close(phi[3].item(), 0.1 / math.expm1(0.1), rtol=1e-14, atol=0)
    assert torch.autograd.gradgradcheck(log_phi, (x[3:7].detach().requires_grad_(),))


# --- KTO ------------------------------------------------------------------------------------------------------------


def unpaired(logps: list[float], labels: list[int], unrelated: float = 0.0) -> tuple[Tensor, ObjectiveInputs]:
    leaf = torch.tensor(logps, dtype=torch.float64)[:, None].requires_grad_()
    zero = torch.zeros_like(leaf).detach()
    inputs = ObjectiveInputs(
        policy=of_total(leaf, "exact"),
        reference=of_total(zero, "exact"),
        mismatched=(of_total(zero + unrelated, "exact"), of_total(zero, "exact")),
        scores_BK=torch.tensor(labels)[:, None].double(),
        mask_BK=torch.ones(len(labels), 1, dtype=torch.bool),
    )
    return leaf, inputs


@pytest.mark.parametrize("objective", [KTO(beta=1.0), DiffusionKTO(beta=1.0), APOZeroUnpaired(beta=1.0)], **by_name)
def test_good_samples_up_bad_samples_down(objective: Objective) -> None:
    leaf, inputs = unpaired([0.1, -0.2, 0.3, 0.2], [1, 0, 0, 1])
    objective(inputs).loss.backward()
    assert leaf.grad is not None
    assert (leaf.grad.flatten().sign() == torch.tensor([-1, 1, 1, -1])).all()


def test_kto_values_by_hand() -> None:
    _, inputs = unpaired([0.5, -0.4], [1, 0], unrelated=0.3)
    output = KTO(beta=2.0, desirable_weight=1.5, undesirable_weight=0.5)(inputs)
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    by_hand = [1.5 * (1 - sigmoid(2 * (0.5 - 0.3))), 0.5 * (1 - sigmoid(2 * (0.3 + 0.4)))]
    assert_close(output.loss_B.tolist(), by_hand)
    assert_close(output.metrics["kl"].item(), 0.3)


def test_baselines_are_clamped_at_zero_and_have_no_gradient() -> None:
    _, below = unpaired([0.5, -0.4], [1, 0], unrelated=-0.3)
    _, zero = unpaired([0.5, -0.4], [1, 0])
    assert_close(KTO(beta=2.0)(below).loss, KTO(beta=2.0)(zero).loss)
    assert KTO(beta=2.0)(below).metrics["kl"] == 0
    leaf, inputs = unpaired([-0.5, 0.2], [1, 0])
    assert DiffusionKTO(beta=2.0)(inputs).metrics["kl"] == 0
    leaf, inputs = unpaired([0.5, 0.3], [1, 1])
    output = DiffusionKTO(beta=2.0)(inputs)
    assert_close(output.metrics["kl"].item(), 0.4)
    output.loss.backward()
    # Were the baseline differentiated, raising all log-probs alike would change nothing and the slopes add up to zero.
    s = 1 / (1 + math.exp(-2 * 0.1))
    assert leaf.grad is not None
    assert_close(leaf.grad.flatten().tolist(), [-2 * s * (1 - s) / 2] * 2)


def test_diffusion_kto_is_kto_whose_unrelated_completions_are_its_own() -> None:
    inputs = random_inputs(K=2)
    own = replace(inputs, mismatched=(inputs.policy, inputs.reference))
    for threshold in (0.1, 0.4):
        both = [kind(beta=0.7, threshold=threshold)(own) for kind in (KTO, DiffusionKTO)]
        assert_close(both[0].loss_B, both[1].loss_B)


def test_kto_labels_by_threshold() -> None:
    _, inputs = unpaired([0.5, -0.4], [1, 3])
    assert_close(
        APOZeroUnpaired(beta=1.0, threshold=2.0)(inputs).loss_B,
        APOZeroUnpaired(beta=1.0)(unpaired([0.5, -0.4], [0, 1])[1]).loss_B,
    )


# --- DSPO -----------------------------------------------------------------------------------------------------------


def _dspo_case(beta: float) -> tuple[Tensor, ObjectiveInputs, Tensor, Tensor]:
    """Predictions [B, 2, dims] as leaf, the inputs made of them, the reference's predictions and the target."""
    g = torch.Generator().manual_seed(0)
    target, reference, start = torch.randn(3, 5, 2, 7, generator=g, dtype=torch.float64)
    leaf = (reference + 0.4 * start).requires_grad_()
    inputs = ObjectiveInputs(
        policy=of_total(-0.5 * (leaf - target).square().mean(-1)),
        reference=of_total(-0.5 * (reference - target).square().mean(-1)),
        divergence_BKT=(leaf - reference).square().mean(-1, keepdim=True),
        scores_BK=torch.tensor([[1.0, 0.0]]).expand(5, 2),
        mask_BK=torch.ones(5, 2, dtype=torch.bool),
    )
    return leaf, inputs, reference, target


@pytest.mark.parametrize("beta", [0.001, 0.5, 3.0])
def test_dspo_is_the_authors_direct_form_in_value_and_gradient(beta: float) -> None:
    leaf, inputs, reference, target = _dspo_case(beta)
    m, r = (leaf - target).square().mean(-1), (reference - target).square().mean(-1)
    z = -0.5 * beta * ((m[:, 0] - m[:, 1]) - (r[:, 0] - r[:, 1]))
    moved = (leaf - target)[:, 0] - beta * (1 - torch.sigmoid(z))[:, None] * (leaf - reference)[:, 0]
    direct = moved.square().mean(-1)
    (expected,) = torch.autograd.grad(direct.mean(), leaf, retain_graph=True)
    output = DSPO(beta=beta)(inputs)
    assert_close(output.loss_B, direct)
    (got,) = torch.autograd.grad(output.loss, leaf)
    assert_close(got, expected)
    assert got[:, 1].abs().max() > 0


def test_dspo_at_beta_zero_is_the_winners_error() -> None:
    _, inputs, _, _ = _dspo_case(0.0)
    assert_close(DSPO(beta=0.0)(inputs).loss_B, -2 * inputs.policy.total()[:, 0])
    assert_close(DSPO(beta=0.0)(inputs).loss_B, 2 * SFT()(inputs).loss_B)


# --- metrics --------------------------------------------------------------------------------------------------------


def test_metrics_of_one_group_by_hand() -> None:
    """Best is candidate 1, worst 2; 0 stands between and is in no metric but the pair factors."""
    inputs = ObjectiveInputs(
        policy=of_total(torch.tensor([[-1.0, -2.0, -3.0]], dtype=torch.float64)),
        reference=of_total(torch.tensor([[-1.5, -2.25, -2.0]], dtype=torch.float64)),
        scores_BK=torch.tensor([[0.5, 0.9, 0.1]]),
        mask_BK=torch.ones(1, 3, dtype=torch.bool),
    )
    metrics = {k: v.item() for k, v in DPO(beta=2.0)(inputs).metrics.items()}
    assert metrics["rewards/chosen"] == 0.5
    assert metrics["rewards/rejected"] == -2.0
    assert metrics["rewards/margins"] == 2.5
    assert metrics["rewards/accuracies"] == 1
    assert metrics["logps/chosen"] == -2
    assert metrics["logps/rejected"] == -3
    assert metrics["drift/chosen"] == 0.25
    wrong = [1 / (1 + math.exp(z)) for z in (0.5 - 1.0, 0.5 + 2.0, 1.0 + 2.0)]
    assert_close(metrics["gradient_factor"], sum(wrong) / 3)


def test_metrics_skip_groups_without_order_and_are_undefined_without_any() -> None:
    one = random_inputs(B=1, K=2, seed=3)
    two = random_inputs(B=2, K=2, seed=3)
    tied = replace(two, scores_BK=torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    alone = select(tied, slice(1, 2))
    for name, value in tame("dpo")(alone).metrics.items():
        assert_close(tame("dpo")(tied).metrics[name], value)
    nothing = replace(one, scores_BK=torch.zeros(1, 2))
    assert tame("dpo")(nothing).metrics["rewards/margins"].isnan()


def test_equal_rewards_are_half_an_accuracy() -> None:
    assert DPO()(pair(-0.5, -0.5, (-0.5, -0.5))[1]).metrics["rewards/accuracies"] == 0.5
    assert KTO()(unpaired([0.0, 0.0], [1, 0])[1]).metrics["rewards/accuracies"] == 0.5
