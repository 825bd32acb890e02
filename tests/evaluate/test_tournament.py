"""Win, tie and loss between policies, against arithmetic by hand, scipy and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from penchant.errors import PenchantError
from penchant.evaluate.tournament import Bout, bout, signed_rank, tournament
from penchant.evaluate.winrate import resampled_means

A = np.array([[3.0, 1.0], [2.0, 2.0], [5.0, 4.0]])
B = np.array([[1.0, 1.0], [2.0, 3.0], [4.0, 2.0]])


def test_shares_are_counted_over_all_comparisons_and_the_rate_leaves_ties_out():
    # won: (0,0), (2,0), (2,1); tied: (0,1), (1,0); lost: (1,1)
    found = bout(A, B)
    assert (found.win, found.tie, found.loss) == pytest.approx((3 / 6, 2 / 6, 1 / 6))
    assert found.rate == pytest.approx(3 / 4)
    assert (found.prompts, found.seeds) == (3, 2)


def test_a_difference_up_to_the_margin_is_a_tie():
    found = bout(A, B, tie_margin=1.0)
    assert (found.win, found.tie, found.loss) == pytest.approx((2 / 6, 4 / 6, 0))
    assert found.rate == 1


def test_the_numbers_of_the_paper_follow_from_their_shares():
    """MusicRL: 65.0 / 22.1 / 12.9 is a win rate of 83 %; 303 ratings."""
    scores = np.repeat([1.0, 0.0, -1.0], [197, 67, 39])[:, None]
    found = bout(scores, np.zeros_like(scores))
    assert (round(100 * found.win, 1), round(100 * found.tie, 1), round(100 * found.loss, 1)) == (65.0, 22.1, 12.9)
    assert round(100 * found.rate) == 83
    assert found.p < 1e-10


def test_the_other_side_sees_the_opposite():
    back, turned = bout(B, A, first="b", second="a"), bout(A, B, first="a", second="b").turned()
    for name in Bout.__dataclass_fields__:
        assert getattr(back, name) == pytest.approx(getattr(turned, name)), name


def test_the_interval_is_that_of_the_ratio_over_the_same_resampled_prompts():
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 3, (40, 3)).astype(float), draw.integers(0, 3, (40, 3)).astype(float)
    found = bout(first, second)
    index = np.random.Generator(np.random.Philox(key=0)).integers(0, 40, size=(2000, 40))
    win, loss = ((first > second).mean(1)[index].mean(1), (first < second).mean(1)[index].mean(1))
    assert np.allclose(win, resampled_means((first > second).mean(1)[None], seed=0))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(win / (win + loss), [0.025, 0.975])))
    assert found.low < found.rate < found.high


def test_seeds_of_one_prompt_buy_no_narrow_interval():
    draw = np.random.default_rng(1)
    per_prompt = draw.normal(size=(12, 1))
    few, many = per_prompt, np.repeat(per_prompt, 50, axis=1)
    one, fifty = bout(few, np.zeros_like(few)), bout(many, np.zeros_like(many))
    assert (one.low, one.high, one.p) == pytest.approx((fifty.low, fifty.high, fifty.p))


def test_nothing_but_wins_or_ties_has_an_honest_interval():
    won = bout(A + 10, B)
    assert (won.rate, won.high) == (1, 1)
    assert won.low == pytest.approx(0.025 ** (1 / 3))
    lost = won.turned()
    assert (lost.rate, lost.low, lost.high) == (0, 0, pytest.approx(1 - won.low))
    tied = bout(A, A)
    assert (tied.tie, tied.rate, tied.low, tied.high, tied.p) == (1, 0.5, 0, 1, 1)


def test_the_test_is_scipys_on_the_prompts_means():
    draw = np.random.default_rng(2)
    difference = draw.normal(0.3, 1, (30, 4))
    assert signed_rank(difference) == pytest.approx(wilcoxon(difference.mean(1)).pvalue)
    assert bout(difference, np.zeros_like(difference)).p == pytest.approx(signed_rank(difference))


def test_totals_count_each_policys_wins_against_all_others():
    found = tournament({"base": B, "R": A, "U": A + 0.5}, judge="ear")
    wins = {one.name: one.wins for one in found.standings}
    # A beats B 3 times and loses once; A + 0.5 beats A always; A + 0.5 > B in all but (1, 1), where 2.5 < 3.
    assert wins == {"base": 1 + 1, "R": 3 + 0, "U": 6 + 5}
    assert {one.name: one.comparisons for one in found.standings} == dict.fromkeys(("base", "R", "U"), 12)
    assert [one.mean for one in found.standings] == pytest.approx([B.mean(), A.mean(), A.mean() + 0.5])
    assert all(one.low <= one.mean <= one.high for one in found.standings)
    assert found.bout("U", "R").win == 1
    assert found.bout("R", "U").loss == 1


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(PenchantError, match="two or more"):
        tournament({"R": A})
    with pytest.raises(PenchantError, match="did not meet"):
        tournament({"R": A, "U": B}).bout("R", "R")
    with pytest.raises(PenchantError, match="same prompts"):
        bout(A, B[:2])
    with pytest.raises(PenchantError, match="between runs"):
        bout(np.stack([A, A]), B)
