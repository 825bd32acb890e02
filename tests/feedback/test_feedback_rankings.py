"""Votes become strengths: the worked values of the specification, and what the method promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from penchant.errors import FeedbackError
from penchant.feedback import Candidate, Group, Judgement, labelled, pairs, scores, select, verdict, win_matrix
from penchant.feedback.rankings import (
    log_strengths,
    majority,
    probability_to_judgement,
    votes_to_judgement,
    win_probability,
    win_share,
)

# Four candidates, five annotators, every pair judged by each: the worked values of the specification.
WINS = np.array([[0.0, 4, 5, 3], [1, 0, 3, 2], [0, 2, 0, 1], [2, 3, 4, 0]])


def group(K: int, *judgements: Judgement) -> Group:
    candidates = tuple(Candidate(text=f"answer {k}") for k in range(K))
    return Group(prompt="p", candidates=candidates, judgements=judgements)


def test_the_worked_strengths_of_four_candidates() -> None:
    assert_allclose(
        log_strengths(WINS, 0.0), [1.1196618468, -0.3527780232, -1.1196618468, 0.3527780232], rtol=0, atol=1e-10
    )
    assert_allclose(log_strengths(WINS), [0.8644360184, -0.2767379911, -0.8644360184, 0.2767379911], rtol=0, atol=1e-10)


def test_the_worked_strengths_of_two_candidates() -> None:
    strength_K = np.exp(log_strengths(np.array([[0.0, 4], [1, 0]]), 0.0))
    assert_allclose(strength_K, [2, 0.5], rtol=1e-12)
    assert math.log(strength_K[0] / strength_K[1]) == pytest.approx(1.3862943611, abs=1e-10)


@settings(max_examples=30, deadline=None)
@given(won=st.integers(1, 1000), lost=st.integers(1, 1000), prior=st.floats(0, 5))
def test_for_two_candidates_the_target_is_the_log_odds(won: int, lost: int, prior: float) -> None:
    strength_K = log_strengths(np.array([[0.0, won], [lost, 0]]), prior)
    assert strength_K[0] - strength_K[1] == pytest.approx(math.log((won + prior) / (lost + prior)), abs=1e-9)


def test_unanimous_votes_have_a_finite_logit_by_the_prior() -> None:
    strength_K = log_strengths(np.array([[0.0, 5], [0, 0]]))
    assert strength_K[0] - strength_K[1] == pytest.approx(2.3978952728, abs=1e-10)


def test_the_same_share_from_more_votes_is_a_stronger_statement() -> None:
    few, many = (np.ptp(log_strengths(np.array([[0.0, 4 * h], [h, 0]]))) for h in (1, 10))
    assert few < many < math.log(4)


def test_at_the_maximum_everyone_won_as_often_as_expected() -> None:
    """The likelihood equation of Bradley and Terry, which is what Zermelo's iteration solves."""
    probability_KK = win_probability(log_strengths(WINS, 0.0))
    assert_allclose(((WINS + WINS.T) * probability_KK).sum(1), WINS.sum(1), rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), K=st.integers(2, 6))
def test_true_strengths_are_found_from_their_own_probabilities(data: st.DataObject, K: int) -> None:
    true_K = np.array(data.draw(st.lists(st.floats(-2, 2), min_size=K, max_size=K)))
    wins_KK = 7 * win_probability(true_K) * (1 - np.eye(K))
    assert_allclose(log_strengths(wins_KK, 0.0), true_K - true_K.mean(), atol=1e-8)


def test_strengths_do_not_depend_on_the_order_of_the_candidates() -> None:
    order = np.array([2, 0, 3, 1])
    assert_allclose(log_strengths(WINS[np.ix_(order, order)]), log_strengths(WINS)[order], atol=1e-12)


