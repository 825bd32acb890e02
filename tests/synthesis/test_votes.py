"""From rewards to shares: algorithm 1 of the paper, worked by hand, and what the other aggregations promise."""

from __future__ import annotations

from itertools import permutations
from typing import get_args

import numpy as np
import pytest
from numpy.testing import assert_allclose

from penchant.errors import RecipeError
from penchant.synthesis.votes import Aggregation, aggregate, pairs, vote_matrix

# Two rewards of very different scales, three candidates; the second finds the last two equal.
SCORES = np.array([[0.3, 0.2, 0.1], [100.0, 900.0, 900.0]])
EVERY = get_args(Aggregation)


def test_strict_votes_are_algorithm_one():
    """C = points over ordered pairs and rewards, a tie gives nobody one; phi = C / (n (k - 1)), n = 2, k = 3."""
    (phi,) = aggregate([SCORES], "strict-votes")
    assert_allclose(phi, [2 / 4, (1 + 1) / 4, (0 + 1) / 4])


def test_half_credit_gives_a_tie_to_both():
    (phi,) = aggregate([SCORES], "half-credit")
    assert_allclose(phi, [2 / 4, (1 + 1.5) / 4, (0 + 1.5) / 4])
    assert_allclose(phi.sum(), 3 / 2)


def test_the_vote_matrix_keeps_who_voted_what():
    assert pairs(3) == [(0, 1), (0, 2), (1, 2)]
    assert vote_matrix(SCORES).tolist() == [[1, 1, 1], [-1, -1, 0]]
    hidden = np.array([[0.3, np.nan, 0.1]])
    assert np.isnan(vote_matrix(hidden)).tolist() == [[True, False, True]]


@pytest.mark.parametrize("aggregation", EVERY)
def test_a_unanimous_ensemble_gives_its_order(aggregation):
    (phi,) = aggregate([np.array([[3.0, 1.0, 2.0], [30.0, 10.0, 20.0]])], aggregation)
    assert phi[0] > phi[2] > phi[1]
    assert ((phi >= 0) & (phi <= 1)).all()


@pytest.mark.parametrize("aggregation", EVERY)
def test_the_order_of_candidates_and_rewards_changes_nothing(aggregation):
    (expected,) = aggregate([SCORES], aggregation)
    for order in permutations(range(3)):
        (found,) = aggregate([SCORES[::-1, list(order)]], aggregation)
        assert_allclose(found, expected[list(order)], atol=1e-6)


@pytest.mark.parametrize("aggregation", ["strict-votes", "half-credit", "bradley-terry"])
def test_votes_do_not_know_a_scale(aggregation):
    bent = np.stack([np.exp(SCORES[0] * 50), SCORES[1] ** 3])
    assert_allclose(aggregate([bent], aggregation)[0], aggregate([SCORES], aggregation)[0], atol=1e-6)


def test_mean_z_knows_how_much_better():
    """Phi of the mean z by hand: deviations from the prompt's mean over the reward's spread in the whole data."""
    from scipy.stats import norm

    one, other = np.array([[1.0, 3.0]]), np.array([[10.0, 10.5]])
    spread = np.sqrt(np.mean([1.0, 1.0, 0.25**2, 0.25**2]))
    found = aggregate([one, other], "mean-z")
    assert_allclose(found[0], norm.cdf([-1 / spread, 1 / spread]))
    assert_allclose(found[1], norm.cdf([-0.25 / spread, 0.25 / spread]))


def test_bradley_terry_counts_whom_one_beat():
    """Both won once; the one that beat the stronger opponent is stronger."""
    circle = np.array([[2.0, 1.0, 0.0, np.nan], [np.nan, 2.0, 1.0, 0.0], [2.0, np.nan, 1.0, 0.0]])
    (phi,) = aggregate([circle], "bradley-terry")
    assert phi[0] > phi[1] > phi[2] > phi[3]


@pytest.mark.parametrize("aggregation", EVERY)
def test_a_missing_score_is_no_vote_and_a_candidate_without_votes_has_no_share(aggregation):
    hidden = np.array([[3.0, np.nan, 1.0, np.nan], [5.0, 4.0, np.nan, np.nan]])
    (phi,) = aggregate([hidden], aggregation)
    assert np.isnan(phi).tolist() == [False, False, False, True]
    assert phi[0] > phi[2]
    assert phi[0] > phi[1]


def test_the_share_of_who_was_asked_less_often_is_of_its_own_comparisons():
    (phi,) = aggregate([np.array([[3.0, np.nan, 1.0], [5.0, 4.0, 6.0]])], "strict-votes")
    assert_allclose(phi, [(1 + 1) / 3, 0 / 2, (0 + 2) / 3])


def test_groups_of_different_sizes_stand_side_by_side():
    found = aggregate([SCORES, SCORES[:, :2]])
    assert [len(phi) for phi in found] == [3, 2]


def test_an_unknown_aggregation_is_told_the_nearest():
    with pytest.raises(RecipeError, match="strict-votes"):
        aggregate([SCORES], "strict-vote")
