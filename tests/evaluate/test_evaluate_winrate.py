"""Win rates and gains: worked values, and what their intervals mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from penchant.errors import PenchantError
from penchant.evaluate import mean_gain, outcomes, win_rate
from penchant.evaluate.winrate import RESAMPLES, resampled_means


def simulated(rng: np.random.Generator, *, prompts: int, seeds: int, mean: float = 0.4, spread: float = 0.8):
    """Score differences [P, S]: a mean, a prompt's own effect, and unit noise a sample."""
    return mean + spread * rng.normal(size=(prompts, 1)) + rng.normal(size=(prompts, seeds))


def true_rate(*, mean: float = 0.4, spread: float = 0.8) -> float:
    """P(difference > 0) of `simulated`: Phi(mean / sqrt(1 + spread^2))."""
    return 0.5 * (1 + math.erf(mean / math.sqrt(2 * (1 + spread**2))))


def test_rate_counts_wins_ties_and_losses():
    # prompt 0: win, win; prompt 1: tie, loss -> (1 + 1 + 0.5 + 0) / 4
    win = win_rate([[2.0, 3.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 2.0]])
    assert win.rate == 0.625
    assert win.ties == 0.25
    assert (win.prompts, win.seeds, win.runs) == (2, 2, 1)


def test_interval_of_two_prompts_by_hand():
    # prompt means 1 and 0.25: a resample is (1, 1), (1, 0.25) or (0.25, 0.25) with chances 1/4, 1/2, 1/4, so the 2.5 %
    # and 97.5 % percentiles are the extremes
    win = win_rate([[2.0, 3.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 2.0]])
    assert (win.low, win.high) == (0.25, 1.0)
    means, counts = np.unique(resampled_means(np.array([[1.0, 0.25]]), seed=0), return_counts=True)
    assert means.tolist() == [0.25, 0.625, 1.0]
    assert abs(counts[1] / RESAMPLES - 0.5) < 0.04  # 3.5 standard errors


def test_margin_makes_near_equal_scores_ties():
    policy, base = [[1.0, 1.3], [0.5, 2.0]], [[1.1, 1.0], [0.8, 1.0]]
    assert outcomes(policy, base).tolist() == [[[0.0, 1.0], [0.0, 1.0]]]
    assert outcomes(policy, base, tie_margin=0.2).tolist() == [[[0.5, 1.0], [0.0, 1.0]]]
    assert win_rate(policy, base, tie_margin=10).rate == 0.5


def test_swapping_policy_and_base_mirrors_rate_and_interval():
    rng = np.random.default_rng(0)
    policy, base = np.round(rng.normal(0.3, 1, (40, 3)), 1), np.round(rng.normal(0, 1, (40, 3)), 1)
    forth, back = win_rate(policy, base), win_rate(base, policy)
    assert forth.ties > 0
    assert back.rate == pytest.approx(1 - forth.rate)
    assert (back.low, back.high) == pytest.approx((1 - forth.high, 1 - forth.low))
    assert mean_gain(base, policy).gain == pytest.approx(-mean_gain(policy, base).gain)


def test_any_increasing_change_of_the_score_leaves_the_win_rate():
    rng = np.random.default_rng(1)
    policy, base = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    assert win_rate(np.exp(policy), np.exp(base)) == win_rate(policy, base)


def test_intervals_cover_the_truth_nineteen_times_in_twenty():
    # 1200 evaluations: a coverage of 0.95 is estimated within 0.0063 (one standard error); theory for 80 prompts says
    # slightly less than 0.95, since the percentile bootstrap misses a factor sqrt((P - 1) / P)
    rng = np.random.default_rng(7)
    zeros, covered = np.zeros((80, 3)), 0
    for trial in range(1200):
        win = win_rate(simulated(rng, prompts=80, seeds=3), zeros, seed=trial)
        covered += win.low <= true_rate() <= win.high
    assert 0.93 <= covered / 1200 <= 0.97


def test_gain_intervals_cover_the_truth():
    rng = np.random.default_rng(8)
    zeros, covered = np.zeros((80, 3)), 0
    for trial in range(500):
        gain = mean_gain(simulated(rng, prompts=80, seeds=3), zeros, seed=trial)
        covered += gain.low <= 0.4 <= gain.high
    assert 0.92 <= covered / 500 <= 0.98


def test_intervals_over_runs_cover_the_truth():
    # runs shift all prompts together; without the second level these intervals would cover about half the time
    rng = np.random.default_rng(9)
    zeros, both, prompts_only = np.zeros((40, 2)), 0, 0
    for trial in range(200):
        shift = 0.4 * rng.normal(size=(12, 1, 1))
        prompt = 0.8 * rng.normal(size=(1, 40, 1))
        difference = 0.4 + shift + prompt + rng.normal(size=(12, 40, 2))
        gain = mean_gain(difference, zeros, seed=trial)
        both += gain.low <= 0.4 <= gain.high
        single = mean_gain(difference[0], zeros, seed=trial)
        prompts_only += single.low <= 0.4 <= single.high
    assert 0.88 <= both / 200 <= 0.99
    assert prompts_only / 200 < 0.75