@pytest.mark.parametrize(
    ("wins_KK", "reason"),
    [
        ([[0, 5], [0, 0]], "candidates 0 never lost to candidates 1: their strengths would be infinite"),
        ([[0, 1, 1], [1, 0, 1], [0, 0, 0]], "candidates 0, 1 never lost to candidates 2"),
        ([[0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], "0, 1 were never compared with candidates 2, 3"),
        ([[0, 0], [0, 0]], "candidates 0 were never compared with candidates 1"),
    ],
)
def test_without_a_prior_strengths_that_do_not_exist_are_refused_with_the_reason(wins_KK: list, reason: str) -> None:
    with pytest.raises(FeedbackError, match=reason) as raised:
        log_strengths(np.array(wins_KK, float), 0.0)
    assert "prior" in raised.value.remedy
    assert np.isfinite(log_strengths(np.array(wins_KK, float))).all()


def test_a_circle_of_wins_needs_no_prior() -> None:
    assert_allclose(log_strengths(np.array([[0.0, 3, 0], [0, 0, 3], [3, 0, 0]]), 0.0), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("wins_KK", "prior"), [([[0, -1], [1, 0]], 0.5), ([[0, np.nan], [1, 0]], 0.5), ([[0, 1], [1, 0]], -0.5)]
)
def test_negative_wins_are_refused(wins_KK: list, prior: float) -> None:
    with pytest.raises(FeedbackError, match="negative or not finite"):
        log_strengths(np.array(wins_KK, float), prior)


def test_an_iteration_that_did_not_converge_is_told() -> None:
    long_chain = 9 * np.eye(200, k=1) + np.eye(200, k=-1)
    with pytest.raises(FeedbackError, match="did not converge"):
        log_strengths(long_chain, 0.0)


def test_one_candidate_alone_has_strength_zero() -> None:
    assert log_strengths(np.zeros((1, 1))).tolist() == [0.0]


def test_the_empirical_share_is_not_a_number_without_comparisons() -> None:
    share_KK = win_share(np.array([[0.0, 3, 0], [1, 0, 0], [0, 0, 0]]))
    assert (share_KK[0, 1], share_KK[1, 0]) == (0.75, 0.25)
    assert np.isnan(share_KK[0, 2])
    assert win_share(np.array([[0.0, 3], [1, 0]]), 0.5)[0, 1] == pytest.approx(3.5 / 5)


def test_verdicts_rankings_and_votes_count_as_the_wins_they_state() -> None:
    one = group(
        3,
        verdict(0, 1, 3, 1.0, annotator="a"),
        verdict(0, 2, 3, 0.5, annotator="a"),
        verdict(2, 1, 3, 1.0, annotator="b", weight=2.0),
        Judgement(kind="rank", values=(1.0, 0.5, 0.5), dimension="verdict", annotator="c"),
        Judgement(kind="pair", values=(None, None, None), dimension="verdict"),
        Judgement(kind="score", values=(9, 9, 9), dimension="verdict"),
        verdict(1, 0, 3, 1.0, annotator="d", dimension="clarity"),
        verdict(1, 0, 3, 1.0, annotator="e", weight=0.0),
    )
    assert_allclose(win_matrix(one), [[0, 2, 1.5], [0, 0, 0.5], [0.5, 2.5, 0]])
    two = group(2, Judgement(kind="vote", values=(4, 1), dimension="verdict"))
    assert_allclose(win_matrix(two), [[0, 4], [1, 0]])


def test_wins_can_be_asked_of_one_source() -> None:
    one = group(
        2, verdict(0, 1, 2, 1.0, annotator="a"), verdict(0, 1, 2, 0.0, annotator="b", source="simulated:minilm")
    )
    assert_allclose(win_matrix(one, source="simulated:"), [[0, 0], [1, 0]])


@pytest.mark.parametrize("values", [(1.0, 0.0, 0.0), (1.0, 1.0, None), (1.0, None, None)])
def test_a_pair_judgement_that_is_no_pair_is_refused(values: tuple[float | None, ...]) -> None:
    with pytest.raises(FeedbackError, match="not one win shared by two"):
        win_matrix(group(3, Judgement(kind="pair", values=values, dimension="verdict")))


def panel(wins_KK: np.ndarray, source: str = "human") -> list[Judgement]:
    """Verdicts of as many annotators as the votes need, in this order of candidates."""
    K = len(wins_KK)
    return [
        verdict(i, j, K, 1.0, annotator=str(h if i < j else 4 - h), source=source)
        for i in range(K)
        for j in range(K)
        for h in range(int(wins_KK[i, j]))
    ]


def test_one_set_of_votes_gives_the_soft_and_the_hard_label() -> None:
    found = labelled(group(4, *panel(WINS)))
    assert scores(found, "logit") == pytest.approx(
        (0.8644360184, -0.2767379911, -0.8644360184, 0.2767379911), abs=1e-10
    )
    assert scores(found) == pytest.approx((1, 1 / 3, 0, 2 / 3))
    soft, hard = found.judgements[-2:]
    assert (soft.kind, soft.source, soft.extra) == ("score", "human", {"annotators": 5, "votes": 30.0, "prior": 0.5})
    assert (hard.kind, hard.extra["annotators"]) == ("rank", 5)
    assert len(found.judgements) == 32
    assert_allclose(win_matrix(found), WINS)


def test_both_labels_order_the_candidates_alike_where_every_pair_was_judged() -> None:
    found = labelled(group(4, *panel(WINS)))
    soft, hard = (
        [(p.chosen.text, p.rejected.text) for p in pairs([found], dimension=name)] for name in ("logit", "overall")
    )
    assert soft == hard


def test_the_difference_of_two_scores_is_the_target_logit() -> None:
    """iREPO's target for the best against the worst of the worked example."""
    (found,) = select([labelled(group(4, *panel(WINS)))], dimension="logit")
    assert max(found.scores) - min(found.scores) == pytest.approx(1.7288720368, abs=1e-10)


def test_a_hard_label_does_not_know_how_many_voted_against_it() -> None:
    close, clear = (labelled(group(2, *panel(np.array([[0.0, 5 - lost], [lost, 0]])))) for lost in (2, 0))
    assert scores(close) == scores(clear) == (1.0, 0.0)
    assert np.ptp(scores(close, "logit")) < np.ptp(scores(clear, "logit"))


def test_an_even_split_is_a_tie_for_both_labels() -> None:
    found = labelled(group(2, *panel(np.array([[0.0, 2], [2, 0]]))))
    assert scores(found) == (0.5, 0.5)
    assert scores(found, "logit") == pytest.approx((0, 0), abs=1e-12)


def test_a_majority_of_pairs_can_differ_from_the_strengths() -> None:
    """Two narrow majorities (3:2) beat more opponents, one clear win (5:0) is the stronger evidence."""
    wins_KK = np.array([[0.0, 3, 3], [2, 0, 5], [2, 0, 0]])
    assert majority(wins_KK, annotators=5).values == (1.0, 0.5, 0.0)
    assert int(np.argmax(log_strengths(wins_KK))) == 1


def test_a_candidate_that_nobody_compared_has_no_label() -> None:
    found = labelled(group(3, verdict(0, 1, 3, 1.0, annotator="a")))
    assert scores(found, "logit")[2] is scores(found)[2] is None
    assert scores(found, "logit")[0] == pytest.approx(math.log(3) / 2)


def test_votes_of_people_as_the_readers_bring_them_are_labelled_too() -> None:
    read = group(
        2, *(Judgement(kind="pair", values=(v, 1 - v), annotator=str(k)) for k, v in enumerate((1, 1, 0, 0.5)))
    )
    found = labelled(read, verdicts="overall")
    assert [j.dimension for j in found.judgements] == ["verdict"] * 4 + ["logit", "overall"]
    assert np.ptp(scores(found, "logit")) == pytest.approx(math.log(3 / 2))
    assert scores(found) == (1.0, 0.0)


def test_labels_are_not_made_twice_nor_without_votes() -> None:
    found = labelled(group(2, verdict(0, 1, 2, 1.0, annotator="a")))
    with pytest.raises(FeedbackError, match="already has judgements in logit, overall"):
        labelled(found)
    with pytest.raises(FeedbackError, match="nobody compared"):
        labelled(group(2))


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("human", "human"), "human"),
        (("simulated:a", "simulated:a"), "simulated:a"),
        (("human", "simulated:a"), "simulated:panel"),
        (("human", "judge:gpt"), "judge:panel"),
    ],
)
def test_a_label_never_looks_more_human_than_its_votes(sources: tuple[str, ...], expected: str) -> None:
    votes = (verdict(0, 1, 2, 1.0, annotator=str(k), source=s) for k, s in enumerate(sources))
    assert {j.source for j in labelled(group(2, *votes)).judgements[-2:]} == {expected}


