"""Views: what the rule says scores are, what becomes of ties, and that position never matters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.errors import FeedbackError
from penchant.feedback import (
    Candidate,
    Feedback,
    Group,
    Judgement,
    best_vs_worst,
    binary,
    pairs,
    rank_values,
    ranked,
    scores,
    select,
)


def group(*values: tuple[float | None, ...], prompt: str = "p", **options: Any) -> Group:
    judgements = tuple(Judgement(**({"kind": "pair"} | options), values=v) for v in values)
    return Group(
        prompt=prompt, candidates=tuple(Candidate(text=f"c{k}") for k in range(len(values[0]))), judgements=judgements
    )


def test_scores_are_the_weighted_mean_of_those_who_judged() -> None:
    base = group((1.0, 0.0, None), (0.5, None, None))
    heavy = base.judged(Judgement(kind="pair", values=(0.0, 1.0, None), weight=3.0))
    assert scores(heavy) == (pytest.approx((1 + 0.5 + 0) / 5), pytest.approx(3 / 4), None)
    assert scores(heavy, "style") == (None, None, None)
    silent = base.judged(Judgement(kind="pair", values=(0.0, 1.0, 1.0), weight=0.0))
    assert scores(silent) == scores(base)


def test_votes_are_shares_and_ranks_are_shares_beaten() -> None:
    assert scores(group((3, 1, 0), kind="vote")) == (0.75, 0.25, 0.0)
    assert scores(group((0, 0), kind="vote")) == (None, None)
    assert rank_values((1, 1, 7)) == (0.75, 0.75, 0.0)
    assert rank_values((4, None, 2)) == (0.0, None, 1.0)
    assert rank_values((1,)) == (0.0,)
    assert scores(group(rank_values((1, 1, 7)), kind="rank")) == (0.75, 0.75, 0.0)


def test_rewards_keep_their_scale_and_are_never_mixed() -> None:
    rewarded = group((2.5, -1.0), kind="score", source="reward:pick@1")
    assert scores(rewarded) == (2.5, -1.0)
    mixed = rewarded.judged(Judgement(kind="pair", values=(0.0, 1.0)))
    with pytest.raises(FeedbackError, match="name one source: human, reward:pick@1"):
        scores(mixed)
    assert scores(mixed, source="human") == (0.0, 1.0)
    assert scores(mixed, source="reward:") == (2.5, -1.0)
    assert scores(rewarded.judged(Judgement(kind="pair", values=(0.0, 1.0), weight=0.0))) == (2.5, -1.0)
    two = rewarded.judged(Judgement(kind="score", values=(9.0, 8.0), source="reward:hps@2"))
    with pytest.raises(FeedbackError, match="no common scale"):
        scores(two)


def test_a_tie_is_dropped_and_counted_unless_a_policy_says_otherwise() -> None:
    feedback = Feedback(groups=(group((1.0, 0.0)), group((0.5, 0.5), prompt="tied")))
    tied = feedback[1].id
    dropped = select(feedback)
    assert (len(dropped), dropped.report.kept, dropped.report.dropped) == (1, 1, {"tie": (tied,)})
    assert "dropped 1 x tie" in dropped.report.summary()
    kept = select(feedback, ties="keep")
    assert (kept[1].scores, kept.report.dropped) == ((0.5, 0.5), {})
    half = select([group((1, 1), kind="binary")], ties="half")
    assert half[0].scores == (0.5, 0.5)
    assert "tie set to one half" in half.report.adjusted
    with pytest.raises(FeedbackError, match="did you mean 'random'"):
        select(feedback, ties="randm")


def test_random_ties_are_counted_randomness() -> None:
    tied = [group((0.5, 0.5), prompt=f"p{k}") for k in range(200)]
    drawn = [s.scores for s in select(tied, ties="random", seed=1)]
    assert set(drawn) == {(1.0, 0.0), (0.0, 1.0)}
    assert 60 < drawn.count((1.0, 0.0)) < 140
    assert drawn == [s.scores for s in select(tied, ties="random", seed=1)]
    assert drawn[50:60] == [s.scores for s in select(tied[50:60], ties="random", seed=1)]
    assert drawn != [s.scores for s in select(tied, ties="random", seed=2)]
    four = select([group((0.5,) * 4)], ties="random")[0].scores
    assert sorted(four) == [0, 1 / 3, 2 / 3, 1]


def test_candidates_nobody_judged_leave_the_group_and_are_counted() -> None:
    selection = select([group((1.0, None, 0.0)), group((None, None), prompt="q"), group((1.0, None), prompt="r")])
    assert [c.text for c in selection[0].group.candidates] == ["c0", "c2"]
    assert selection[0].group.id == group((1.0, None, 0.0)).id
    assert {reason: len(ids) for reason, ids in selection.report.dropped.items()} == {
        "not judged": 1,
        "fewer than 2 judged candidates": 1,
    }
    assert list(selection.report.adjusted) == ["candidates that nobody judged left out"]


def test_an_unknown_dimension_names_the_nearest() -> None:
    with pytest.raises(FeedbackError, match="did you mean 'overall'"):
        select([group((1.0, 0.0))], dimension="overal")


def test_pairs_are_all_strict_comparisons() -> None:
    three = group((1.0, 0.5, 0.5))
    strict = {(p.chosen.text, p.rejected.text, p.margin) for p in pairs([three])}
    assert strict == {("c0", "c1", 0.5), ("c0", "c2", 0.5)}
    halves = [p for p in pairs([three], ties="half") if p.margin == 0]
    assert [(p.weight, {p.chosen.text, p.rejected.text}) for p in halves] == [(0.5, {"c1", "c2"})] * 2
    assert halves[0].chosen == halves[1].rejected
    assert len(pairs([three], ties="keep")) == len(pairs([three], ties="random")) == 3


def test_best_against_worst_and_best_first() -> None:
    four = group((0.25, 1.0, 0.0, 0.5), kind="rank")
    (pair,) = best_vs_worst([four])
    assert (pair.chosen.text, pair.rejected.text) == ("c1", "c2")
    (order,) = ranked([four])
    assert [c.text for c in order.candidates] == ["c1", "c3", "c0", "c2"]
    assert list(order.scores) == sorted(order.scores, reverse=True)


def test_binary_rows_say_good_or_bad_and_leave_ties_out() -> None:
    rows = binary([group((1.0, 0.0)), group((0.5, 0.5), prompt="q"), group((1.0,), kind="binary", prompt="r")])
    assert [(row.prompt, row.candidate.text, row.desirable) for row in rows] == [
        ("p", "c0", True),
        ("p", "c1", False),
        ("r", "c0", True),
    ]
    rated = group((5.0, 7.0), kind="score")
    with pytest.raises(FeedbackError, match="no natural middle"):
        binary([rated])
    assert [row.desirable for row in binary([rated], threshold=6)] == [False, True]


KINDS = {
    "pair": st.sampled_from([0.0, 0.5, 1.0]),
    "rank": st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    "vote": st.integers(0, 5).map(float),
    "binary": st.sampled_from([0.0, 1.0]),
}


@st.composite
def groups_and_orders(draw: st.DrawFn) -> tuple[Group, list[int]]:
    k = draw(st.integers(2, 5))
    judgements = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(sorted(KINDS)))
        values = draw(st.lists(st.none() | KINDS[kind], min_size=k, max_size=k))
        judgements.append(Judgement(kind=kind, values=tuple(values), weight=draw(st.sampled_from([0.0, 1.0, 2.5]))))
    candidates = tuple(Candidate(text=f"c{i}") for i in range(k))
    made = Group(prompt=draw(st.text(max_size=5)), candidates=candidates, judgements=tuple(judgements))
    return made, draw(st.permutations(range(k)))


@settings(max_examples=80, deadline=None)
@given(groups_and_orders(), st.sampled_from(["drop", "half", "random", "keep"]), st.integers(0, 3))
def test_no_view_depends_on_position(made: tuple[Group, list[int]], ties: Any, seed: int) -> None:
    before, order = made
    fresh = Group(
        prompt=before.prompt,
        candidates=before.only(order).candidates,
        judgements=before.only(order).judgements,
    )
    assert fresh.id == before.id
    assert scores(fresh) == tuple(scores(before)[k] for k in order)

    def by_candidate(one: Group) -> list[dict[str, float]]:
        return [
            dict(zip([c.id for c in s.group.candidates], s.scores, strict=True))
            for s in select([one], ties=ties, seed=seed)
        ]

    assert by_candidate(fresh) == by_candidate(before)
    assert pairs([fresh], ties=ties, seed=seed) == pairs([before], ties=ties, seed=seed)
    assert best_vs_worst([fresh], ties=ties, seed=seed) == best_vs_worst([before], ties=ties, seed=seed)
    assert ranked([fresh]) == ranked([before])
    assert {(r.candidate.id, r.desirable) for r in binary([fresh])} == {
        (r.candidate.id, r.desirable) for r in binary([before])
    }


def test_ids_are_content() -> None:
    a, b = Candidate(text="a"), Candidate(text="b")
    assert a.id == Candidate(text="a", model="m", seed=1).id != b.id
    one = Group(prompt="p", candidates=(a, b)).id
    assert one == Group(prompt="p", candidates=(b, a), judgements=(Judgement(kind="pair", values=(1, 0)),)).id
    assert one != Group(prompt="q", candidates=(a, b)).id
    assert Group(prompt="p", candidates=(a,), id="mine").id == "mine"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Judgement(kind="pear", values=(1, 0)), "unknown judgement kind"),
        (lambda: Judgement(kind="pair", values=(float("nan"), 0)), "not finite"),
        (lambda: Judgement(kind="pair", values=(2, 0)), "out of range"),
        (lambda: Judgement(kind="vote", values=(-1, 0)), "out of range"),
        (lambda: Judgement(kind="pair", values=(1, 0), weight=-1), "weight"),
        (lambda: Judgement(kind="pair", values=(1, 0), source="bob"), "unknown judgement source"),
        (lambda: Candidate(model="m"), "neither media nor text"),
        (lambda: Group(prompt="p", candidates=()), "no candidates"),
        (lambda: group((1.0, 0.0)).judged(Judgement(kind="pair", values=(1.0,))), "1 values for 2 candidates"),
        (lambda: Feedback(groups=(group((1.0, 0.0)),)).split("test"), "no group is in split"),
    ],
)
def test_records_refuse_what_makes_no_sense(make: Any, match: str) -> None:
    with pytest.raises(FeedbackError, match=match):
        make()