def test_more_prompts_narrow_the_interval_and_more_seeds_hardly_do():
    def width(prompts: int, seeds: int) -> float:
        # a prompt's own effect dominates: its seeds mostly agree
        rng = np.random.default_rng(2)
        wins = [
            win_rate(simulated(rng, prompts=prompts, seeds=seeds, spread=3), np.zeros((prompts, seeds)), seed=s)
            for s in range(20)
        ]
        return float(np.mean([win.high - win.low for win in wins]))

    narrow = width(50, 2)
    assert width(50, 16) > 0.85 * narrow
    assert width(400, 2) == pytest.approx(narrow / math.sqrt(8), rel=0.1)


def test_repeating_every_seed_changes_nothing():
    rng = np.random.default_rng(3)
    difference = simulated(rng, prompts=30, seeds=2)
    once, thrice = (win_rate(np.tile(difference, n), np.zeros((30, 2 * n))) for n in (1, 3))
    assert (once.rate, once.low, once.high) == pytest.approx((thrice.rate, thrice.low, thrice.high))


def test_runs_that_disagree_widen_the_interval():
    rng = np.random.default_rng(4)
    difference = simulated(rng, prompts=60, seeds=2)
    zeros = np.zeros((60, 2))
    agree = win_rate(np.stack([difference] * 3), zeros)
    differ = win_rate(np.stack([difference - 1, difference, difference + 1]), zeros)
    assert agree.runs == differ.runs == 3
    assert differ.high - differ.low > 1.5 * (agree.high - agree.low)
    assert (agree.high - agree.low) == pytest.approx(
        win_rate(difference, zeros).high - win_rate(difference, zeros).low, rel=0.1
    )


def test_winning_everywhere_is_not_certainty():
    # 5 of 5: the exact binomial bound 0.025^(1/5) = 0.4782 (Clopper and Pearson) still includes one half
    five, twenty = (win_rate(np.ones((n, 4)), np.zeros((n, 4))) for n in (5, 20))
    assert (five.rate, five.high) == (1.0, 1.0)
    assert five.low == pytest.approx(0.47818, abs=1e-5)
    assert not five.better
    assert twenty.better
    lost = win_rate(np.zeros((5, 4)), np.ones((5, 4)))
    assert (lost.low, lost.high) == pytest.approx((0.0, 1 - 0.47818), abs=1e-5)


def test_a_policy_equal_to_its_base_is_neither_better_nor_worse():
    win = win_rate(np.ones((10, 2)), np.ones((10, 2)))
    assert (win.rate, win.low, win.high, win.ties) == (0.5, 0.5, 0.5, 1.0)
    assert not win.better
    assert not win.worse


def test_the_same_seed_gives_the_same_interval_and_another_seed_hardly_another():
    difference, zeros = simulated(np.random.default_rng(5), prompts=50, seeds=2), np.zeros((50, 2))
    first, second = win_rate(difference, zeros, seed=1), win_rate(difference, zeros, seed=2)
    assert win_rate(difference, zeros, seed=1) == first
    assert abs(first.low - second.low) < 0.1 * (first.high - first.low)


def test_gain_of_worked_scores():
    gain = mean_gain([[3.0, 5.0], [2.0, 2.0]], [[1.0, 1.0], [2.0, 4.0]])
    assert (gain.before, gain.after, gain.gain) == (2.0, 3.0, 1.0)
    assert (gain.low, gain.high) == (-1.0, 3.0)  # prompt gains 3 and -1, as in the two-prompt interval above


@pytest.mark.parametrize(
    ("policy", "base", "words"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], "two prompts"),
        ([[1.0], [2.0]], [[1.0], [2.0], [3.0]], "shape"),
        ([1.0, 2.0], [1.0, 2.0], "shape"),
        ([[1.0], [math.nan]], [[1.0], [2.0]], "prompt 1, seed 0"),
        ([[1.0], [2.0]], [[1.0], [math.inf]], "base score"),
    ],
)
def test_bad_scores_are_refused_with_their_place(policy, base, words):
    with pytest.raises(PenchantError, match=words):
        win_rate(policy, base)


def test_a_negative_or_missing_margin_is_refused():
    for margin in (-1.0, math.nan):
        with pytest.raises(PenchantError, match="tie margin"):
            win_rate([[1.0], [2.0]], [[1.0], [2.0]], tie_margin=margin)
