"""Rounds: each trains from the last iterate on what it drew itself, and a killed one goes on with the same bits."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rollout_fixtures import judged, quiet, spec
from safetensors.torch import load_file

from penchant.errors import FeedbackError, RecipeError
from penchant.feedback import open_store, read, scores
from penchant.iterations import Iterations, iterate
from penchant.iterations.rounds import label
from penchant.models import Policy
from penchant.objectives import DPO, RankDPO, SimPO
from penchant.recipe import Preferences
from penchant.recipe_file import from_toml, to_toml
from penchant.references import Reference

STAGES = ("samples", "votes", "groups")


@pytest.fixture(scope="module")
def whole(llama, prompts, tmp_path_factory) -> Path:
    """Two rounds that nothing stopped."""
    from penchant.judges import JUDGES

    out = tmp_path_factory.mktemp("whole") / "rounds"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(JUDGES, "late", "rollout_fixtures:Late")
        iterate(spec(llama, prompts, out), say=quiet)
    return out


def weights(folder: Path, number: int) -> dict[str, torch.Tensor]:
    (file,) = (folder / f"round-{number:03d}" / "run" / "model").glob("*.safetensors")
    return load_file(file)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def losses(folder: Path, number: int) -> list[float]:
    lines = (folder / f"round-{number:03d}" / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def asked(folder: Path, number: int) -> set[str]:
    return {group.prompt for group in open_store(folder / f"round-{number:03d}" / "samples")}


# --- what a round is --------------------------------------------------------------------------------------------------


def test_each_round_asks_other_prompts_and_answers_with_the_policy_of_the_last(whole):
    assert len(asked(whole, 0)) == len(asked(whole, 1)) == 4
    assert not asked(whole, 0) & asked(whole, 1)
    (model,) = {c.model for g in open_store(whole / "round-001" / "samples") for c in g.candidates}
    assert model == str(whole / "round-000" / "run" / "model")
    recipe = from_toml(whole / "round-001" / "run" / "recipe.toml")
    assert recipe.policy.adapter == model
    assert recipe.policy.lora == 0


def test_both_labels_of_a_group_come_from_the_same_votes(whole):
    for group in open_store(whole / "round-000" / "groups"):
        verdicts = [j for j in group.judgements if j.dimension == "verdict"]
        assert len(verdicts) == 3 * 3  # three annotators, three pairs
        assert {j.source for j in verdicts} == {"simulated:late"}
        soft, hard = scores(group, "logit"), scores(group, "overall")
        assert abs(sum(soft)) < 1e-9
        assert soft.index(max(soft)) in [k for k, value in enumerate(hard) if value == max(hard)]


def test_what_a_round_begins_with_is_its_reference(llama, prompts, whole, tmp_path):
    # A policy that equals its reference has the loss log 2; against the base of all rounds the second has moved.
    dpo = spec(llama, prompts, tmp_path / "start", objective=DPO(beta=0.5))
    iterate(dpo, say=quiet)
    assert abs(losses(dpo.folder, 1)[0] - math.log(2)) < 1e-6
    base = replace(dpo, out=str(tmp_path / "base"), reference=Reference(kind="adapter_off"))
    iterate(base, say=quiet)
    assert abs(losses(base.folder, 0)[0] - math.log(2)) < 1e-6
    assert abs(losses(base.folder, 1)[0] - math.log(2)) > 1e-4


def test_full_fine_tuning_goes_on_from_the_saved_model(llama, prompts, tmp_path):
    full = spec(llama, prompts, tmp_path / "full", policy=Policy(path=str(llama)), objective=DPO(beta=0.5))
    result = iterate(replace(full, train=replace(full.train, lr=1e-4)), say=quiet)
    assert result.policy.path == str(full.folder / "round-001" / "run" / "model")
    assert abs(losses(full.folder, 1)[0] - math.log(2)) < 1e-6


def test_every_method_learns_from_the_same_answers_and_votes(llama, prompts, whole, tmp_path):
    for index, objective in enumerate((DPO(beta=0.5), SimPO())):
        other = spec(llama, prompts, tmp_path / str(index), objective=objective)
        (other.folder / "round-000").mkdir(parents=True)
        store = label(other, 0, replace(other.policy, lora=0), other.folder / "round-000", quiet)
        # The first round's policy is the base, whether it carries an adapter that says nothing yet or none.
        mine, theirs = open_store(store), open_store(whole / "round-000" / "groups")
        assert [(g.id, g.judgements) for g in mine] == [(g.id, g.judgements) for g in theirs]


def test_one_batch_a_round_is_one_step_a_round(llama, prompts, tmp_path):
    online = spec(llama, prompts, tmp_path / "online", objective=DPO(beta=0.5), prompts_a_round=2, rounds=3)
    assert [r.steps for r in iterate(online, say=quiet).rounds] == [1, 1, 1]


def test_rankings_of_the_votes_train_a_listwise_objective(llama, prompts, tmp_path):
    ranked = spec(llama, prompts, tmp_path / "ranked", objective=RankDPO(beta=0.5), rounds=1)
    assert ranked.dimension == "overall"
    assert iterate(ranked, say=quiet).rounds[0].steps == 2


def test_a_text_cut_at_the_limit_is_not_trained_to_end_there(llama, whole):
    from penchant.models import load

    recipe = from_toml(whole / "round-000" / "run" / "recipe.toml")
    model = load(replace(recipe.policy, adapter=None, lora=0))
    cut = [
        c
        for g in open_store(whole / "round-000" / "samples")
        for c in g.candidates
        if not c.settings["finished"] and len(model.tokenizer(c.text, add_special_tokens=False)["input_ids"]) >= 6
    ]
    assert cut
    for candidate in cut:
        assert not set(model.completion_tokens(candidate)) & model.end_ids


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_a_round_that_is_not_shown_to_be_better_is_the_last(llama, prompts, others, tmp_path):
    # A policy that hardly moves ties with its start: its interval does not lie above one half.
    still = spec(llama, prompts, tmp_path / "still", evaluation=judged(others), stop_at=0.5)
    still = replace(still, train=replace(still.train, lr=1e-9))
    result = iterate(still, say=quiet)
    assert len(result.rounds) == 1
    assert result.rounds[0].wins is not None
    assert result.rounds[0].wins[0] == 0.5
    assert "not shown to win" in result.why
    assert (still.folder / "round-000" / "run" / "report.html").exists()
    # Without the rule they go on, from where they were.
    result = iterate(replace(still, stop_at=None), resume=True, say=quiet)
    assert len(result.rounds) == 2
    assert result.why == "all rounds are done"


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["nothing", "samples", "votes", "groups", "training", "round-000"])
def test_rounds_that_were_cut_off_anywhere_end_with_the_same_bits(last, llama, prompts, whole, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "round-001")
    (folder / "iterations.json").unlink()
    first = folder / "round-000"
    if last != "round-000":
        (first / "round.json").unlink()
        (first / "run" / "outcome.json").unlink()
        shutil.rmtree(first / "run" / "model")
    if last in ("nothing", *STAGES):
        shutil.rmtree(first / "run")
        shutil.rmtree(folder / "cache")
        kept = STAGES.index(last) + 1 if last in STAGES else 0
        for stage in STAGES[kept:]:
            shutil.rmtree(first / stage)
        for stage in STAGES[kept : kept + 1]:
            (first / f".{stage}.partial" / "groups").mkdir(parents=True)
    iterate(spec(llama, prompts, folder), resume=True, say=quiet)
    for number in (0, 1):
        assert same(weights(folder, number), weights(whole, number))
    ids = [[g.id for g in open_store(f / "round-001" / "groups")] for f in (folder, whole)]
    assert ids[0] == ids[1]


def test_a_killed_process_goes_on_with_the_same_bits(llama, prompts, whole, tmp_path):
    folder = tmp_path / "killed"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from penchant.judges import JUDGES; from rollout_fixtures import spec\n"
        "from penchant.iterations import iterate\n"
        "JUDGES['late'] = 'rollout_fixtures:Late'\n"
        "iterate(spec(*map(Path, sys.argv[2:])), resume=True)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(llama), str(prompts), str(folder)]
    seen = [folder / "round-000" / "votes", folder / "round-001" / "samples"]
    for mark in seen:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not mark.exists() and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert all(same(weights(folder, n), weights(whole, n)) for n in (0, 1))


def test_a_folder_of_rounds_is_neither_overwritten_nor_mixed(llama, prompts, whole):
    with pytest.raises(RecipeError, match="--resume"):
        iterate(spec(llama, prompts, whole), say=quiet)
    with pytest.raises(RecipeError, match="another objective"):
        iterate(spec(llama, prompts, whole, objective=DPO()), resume=True, say=quiet)


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_the_recipe_survives_its_file(llama, prompts, others, tmp_path):
    made = spec(llama, prompts, tmp_path, evaluation=judged(others))
    path = tmp_path / "iterations.toml"
    path.write_text(to_toml(made))
    assert from_toml(path, Iterations) == made


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"reference": Reference()}, "reference is left open"),
        ({"stop_at": 0.5}, "no held-out judge"),
        ({"annotators": ()}, "nobody votes"),
        ({"rounds": 0}, "a prompt and a step"),
        ({"reference": Reference(kind="start", cache="kept.sqlite")}, "another one each time"),
    ],
)
def test_a_recipe_that_cannot_mean_anything_is_refused_when_it_is_built(changes, problem, llama, prompts, tmp_path):
    with pytest.raises(RecipeError, match=problem):
        spec(llama, prompts, tmp_path, **changes)


def test_too_few_prompts_are_refused_before_anything_is_drawn(llama, prompts, tmp_path):
    with pytest.raises(RecipeError, match="holds 10 prompts; 3 rounds of 4 need 12"):
        iterate(spec(llama, prompts, tmp_path / "few", rounds=3), say=quiet)
    assert not (tmp_path / "few" / "round-000" / "samples").exists()


def test_prompts_may_come_from_feedback(llama, prompts, whole, tmp_path):
    store = whole / "round-000" / "samples"
    again = spec(llama, store, tmp_path / "again", rounds=1)
    iterate(again, say=quiet)
    assert asked(again.folder, 0) == {group.prompt for group in read(store)}


def test_votes_that_decide_nothing_stop_with_a_sentence(llama, prompts, tmp_path):
    from penchant.iterations import LanguageModelPanel

    # A model of random weights follows no instruction: every vote of it is void.
    void = spec(llama, prompts, tmp_path / "void", annotators=(LanguageModelPanel(address=str(llama)),))
    with pytest.raises(FeedbackError, match="no group states a preference"):
        iterate(void, say=quiet)


def test_the_run_of_a_round_is_an_ordinary_run(whole):
    recipe = from_toml(whole / "round-001" / "run" / "recipe.toml")
    assert recipe.feedback == Preferences(path=str(whole / "round-001" / "groups"), dimension="logit")
    assert recipe.reference.kind == "start"
    assert recipe.train.steps == 2
