"""Panels: whoever votes, verdicts come out, and a panel of judges agrees with its judges as often as it says."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from rollout_fixtures import quiet, spec

from penchant.errors import RecipeError
from penchant.feedback import Candidate, Group, Judgement, export_groups, open_store, scores, win_matrix
from penchant.iterations import JudgePanel, People, SimulatedPanel, iterate
from penchant.iterations.panels import scores_of


def groups(count: int, K: int = 4) -> list[Group]:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmno"))
    made = []
    for n in range(count):
        texts = ["".join(rng.choice(letters, 12)) for _ in range(K)]
        made.append(Group(prompt=f"prompt {n}", candidates=tuple(Candidate(text=t) for t in texts)))
    return made


@pytest.mark.parametrize("agreement", [0.6, 0.9])
def test_simulated_annotators_agree_with_their_judge_as_often_as_asked(agreement):
    found = SimulatedPanel(judge="late", agreement=agreement, annotators=5).vote(groups(200), number=0, seed=3)
    given = scores_of("late", found)
    right = []
    for group, score in zip(found, given, strict=True):
        assert len(group.judgements) == 5 * 6
        for vote in group.judgements:
            (i, j) = [k for k, value in enumerate(vote.values) if value is not None]
            if score[i] != score[j]:
                right.append((vote.values[i] > vote.values[j]) == (score[i] > score[j]))
    assert abs(np.mean(right) - agreement) < 0.02


def test_judges_vote_for_what_they_score_higher_and_equal_scores_are_a_tie():
    group = Group(prompt="p", candidates=tuple(Candidate(text=t) for t in ("aab", "aabb", "aba")))
    (found,) = JudgePanel(judges=("late",)).vote([group], number=0, seed=0)
    wins = win_matrix(found)
    assert wins[1, 0] == 1
    assert wins[0, 1] == 0
    assert wins[0, 2] == wins[2, 0] == 0.5
    assert {j.source for j in found.judgements} == {"judge:late"}


def test_two_panels_vote_beside_each_other(llama, prompts, tmp_path):
    both = (SimulatedPanel(judge="late", annotators=2), JudgePanel(judges=("late",)))
    run = spec(llama, prompts, tmp_path / "both", annotators=both, rounds=1)
    result = iterate(run, say=quiet)
    assert result.rounds[0].annotators == 3
    for group in open_store(run.folder / "round-000" / "votes"):
        assert len(group.judgements) == 3 * 3


def test_a_round_waits_for_people_and_takes_their_votes_in_any_order_of_candidates(llama, prompts, tmp_path):
    path = tmp_path / "votes-{round}.parquet"
    run = spec(llama, prompts, tmp_path / "people", annotators=(People(path=str(path)),), rounds=1)
    with pytest.raises(RecipeError, match="round 0 waits for votes"):
        iterate(run, say=quiet)
    drawn = list(open_store(run.folder / "round-000" / "samples"))
    voted = []
    for group in drawn:
        turned = replace(group, candidates=group.candidates[::-1])
        # Whoever voted liked the candidates in the order of their texts.
        order = sorted(range(3), key=lambda k: turned.candidates[k].text)
        values = tuple(order.index(k) / 2 for k in range(3))
        voted.append(turned.judged(Judgement(kind="rank", values=values, annotator="9f2c")))
    export_groups(voted, str(path).format(round=0))
    iterate(run, resume=True, say=quiet)
    for group in open_store(run.folder / "round-000" / "groups"):
        given = scores(group, "overall")
        for i, j in combinations(range(3), 2):
            one, other = group.candidates[i].text, group.candidates[j].text
            assert (given[i] > given[j]) == (one > other) or one == other


def test_votes_on_other_samples_are_refused(llama, prompts, tmp_path):
    path = tmp_path / "votes.parquet"
    stranger = groups(1)[0].judged(Judgement(kind="rank", values=(0, 1 / 3, 2 / 3, 1)))
    export_groups([stranger], path)
    run = spec(llama, prompts, tmp_path / "strangers", annotators=(People(path=str(path)),), rounds=1)
    with pytest.raises(RecipeError, match="holds no vote on a sample of round 0"):
        iterate(run, say=quiet)


@pytest.mark.parametrize("agreement", [0.5, 1.0])
def test_a_coin_and_the_judge_itself_are_no_simulated_annotators(agreement):
    with pytest.raises(RecipeError, match="agreement"):
        SimulatedPanel(judge="late", agreement=agreement)


def test_the_file_of_a_round_says_who_voted(llama, prompts, tmp_path):
    run = spec(llama, prompts, tmp_path / "told", rounds=1)
    iterate(run, say=quiet)
    record = json.loads((run.folder / "round-000" / "round.json").read_text())
    assert record["annotators"] == 3
    assert record["votes"] == 4 * 3 * 3