def test_votes_without_a_name_are_counted_one_by_one() -> None:
    votes = [verdict(0, 1, 2, 1.0, annotator=name) for name in ("a", "a", None, None)]
    assert labelled(group(2, *votes)).judgements[-1].extra["annotators"] == 3


def test_one_judge_with_a_probability_gives_the_logit_itself() -> None:
    two = probability_to_judgement(np.array([[0.5, 0.8], [0.2, 0.5]]), source="judge:x")
    assert two.values[0] - two.values[1] == pytest.approx(math.log(4))
    rewards = np.array([1.0, -0.5, 0.25])
    three = probability_to_judgement(win_probability(rewards), source="reward:x@1")
    assert_allclose(three.values, rewards - rewards.mean(), atol=1e-9)


def test_a_certain_judge_is_clipped_and_two_orders_are_averaged() -> None:
    sure = probability_to_judgement(np.array([[0.0, 1.0], [0.0, 0.0]]), source="judge:x")
    assert sure.values[0] - sure.values[1] == pytest.approx(math.log(99))
    biased = probability_to_judgement(np.array([[0.5, 0.9], [0.9, 0.5]]), source="judge:x")
    assert_allclose(biased.values, 0, atol=1e-12)


@pytest.mark.parametrize(("probability", "clip"), [(1.2, 0.01), (-0.1, 0.01), (np.nan, 0.01), (0.5, 0.0), (0.5, 0.5)])
def test_what_is_no_probability_is_refused(probability: float, clip: float) -> None:
    with pytest.raises(FeedbackError, match=r"probability is outside|clip is not between"):
        probability_to_judgement(np.array([[0.5, probability], [0.5, 0.5]]), source="judge:x", clip=clip)


def test_the_judgement_keeps_what_it_was_made_of() -> None:
    made = votes_to_judgement(WINS, annotators=5, prior=1.0, source="simulated:x")
    assert made.extra == {"annotators": 5, "votes": 30.0, "prior": 1.0}
    assert (made.kind, made.dimension, made.source) == ("score", "logit", "simulated:x")
    assert sum(made.values) == pytest.approx(0, abs=1e-12)
