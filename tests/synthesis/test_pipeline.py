"""The pipeline without faults: counts, what a second run does, what one more reward costs, what the store holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthesis_fixtures import PROMPTS, make, recipe
from toy_stages import Digits, Words

from penchant.errors import FeedbackError, RecipeError
from penchant.feedback import Judgement, open_store, ranked, read, select, verify
from penchant.synthesis import Work, rank, score
from penchant.synthesis.dataset import fingerprint
from penchant.synthesis.ledger import Ledger
from penchant.synthesis.votes import aggregate


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, make(recipe(folder))


def test_every_cell_is_computed_once(whole):
    folder, made = whole
    assert made.tally.computed == {"plain": PROMPTS, "fancy": PROMPTS, "last": 2 * PROMPTS, "second": 2 * PROMPTS}
    assert made.tally.planned == made.tally.computed
    assert Ledger(folder / "out" / "ledger.sqlite").counts() == dict(made.tally.computed)
    assert (made.groups, made.failures, made.left_out) == (PROMPTS, (), {})


def test_the_store_holds_scores_votes_and_shares(whole):
    _, made = whole
    for group in open_store(made.data):
        assert (group.licence, group.provenance["synthesis"]) == ("CC0", "toy")
        by_dimension = {j.dimension: j for j in group.judgements}
        assert set(by_dimension) == {"last", "second", "overall"}
        rewards = np.array([by_dimension[name].values for name in ("last", "second")])
        texts = [c.text for c in group.candidates]
        assert rewards.tolist() == [[float(t[-1]) for t in texts], [float(t[-2]) for t in texts]]
        overall = by_dimension["overall"]
        assert list(overall.values) == aggregate([rewards])[0].tolist()
        assert overall.extra["rewards"] == ["last", "second"]
        assert overall.extra["votes"] == [[np.sign(row[0] - row[1])] for row in rewards]
        assert (overall.source, by_dimension["last"].source) == ("judge:strict-votes", "reward:digits@1")
        assert {c.model for c in group.candidates} == {"plain", "fancy"}


def test_a_candidate_s_place_does_not_betray_its_generator(whole):
    _, made = whole
    places = [group.candidates[0].model for group in open_store(made.data)]
    assert set(places) == {"plain", "fancy"}
    assert all([c.id for c in g.candidates] == sorted(c.id for c in g.candidates) for g in open_store(made.data))


def test_trainers_read_it(whole):
    _, made = whole
    assert verify(made.data).ok
    for one in ranked(read(made.data)):
        assert list(one.scores) == sorted(one.scores, reverse=True)
    assert len(select(read(made.data))) + len(select(read(made.data)).report.dropped.get("tie", ())) == PROMPTS


def test_a_second_run_computes_nothing(whole):
    folder, first = whole
    again = make(recipe(folder))
    assert sum(again.tally.computed.values()) == 0
    assert again.tally.reused == first.tally.computed
    assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(whole, tmp_path, workers):
    assert make(recipe(tmp_path, work=Work(workers=workers))).fingerprint == whole[1].fingerprint


def test_one_more_reward_computes_its_cells_only_and_ranks_everything_anew(tmp_path):
    before = make(recipe(tmp_path))
    plan = recipe(tmp_path)
    after = make(replace(plan, rewards=(*plan.rewards, Digits(name="third", place=3))))
    assert {k: v for k, v in after.tally.computed.items() if v} == {"third": 2 * PROMPTS}
    assert after.fingerprint != before.fingerprint
    for group in open_store(after.data):
        (overall,) = [j for j in group.judgements if j.dimension == "overall"]
        assert overall.extra["rewards"] == ["last", "second", "third"]
        assert len(overall.extra["votes"]) == 3
    fresh = make(replace(plan, rewards=(*plan.rewards, Digits(name="third", place=3)), out=str(tmp_path / "fresh")))
    assert fresh.fingerprint == after.fingerprint


def test_one_more_generator_draws_and_scores_its_samples_only(tmp_path):
    make(recipe(tmp_path))
    plan = recipe(tmp_path)
    after = make(replace(plan, generators=(*plan.generators, Words(name="third", style="third"))))
    assert {k: v for k, v in after.tally.computed.items() if v} == {"third": 10, "last": 10, "second": 10}
    assert {len(group.candidates) for group in open_store(after.data)} == {3}


def test_more_prompts_leave_the_old_ones_alone(tmp_path):
    make(recipe(tmp_path, limit=7))
    after = make(recipe(tmp_path))
    assert after.tally.computed == {"plain": 3, "fancy": 3, "last": 6, "second": 6}
    assert after.groups == PROMPTS


def test_the_name_of_a_stage_is_no_part_of_its_work_but_its_settings_are(tmp_path):
    make(recipe(tmp_path))
    same = make(recipe(tmp_path, rewards=(Digits(name="renamed"),)))
    assert sum(same.tally.computed.values()) == 0
    other = make(recipe(tmp_path, rewards=(Digits(name="renamed", place=4),)))
    assert other.tally.computed["renamed"] == 2 * PROMPTS


def test_seeds_multiply_samples(tmp_path):
    made = make(recipe(tmp_path, seeds=3))
    assert made.tally.computed["plain"] == 3 * PROMPTS
    assert {len(group.candidates) for group in open_store(made.data)} == {6}


def test_equal_samples_of_a_group_are_counted_and_left_out(tmp_path):
    same = [Words(name=name, style=name[0], seeded=False) for name in ("a", "aa", "b")]
    made = make(recipe(tmp_path, generators=tuple(same)))
    assert made.tally.computed["aa"] == PROMPTS
    assert {reason: len(what) for reason, what in made.left_out.items()} == {"the same sample drawn twice": PROMPTS}
    assert {len(group.candidates) for group in open_store(made.data)} == {2}


def test_a_group_of_one_sample_is_counted_and_left_out(tmp_path):
    same = [Words(name=name, style="a", seeded=False) for name in ("a", "aa")]
    made = make(recipe(tmp_path, generators=tuple(same)))
    assert len(made.left_out["fewer than two samples"]) == PROMPTS
    assert made.groups == 0


def test_two_stages_of_one_name_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="names two stages"):
        recipe(tmp_path, rewards=(Digits(name="plain"),))


def test_an_empty_or_missing_prompt_file_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(RecipeError, match="holds no prompt"):
        make(recipe(tmp_path, prompts=str(tmp_path / "empty.txt")))
    with pytest.raises(RecipeError, match="cannot be read"):
        make(recipe(tmp_path, prompts=str(tmp_path / "none.txt")))


def test_prompts_may_come_from_preference_data(whole, tmp_path):
    made = make(recipe(tmp_path, prompts=str(whole[1].data)))
    assert made.fingerprint == whole[1].fingerprint


def test_a_folder_has_one_writer(tmp_path):
    from penchant.train.guards import locked

    with locked(tmp_path / "out"), pytest.raises(RecipeError, match="another run"):
        make(recipe(tmp_path))


def test_given_samples_are_scored_and_ranked(whole, tmp_path):
    groups = open_store(whole[1].data).groups
    made = score(groups, [Digits(name="third", place=3)], tmp_path, say=lambda line: None)
    assert made.tally.computed == {"third": 2 * PROMPTS}
    for group in open_store(made.data):
        by_dimension = {j.dimension: j for j in group.judgements}
        assert set(by_dimension) == {"last", "second", "third", "overall"}
        assert by_dimension["overall"].extra["rewards"] == ["third"]


def test_what_people_said_stays_and_is_no_vote(whole, tmp_path):
    """A human pair and a human rating: both are kept, neither votes, and training asks for a source."""
    said = (
        Judgement(kind="pair", values=(0.0, 1.0)),
        Judgement(kind="score", dimension="fidelity", values=(5.0, 1.0)),
    )
    groups = [
        replace(group, judgements=said + tuple(j for j in group.judgements if j.dimension != "overall"))
        for group in open_store(whole[1].data)
    ]
    ranked_once, _ = rank(groups)
    ranked_twice, _ = rank(ranked_once, "half-credit")
    for group in ranked_twice:
        overall = [j for j in group.judgements if j.dimension == "overall"]
        assert [j.source for j in overall] == ["human", "judge:half-credit"]
        assert overall[1].extra["rewards"] == ["last", "second"]
        assert [j.values for j in group.judgements if j.dimension == "fidelity"] == [(5.0, 1.0)]
    with pytest.raises(FeedbackError, match="judge:half-credit"):
        select(ranked_twice)
    assert len(select(ranked_twice, source="human")) == PROMPTS
    with pytest.raises(FeedbackError, match="no group carries"):
        rank([replace(group, judgements=said) for group in groups])


def test_a_refused_second_writer_leaves_the_recipe_alone(tmp_path):
    from penchant.train.guards import locked

    make(recipe(tmp_path, limit=2))
    before = (tmp_path / "out" / "synthesis.toml").read_text()
    with locked(tmp_path / "out"), pytest.raises(RecipeError, match="another run"):
        make(recipe(tmp_path, limit=3))
    assert (tmp_path / "out" / "synthesis.toml").read_text() == before


def test_ranking_anew_uses_every_reward_that_is_there(whole):
    groups, left = rank(open_store(whole[1].data).groups, "bradley-terry")
    assert not left
    for group in groups:
        (overall,) = [j for j in group.judgements if j.dimension == "overall"]
        assert (overall.source, overall.extra["rewards"]) == ("judge:bradley-terry", ["last", "second"])
    assert fingerprint(rank(groups, "strict-votes")[0]) == whole[1].fingerprint


def test_the_recipe_of_a_data_set_is_written_beside_it(whole):
    from penchant.recipe_file import to_toml

    folder, _ = whole
    assert (folder / "out" / "synthesis.toml").read_text() == to_toml(recipe(folder))
