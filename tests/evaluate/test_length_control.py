"""At equal length: what a win rate is worth when the judge favours the longer text."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from penchant.errors import PenchantError
from penchant.evaluate.length_control import RIDGE, ControlledRate, controlled_rate
from penchant.evaluate.winrate import win_rate

BASE = 200.0


def controlled(won: np.ndarray, difference: np.ndarray, **options) -> ControlledRate:
    """Outcomes 1, 0.5 or 0 as scores against one half, and differences of lengths against a base of 200 tokens."""
    half = np.full(won.shape, 0.5)
    return controlled_rate(won, half, BASE + difference, np.full(won.shape, BASE), **options)


def simulated(
    advantage: float, bias: float, *, prompts: int = 400, longer: float = 0.8
) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of a judge with log-odds `advantage` + `bias` * tanh(difference in lengths of scale 50)."""
    rng = np.random.default_rng(0)
    difference = 50 * rng.normal(longer, 1, size=(prompts, 2))
    odds = advantage + bias * np.tanh(difference / difference.std(ddof=1))
    return (rng.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(float), difference


def test_texts_of_equal_lengths_have_the_plain_win_rate():
    won = np.random.default_rng(1).choice([0, 0.5, 1], size=(50, 2), p=[0.3, 0.1, 0.6])
    found = controlled(won, np.zeros_like(won))
    assert found.rate == pytest.approx(win_rate(won, np.full(won.shape, 0.5)).rate, abs=1e-12)
    assert (found.slope, found.longer) == (0.0, 0.5)


def test_a_judge_that_only_counts_tokens_prefers_nobody_at_equal_length():
    difference = 50 * np.random.default_rng(3).normal(0.5, 1, size=(80, 1))
    won = (difference > 0).astype(float)
    assert win_rate(won, np.full(won.shape, 0.5)).better
    found = controlled(won, difference)
    assert found.low < 0.5 < found.high
    assert found.slope > 2
    assert found.longer == won.mean()


def test_length_explains_a_win_rate_that_it_made_and_no_other():
    won, difference = simulated(advantage=0.0, bias=1.5)
    assert win_rate(won, np.full(won.shape, 0.5)).better
    found = controlled(won, difference)
    assert found.low < 0.5 < found.high
    assert found.slope == pytest.approx(1.5, abs=0.35)
    won, difference = simulated(advantage=0.8, bias=0.0)
    found = controlled(won, difference)
    assert found.better
    assert found.rate == pytest.approx(1 / (1 + np.exp(-0.8)), abs=0.05)


def test_the_fit_is_the_penalised_maximum_of_the_likelihood():
    won, difference = simulated(advantage=0.3, bias=1.0, prompts=25)
    feature = np.tanh(difference / difference.std(ddof=1))

    def loss(parameters: np.ndarray) -> float:
        odds = parameters[0] + parameters[1] * feature
        return float((np.logaddexp(0, odds) - won * odds).sum() + RIDGE / 2 * parameters[1] ** 2)

    theta, phi = minimize(loss, [0.0, 0.0], tol=1e-12).x
    found = controlled(won, difference)
    assert (found.rate, found.slope) == pytest.approx((1 / (1 + np.exp(-theta)), phi), abs=1e-5)


def test_a_worked_value():
    # Lengths +-d with s = d * sqrt(4/3) over 4 texts: x = +-tanh(sqrt(3)/2). Longer: 3 of 4 won; shorter: 1 of 4, so
    # theta = 0 by symmetry and phi solves 8 * x * (3/4 - sigmoid(phi x)) = RIDGE * phi.
    difference = np.array([[30.0, 30.0, 30.0, 30.0], [-30.0, -30.0, -30.0, -30.0]])
    won = np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    found = controlled(won, difference)
    x = np.tanh(30 / difference.std(ddof=1))
    assert found.rate == pytest.approx(0.5, abs=1e-12)
    assert 8 * x * (0.75 - 1 / (1 + np.exp(-found.slope * x))) == pytest.approx(RIDGE * found.slope, abs=1e-9)


def test_who_is_the_base_and_the_unit_of_length_do_not_matter():
    won, difference = simulated(advantage=0.4, bias=1.0, prompts=60)
    found, other = controlled(won, difference), controlled(1 - won, -difference)
    assert found.rate == pytest.approx(1 - other.rate, abs=1e-9)
    assert found.slope == pytest.approx(other.slope, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-6)
    assert controlled(won, 7 * difference).rate == pytest.approx(found.rate, abs=1e-12)


def test_more_seeds_of_the_same_prompts_do_not_narrow_the_interval():
    won, difference = simulated(advantage=0.4, bias=1.0, prompts=60)
    one = controlled(won[:, :1], difference[:, :1])
    again = controlled(won[:, :1].repeat(8, 1), difference[:, :1].repeat(8, 1))
    assert again.high - again.low == pytest.approx(one.high - one.low, rel=0.1)


def test_a_policy_that_never_loses_keeps_its_rate_and_the_exact_bound():
    won = np.ones((40, 1))
    plain = win_rate(won, np.full(won.shape, 0.5))
    found = controlled(won, np.arange(40.0)[:, None])
    assert (found.rate, found.low, found.high) == (plain.rate, plain.low, plain.high)


def test_training_runs_are_resampled_with_the_prompts():
    rng = np.random.default_rng(2)
    difference = 50 * rng.normal(size=(3, 80, 1))
    won = (rng.random((3, 80, 1)) < np.array([0.4, 0.6, 0.8])[:, None, None]).astype(float)
    runs = controlled_rate(won, np.full((80, 1), 0.5), BASE + difference, np.full((80, 1), BASE))
    pooled = controlled(won.reshape(240, 1), difference.reshape(240, 1))
    assert runs.rate == pytest.approx(pooled.rate, abs=1e-9)
    assert runs.high - runs.low > 1.5 * (pooled.high - pooled.low)


def test_lengths_must_be_those_of_the_scores():
    with pytest.raises(PenchantError, match="shape"):
        controlled_rate(np.ones((4, 2)), np.zeros((4, 2)), np.ones((4, 1)), np.ones((4, 2)))
