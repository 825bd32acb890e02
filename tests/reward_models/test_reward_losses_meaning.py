"""What the losses of reward models mean, and tie calibration against a slow computation of its definition."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from penchant.errors import FeedbackError, RecipeError
from penchant.reward_models.accuracy import at_threshold, by_chance, with_ties, without_ties
from penchant.reward_models.losses import (
    A_BETTER,
    B_BETTER,
    LOSSES,
    SAME,
    UNLABELLED,
    BradleyTerry,
    BradleyTerryTies,
    Comparisons,
    RatedMargin,
    Regression,
)


def pairs_of(difference: list[float], label: list[int], ratings: tuple[float, float] = (0.0, 0.0)) -> Comparisons:
    """Pairs of one dimension whose rewards differ by `difference`."""
    first = torch.tensor(difference, dtype=torch.float64)[:, None].requires_grad_()
    return Comparisons(
        reward_A_BD=first,
        reward_B_BD=torch.zeros_like(first),
        label_BD=torch.tensor(label)[:, None],
        rating_A_BD=torch.full_like(first, ratings[0]).detach(),
        rating_B_BD=torch.full_like(first, ratings[1]).detach(),
    )


@given(d=st.floats(-30, 30), theta=st.floats(1.001, 100))
def test_the_three_outcomes_have_probability_one(d, theta):
    log_p = BradleyTerryTies(theta=theta).log_probabilities(torch.tensor(d, dtype=torch.float64))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_two_thirds_of_equals_tie_at_theta_5():
    p = BradleyTerryTies(theta=5.0).log_probabilities(torch.tensor(0.0, dtype=torch.float64)).exp()
    assert_close(p, torch.tensor([1 / 6, 1 / 6, 2 / 3], dtype=torch.float64))


def test_the_branch_that_the_paper_prints_does_not_add_up():
    # Equation 1, whose first branch has theta on the wrong term, at d = 2.
    a, b, theta = math.exp(2.0), 1.0, 5.0
    printed = a / (b + theta * a) + b / (b + theta * a)
    printed += (theta**2 - 1) * a * b / ((a + theta * b) * (theta * a + b))
    assert printed == pytest.approx(0.598, abs=5e-4)


def test_losses_of_a_tie_and_of_a_win_between_equals():
    assert BradleyTerryTies()(pairs_of([0.0], [SAME])).item() == pytest.approx(-math.log(2 / 3))
    assert BradleyTerryTies()(pairs_of([0.0], [A_BETTER])).item() == pytest.approx(math.log(6))


def test_theta_near_one_is_bradley_terry():
    pairs = pairs_of([0.7, -1.3], [A_BETTER, A_BETTER])
    assert_close(BradleyTerryTies(theta=1 + 1e-9)(pairs), BradleyTerry()(pairs), rtol=1e-8, atol=1e-8)


def test_ties_pull_rewards_together_and_bradley_terry_ignores_them():
    tied = pairs_of([2.0], [SAME])
    BradleyTerryTies()(tied).backward()
    assert tied.reward_A_BD.grad is not None
    assert tied.reward_A_BD.grad.item() > 0
    ignored = pairs_of([2.0], [SAME])
    loss = BradleyTerry()(ignored)
    loss.backward()
    assert loss.item() == 0
    assert_close(ignored.reward_A_BD.grad, torch.zeros(1, 1, dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_both_reductions(name):
    """Over labelled entries an unlabelled pair changes nothing; over all entries it halves the loss."""
    alone, beside = pairs_of([0.4], [B_BETTER], (4.0, 2.0)), pairs_of([0.4, 9.0], [B_BETTER, UNLABELLED], (4.0, 2.0))
    beside.rating_A_BD[1] = beside.rating_B_BD[1] = 0
    for reduction, share in (("labelled", 1.0), ("all", 0.5)):
        loss = LOSSES[name](reduction=reduction)
        assert loss(beside).item() == pytest.approx(share * loss(alone).item())
        loss(beside).backward()
        assert beside.reward_A_BD.grad[1].item() == 0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_swapping_the_two_samples_changes_nothing(name):
    loss, there = LOSSES[name](), pairs_of([0.9, -0.2, 0.3], [A_BETTER, B_BETTER, SAME], (4.0, 2.0))
    turned = {A_BETTER: B_BETTER, B_BETTER: A_BETTER, SAME: SAME}
    back = Comparisons(
        reward_A_BD=there.reward_B_BD,
        reward_B_BD=there.reward_A_BD,
        label_BD=torch.tensor([[turned[int(x)]] for x in there.label_BD]),
        rating_A_BD=there.rating_B_BD,
        rating_B_BD=there.rating_A_BD,
    )
    assert_close(loss(there), loss(back))


def test_regression_is_zero_at_the_rating_less_three():
    pairs = pairs_of([1.0], [SAME], (4.0, 3.0))
    assert Regression()(pairs).item() == 0


def test_a_rated_margin_asks_for_the_gap_of_the_ratings():
    # At d equal to the gap the loss is that of two equals.
    assert RatedMargin()(pairs_of([3.0], [A_BETTER], (5.0, 2.0))).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients(name):
    label = torch.tensor([[A_BETTER, SAME], [B_BETTER, UNLABELLED]])
    rating = torch.tensor([[4.0, 2.0], [0.0, 3.0]], dtype=torch.float64)

    def loss(a, b):
        return LOSSES[name]()(
            Comparisons(reward_A_BD=a, reward_B_BD=b, label_BD=label, rating_A_BD=rating, rating_B_BD=rating.flip(0))
        )

    rewards = [torch.randn(2, 2, dtype=torch.float64, requires_grad=True) for _ in "AB"]
    assert torch.autograd.gradcheck(loss, rewards)


@pytest.mark.parametrize("d", [1e4, -1e4])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_extreme_rewards_stay_finite(name, d):
    pairs = pairs_of([d], [A_BETTER], (4.0, 2.0))
    loss = LOSSES[name]()(pairs)
    loss.backward()
    assert loss.isfinite()
    assert pairs.reward_A_BD.grad is not None
    assert pairs.reward_A_BD.grad.isfinite().all()


def test_theta_one_is_refused():
    with pytest.raises(RecipeError, match="bradley_terry"):
        BradleyTerryTies(theta=1.0)


# Tie calibration.


def slow(difference: list[float], label: list[int]) -> float:
    """The best three-way accuracy over every threshold at, and between, all |d|, and below them: the definition."""
    sizes = sorted({abs(d) for d in difference})
    thresholds = [-1.0, *sizes, *((x + y) / 2 for x, y in pairwise(sizes))]
    best = 0
    for threshold in thresholds:
        right = 0
        for d, said in zip(difference, label, strict=True):
            predicted = 0 if abs(d) <= threshold else 1 if d > 0 else -1 if d < 0 else None
            right += predicted == said
        best = max(best, right)
    return best / len(difference)


judged = st.lists(st.tuples(st.floats(-2, 2).map(lambda x: round(x, 1)), st.sampled_from([1, -1, 0])), min_size=1)


@given(judged)
@settings(max_examples=100)
def test_calibration_finds_the_best_threshold(rows):
    difference, label = [d for d, _ in rows], [said for _, said in rows]
    found = with_ties(difference, label)
    assert found.accuracy == slow(difference, label)
    assert at_threshold(difference, label, found.value) == found.accuracy


@given(judged)
def test_the_authors_code_without_equal_differences_is_never_above_ours(rows):
    unique = {abs(d): (d, said) for d, said in rows}
    difference, label = [d for d, _ in unique.values()], [said for _, said in unique.values()]
    ours, theirs = (with_ties(difference, label, compat=c).accuracy for c in ("penchant", "videoalign"))
    assert theirs <= ours


def test_a_perfect_model_without_human_ties_is_perfect_here_and_not_in_the_authors_code():
    difference, label = [1.0, -2.0, 3.0], [1, -1, 1]
    assert with_ties(difference, label).accuracy == 1
    assert with_ties(difference, label).value == -math.inf
    assert with_ties(difference, label, compat="videoalign").accuracy == pytest.approx(2 / 3)


def test_equal_differences_move_together():
    # Half of the two equal ones cannot be called a tie; the authors' code scores that state.
    difference, label = [1.0, 1.0], [0, 1]
    assert with_ties(difference, label).accuracy == 0.5
    assert with_ties(difference, label, compat="videoalign").accuracy == 1


def test_without_ties():
    assert without_ties([1.0, 0.0, -1.0, 5.0], [1, 1, 1, 0]) == pytest.approx(1 / 3)
    assert math.isnan(without_ties([1.0], [0]))


def test_chance():
    assert by_chance([0, 0, 1, -1]) == (0.5, 0.5)
    assert by_chance([1, -1, 1, 0]) == (pytest.approx(1 / 3), 0.5)


@pytest.mark.parametrize(
    ("difference", "label", "word"),
    [([], [], "at least one"), ([1.0], [1, 0], "labels"), ([float("nan")], [1], "finite"), ([1.0], [22], "none of 1")],
)
def test_bad_input_is_refused(difference, label, word):
    with pytest.raises(FeedbackError, match=word):
        with_ties(np.array(difference), label)
