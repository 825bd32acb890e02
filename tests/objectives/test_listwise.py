"""RankDPO, Plackett-Luce and ListNet: recorded values, and one sentence of each paper at a time."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from log_probs import gradient, of_total, random_inputs
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import DPO, ListNet, PlackettLuce, RankDPO
from penchant.objectives.rankdpo import dcg_weights, inverse_discounts
from penchant.types import Density, Objective, ObjectiveInputs


def listed(log_ratio: list[float], phi: list[float], density: Density = "bound") -> ObjectiveInputs:
    """One group whose policy lies `log_ratio` above its reference."""
    policy = torch.tensor([log_ratio], dtype=torch.float64, requires_grad=True)
    return ObjectiveInputs(
        policy=of_total(policy, density),
        reference=of_total(torch.zeros_like(policy).detach(), density),
        scores_BK=torch.tensor([phi], dtype=torch.float64),
        mask_BK=torch.ones(1, len(phi), dtype=torch.bool),
    )


def delta(phi: list[float], log_base: float = math.e) -> Tensor:
    scores = torch.tensor([phi], dtype=torch.float64)
    return dcg_weights(scores, torch.ones_like(scores, dtype=torch.bool), log_base=log_base, dtype=torch.float64)[0]


# --- RankDPO: values recorded for eq. 5-7, float64 ---

S, PHI = [-0.002, 0.001, 0.0005, -0.0001], [0.95, 0.2, 0.6, 0.25]
# s is a difference of squared errors, log pi - log ref is -1/2 of it, and beta_eff = 2500 is our 5000.
LOG_RATIO = [-s / 2 for s in S]


@pytest.mark.oracle
@pytest.mark.parametrize(("log_base", "expected"), [(math.e, 0.1372964065), (2.0, 0.0951666170)])
def test_the_loss_has_the_recorded_value(log_base, expected):
    found = RankDPO(beta=5000.0, log_base=log_base)(listed(LOG_RATIO, PHI)).loss.item()
    assert_close(found, expected, rtol=1e-8, atol=0)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("phi", "expected"),
    [
        (
            PHI,
            {
                (0, 1): 0.643268,
                (0, 2): 0.221585,
                (0, 3): 0.535720,
                (2, 1): 0.106033,
                (2, 3): 0.061675,
                (3, 1): 0.004051,
            },
        ),
        (
            [1, 2 / 3, 1 / 3, 0],
            {(0, 1): 0.2197, (0, 2): 0.5339, (0, 3): 0.8214, (1, 2): 0.0619, (1, 3): 0.1697, (2, 3): 0.0260},
        ),
    ],
)
def test_the_weights_have_the_recorded_values(phi, expected):
    found = delta(phi)
    for (i, j), value in expected.items():
        digits = 6 if phi is PHI else 4
        assert round(found[i, j].item(), digits) == value
        assert found[j, i] == 0


# --- RankDPO: sentences ---


def test_pairs_with_the_best_carry_most_of_the_weight():
    found = delta([1, 2 / 3, 1 / 3, 0])
    assert_close(found.sum().item(), 1.832, rtol=0, atol=1e-3)
    assert found[0].sum() / found.sum() == pytest.approx(0.86, abs=0.005)


@pytest.mark.parametrize("won", [0.0, 0.3, 1.0])
def test_for_two_it_is_weighted_dpo(won):
    inputs, two = listed([0.0004, -0.0002], [won, 0.1]), 1 / math.log(2) - 1 / math.log(3)
    assert two == pytest.approx(0.5325, abs=1e-4)
    weight = abs(2**won - 2**0.1) * two
    ours, dpo = RankDPO(beta=5000.0), DPO(beta=5000.0)
    assert_close(ours(inputs).loss, weight * dpo(inputs).loss)
    assert_close(gradient(ours, inputs), weight * gradient(dpo, inputs))


def test_policy_equal_to_reference_costs_log_two_a_unit_of_weight():
    inputs = listed([0.0] * 4, PHI)
    assert_close(RankDPO()(inputs).loss, math.log(2) * delta(PHI).sum())


def test_it_raises_the_better_and_lowers_the_worse():
    grad = gradient(RankDPO(beta=5000.0), listed([0.0] * 4, PHI))[0, :, 0]
    assert grad[0] < 0 < grad[1]
    assert_close(grad.sum(), torch.zeros((), dtype=grad.dtype), rtol=0, atol=1e-9)


def test_weights_have_no_gradient_and_ranks_come_from_the_true_scores_alone():
    """A policy that ranks otherwise changes logits, never weights."""
    near, far = listed([0.0] * 4, PHI), listed([-1.0, 1.0, 0.5, 2.0], PHI)
    one, other = (gradient(RankDPO(beta=1e-9), inputs)[0, :, 0] / 1e-9 for inputs in (near, far))
    assert_close(one, other, rtol=1e-6, atol=1e-12)


def test_a_tie_shares_the_mean_discount_of_its_places():
    """The mean over both ways to break it; the tied pair itself weighs nothing."""
    scores = torch.tensor([[0.6, 0.6, 0.3, 0.9]], dtype=torch.float64)
    mask = torch.ones_like(scores, dtype=torch.bool)
    discount = [1 / math.log(1 + place) for place in (1, 2, 3, 4)]
    found = inverse_discounts(scores, mask, dtype=torch.float64)[0]
    middle = (discount[1] + discount[2]) / 2
    assert_close(found, torch.tensor([middle, middle, discount[3], discount[0]], dtype=torch.float64))
    tied, broken = delta([0.6, 0.6, 0.3, 0.9]), [delta([0.6, 0.6 - e, 0.3, 0.9]) for e in (1e-9, -1e-9)]
    assert_close(tied, (broken[0] + broken[1]) / 2, rtol=1e-6, atol=1e-8)
    assert tied[0, 1] == tied[1, 0] == 0


@pytest.mark.parametrize("kind", [RankDPO, PlackettLuce])
def test_groups_of_equals_say_nothing(kind: type[Objective]):
    inputs = listed([0.1, -0.2, 0.3], [0.5, 0.5, 0.5])
    assert kind()(inputs).loss == 0
    assert (gradient(kind(), inputs) == 0).all()


@pytest.mark.parametrize("objective", [RankDPO(beta=2.0), PlackettLuce(beta=2.0), ListNet(beta=2.0)], ids=str)
@pytest.mark.parametrize("density", ["exact", "bound", "path"])
def test_ties_do_not_break_the_invariance_under_permutation(objective: Objective, density: Density):
    phi, ratio = [0.6, 0.6, 0.3, 0.9, 0.3], [0.2, -0.1, 0.4, 0.3, -0.5]
    expected = objective(listed(ratio, phi, density)).loss
    for order in itertools.islice(itertools.permutations(range(5)), 1, 40):
        shuffled = listed([ratio[i] for i in order], [phi[i] for i in order], density)
        assert_close(objective(shuffled).loss, expected)


def test_the_base_of_the_logarithm_only_scales():
    inputs = listed(LOG_RATIO, PHI)
    assert_close(RankDPO(log_base=2.0)(inputs).loss, RankDPO()(inputs).loss * math.log(2))
    with pytest.raises(ValueError, match="log_base"):
        RankDPO(log_base=1.0)


# --- Plackett-Luce ---


def test_plackett_luce_is_the_probability_of_the_order():
    """By hand: best first, each softmax over who is left."""
    inputs = listed([0.3, -0.2, 0.1], [0.2, 0.9, 0.5])
    r = [2 * x for x in (0.3, -0.2, 0.1)]
    first = math.exp(r[1]) / sum(map(math.exp, r))
    second = math.exp(r[2]) / (math.exp(r[2]) + math.exp(r[0]))
    assert_close(PlackettLuce(beta=2.0)(inputs).loss.item(), -math.log(first * second))


def test_plackett_luce_probabilities_of_all_orders_add_up_to_one():
    ratio, total = [0.4, -0.3, 0.2, 0.0], 0.0
    for order in itertools.permutations(range(4)):
        total += math.exp(-PlackettLuce(beta=3.0)(listed(ratio, [float(x) for x in order])).loss.item())
    assert total == pytest.approx(1.0, abs=1e-12)


def test_plackett_luce_for_two_is_dpo():
    inputs = random_inputs(K=2)
    assert_close(PlackettLuce(beta=2.0)(inputs).loss, DPO(beta=2.0)(inputs).loss)


def test_tied_candidates_do_not_compete():
    """Two equal winners over one loser: each is drawn against the loser alone."""
    inputs = listed([0.3, 0.1, -0.2], [1.0, 1.0, 0.0])
    r = [2 * x for x in (0.3, 0.1, -0.2)]
    expected = sum(math.log1p(math.exp(r[2] - r[i])) for i in (0, 1))
    assert_close(PlackettLuce(beta=2.0)(inputs).loss.item(), expected)


# --- ListNet ---


def test_listnet_is_zero_where_the_policy_says_what_the_scores_say():
    phi = [1.0, 0.2, 0.6]
    matched = listed([p / (2.0 * 0.5) for p in phi], phi)
    objective = ListNet(beta=2.0, temperature=0.5)
    assert_close(objective(matched).loss.item(), 0.0, rtol=0, atol=1e-12)
    assert gradient(objective, matched).abs().max() < 1e-12


def test_listnet_is_the_divergence_of_the_two_softmaxes():
    inputs = listed([0.3, -0.2], [1.0, 0.0])
    p = 1 / (1 + math.exp(-1.0))
    q = 1 / (1 + math.exp(-2 * 0.5))
    kl = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert_close(ListNet(beta=2.0)(inputs).loss.item(), kl)


def test_listnet_pulls_equals_together():
    apart = listed([0.5, -0.5], [0.5, 0.5])
    grad = gradient(ListNet(beta=2.0), apart)[0, :, 0]
    assert grad[0] > 0 > grad[1]


def test_listnet_ignores_a_constant_added_to_all_scores():
    inputs = random_inputs()
    moved = replace(inputs, scores_BK=inputs.scores_BK + 7)
    assert_close(ListNet(beta=2.0)(moved).loss, ListNet(beta=2.0)(inputs).loss)
