"""Simulated annotators agree as often as asked, are called simulated, and vote by counted draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.errors import FeedbackError
from penchant.feedback import Candidate, Group, SimulatedAnnotator, labelled, scores, temperature_for, win_matrix
from penchant.feedback.annotators import expected_agreement


def group(number: int, K: int = 4) -> Group:
    return Group(prompt=f"prompt {number}", candidates=tuple(Candidate(text=f"{number} {k}") for k in range(K)))


def judged(count: int, K: int = 4) -> list[tuple[Group, list[float]]]:
    rng = np.random.default_rng(0)
    return [(group(number, K), rng.normal(size=K).tolist()) for number in range(count)]


@pytest.mark.parametrize("agreement", [0.6, 0.7, 0.8, 0.9])
def test_it_agrees_with_its_judge_as_often_as_asked(agreement: float) -> None:
    groups = judged(500)
    temperature = temperature_for(agreement, [given for _, given in groups])
    assert expected_agreement([given for _, given in groups], temperature) == pytest.approx(agreement, abs=1e-9)
    annotator = SimulatedAnnotator(name="judge", temperature=temperature)
    agreed = [
        (vote.values[i] > vote.values[j]) == (given[i] > given[j])
        for one, given in groups
        for vote in annotator.verdicts(one, given)
        for i, j in [[k for k, value in enumerate(vote.values) if value is not None]]
    ]
    # 3,000 votes: four standard errors are 0.036 at most.
    assert len(agreed) == 3000
    assert np.mean(agreed) == pytest.approx(agreement, abs=0.036)


@settings(max_examples=30, deadline=None)
@given(
    agreement=st.floats(0.51, 0.999),
    gaps=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8),
)
def test_the_temperature_is_found_on_any_scale(agreement: float, gaps: list[float]) -> None:
    given_scores = [[0.0, gap] for gap in gaps]
    assert expected_agreement(given_scores, temperature_for(agreement, given_scores)) == pytest.approx(agreement)


def test_the_temperature_scales_with_the_scores() -> None:
    given_scores = [given for _, given in judged(20)]
    tenfold = [[10 * s for s in one] for one in given_scores]
    assert temperature_for(0.7, tenfold) == pytest.approx(10 * temperature_for(0.7, given_scores))


def test_equal_and_missing_scores_say_nothing_about_agreement() -> None:
    given_scores = [[0.0, 1.0], [2.0, 2.0], [None, 5.0]]
    assert temperature_for(0.75, given_scores) == pytest.approx(1 / np.log(3))


@pytest.mark.parametrize("agreement", [0.5, 1.0, 0.3, float("nan")])
def test_an_agreement_that_no_temperature_gives_is_refused(agreement: float) -> None:
    with pytest.raises(FeedbackError, match="not between one half and 1"):
        temperature_for(agreement, [[0.0, 1.0]])


def test_a_judge_without_an_order_is_refused() -> None:
    with pytest.raises(FeedbackError, match="orders no pair"):
        temperature_for(0.8, [[1.0, 1.0], [None, 2.0]])
    with pytest.raises(FeedbackError, match="temperature"):
        SimulatedAnnotator(name="judge", temperature=0.0)


def test_wide_gaps_are_judged_more_surely_than_narrow_ones() -> None:
    annotator = SimulatedAnnotator(name="judge", temperature=1.0)
    wins = {
        gap: np.mean([annotator.verdicts(group(k, 2), [gap, 0.0])[0].values[0] for k in range(2000)])
        for gap in (0.0, 1.0, 3.0)
    }
    for gap, share in wins.items():
        assert share == pytest.approx(1 / (1 + np.exp(-gap)), abs=0.045)


def test_votes_are_simulated_hashed_and_one_for_each_pair() -> None:
    votes = SimulatedAnnotator(name="minilm", temperature=1.0).verdicts(group(0), [1.0, 2.0, None, 4.0])
    assert len(votes) == 3
    assert {v.source for v in votes} == {"simulated:minilm"}
    assert {v.dimension for v in votes} == {"verdict"}
    ((annotator,),) = [{v.annotator for v in votes}]
    assert len(annotator) == 16
    assert "minilm" not in annotator
    assert all(v.values[2] is None for v in votes)


def test_a_vote_depends_on_seed_annotator_and_group_and_on_nothing_else() -> None:
    base = {"name": "judge", "temperature": 1e6}
    first = [SimulatedAnnotator(**base).verdicts(group(k), [4.0, 3.0, 2.0, 1.0]) for k in range(20)]
    again = [SimulatedAnnotator(**base).verdicts(group(k), [4.0, 3.0, 2.0, 1.0]) for k in reversed(range(20))][::-1]
    assert first == again
    for other in (SimulatedAnnotator(**base, number=1), SimulatedAnnotator(**base, seed=1)):
        found = [other.verdicts(group(k), [4.0, 3.0, 2.0, 1.0]) for k in range(20)]
        same = np.mean(
            [a.values == b.values for x, y in zip(first, found, strict=True) for a, b in zip(x, y, strict=True)]
        )
        # Coins of 120 pairs: half of them fall alike.
        assert 0.3 < same < 0.7


def test_a_shuffled_group_is_judged_alike() -> None:
    annotator, order = SimulatedAnnotator(name="judge", temperature=1.0), (2, 0, 3, 1)
    given_scores = [0.4, 0.3, 0.2, 0.1]
    for k in range(10):
        plain = group(k).judged(*annotator.verdicts(group(k), given_scores))
        turned = group(k).only(order)
        turned = turned.judged(*annotator.verdicts(turned, [given_scores[i] for i in order]))
        assert (win_matrix(turned) == win_matrix(plain)[np.ix_(order, order)]).all()


def test_the_same_sample_twice_is_a_tie() -> None:
    twins = Group(prompt="p", candidates=(Candidate(text="a"), Candidate(text="a")))
    (vote,) = SimulatedAnnotator(name="judge", temperature=0.1).verdicts(twins, [1.0, 0.0])
    assert vote.values == (0.5, 0.5)


def test_the_scores_must_be_those_of_the_candidates() -> None:
    with pytest.raises(FeedbackError, match="3 scores for 4 candidates"):
        SimulatedAnnotator(name="judge", temperature=1.0).verdicts(group(0), [1.0, 2.0, 3.0])


def test_many_annotators_recover_the_judges_scale() -> None:
    """Bradley-Terry noise in, Bradley-Terry strengths out: the labels are the scores over the temperature."""
    one, given = group(0), [0.9, -0.3, -0.9, 0.3]
    votes = [
        v for k in range(400) for v in SimulatedAnnotator(name="j", number=k, temperature=0.5).verdicts(one, given)
    ]
    found = labelled(one.judged(*votes))
    assert scores(found, "logit") == pytest.approx([s / 0.5 for s in given], abs=0.25)
    assert found.judgements[-1].extra["annotators"] == 400
    assert found.judgements[-1].source == "simulated:j"
