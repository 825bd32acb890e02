"""DTO on the shipped thinker: a construction from problems to a store, and a run that learns from it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from penchant.assets import resolve
from penchant.feedback import open_store, read, scores
from penchant.feedback.groups import Prompt
from penchant.judges.verifiers import ExactMatch
from penchant.models import load
from penchant.models.causal_lm import CausalLM
from penchant.recipe import Preferences
from penchant.recipe_file import from_toml, to_toml
from penchant.recipes import dto
from penchant.run import align
from penchant.thoughts import Construction, ExitPruning, Rollouts, Trace, construct
from penchant.thoughts.construction import counter
from penchant.thoughts.exits import probabilities
from penchant.thoughts.optimisation import cuts, divided
from penchant.zoo.thinker import thoughts

PROBLEMS = {"4+7-2+5=": "14", "9-3+6-8=": "4", "2+2+9-1-5=": "7", "8-9+3+3=": "5", "1+8-4+6+2=": "13", "7-7+5-2=": "3"}
EACH = 4
_SHIPPED = os.environ.get("PENCHANT_THINKER", "zoo:thinker")


def recipe(folder: Path) -> Construction:
    lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in PROBLEMS.items()]
    (folder / "problems.jsonl").write_text("\n".join(lines))
    made = thoughts.thinker_thoughts()
    policy = replace(made.policy, path=_SHIPPED)
    return replace(made, policy=policy, each=EACH, problems=str(folder / "problems.jsonl"), out=str(folder / "out"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The construction of six problems: folder and what was said."""
    folder, said = tmp_path_factory.mktemp("thoughts"), []
    return folder, construct(recipe(folder), say=said.append), said


def test_every_chosen_trace_is_right_and_what_is_right_is_shortened(made):
    folder, result, said = made
    groups = open_store(folder / "out" / "data")
    assert len(groups) == result.account.pairs > 0
    verifier = ExactMatch(PROBLEMS, marker="#")
    for group in groups:
        chosen, rejected = group.candidates
        assert scores(group) == (1.0, 0.0)
        assert verifier.score([group.prompt], [chosen.text]) == 1
        if rejected.settings["right"]:
            assert len(chosen.text) < len(rejected.text)
        assert verifier.score([group.prompt], [rejected.text]) == rejected.settings["right"]
    assert result.account.traces == 6 * EACH == result.account.pairs + sum(result.account.refused.values())
    assert "exits:" in said[-1]
    assert json.loads((folder / "out" / "account.json").read_text())["pairs"] == len(groups)


def test_a_construction_done_again_asks_the_model_for_nothing_and_gives_the_same(made, monkeypatch):
    folder, result, _ = made

    def complete(*args, **more):
        raise AssertionError("the model was asked")

    monkeypatch.setattr(CausalLM, "complete", complete)
    again = construct(recipe(folder), say=lambda line: None)
    assert [group.id for group in again.groups] == [group.id for group in result.groups]


def test_another_method_draws_no_trace_again(made, monkeypatch):
    folder, result, _ = made
    complete, asked = CausalLM.complete, []

    def listening(model, prompts, **more):
        asked.extend(prompts)
        return complete(model, prompts, **more)

    monkeypatch.setattr(CausalLM, "complete", listening)
    strict = replace(recipe(folder).method, exits=replace(recipe(folder).method.exits, threshold=0.8))
    other = construct(replace(recipe(folder), method=strict), say=lambda line: None)
    # Seven of eight were not decided by what decided five of eight.
    assert asked
    assert all(prompt.opening for prompt in asked)
    assert other.account.traces == result.account.traces
    construct(recipe(folder), say=lambda line: None)


def test_the_construction_is_written_and_reads_back(made):
    folder, _, _ = made
    assert from_toml(folder / "out" / "construction.toml", Construction) == recipe(folder)
    for one in (thoughts.thinker_thoughts(), dto.r1_thoughts()):
        (folder / "one.toml").write_text(to_toml(one))
        assert from_toml(folder / "one.toml", Construction) == one
    assert isinstance(dto.r1_thoughts().method.pruning, ExitPruning)


def test_exit_probability_follows_the_last_result_of_the_thought(tmp_path):
    model = load(_SHIPPED)
    format, method = thoughts.FORMAT, thoughts.thinker_thoughts().method
    made = Rollouts(generator=model, verifier=ExactMatch(PROBLEMS, marker="#"), format=format, count=counter(model))
    # The first pass slips at the last step, the check does not.
    text = "4+7=11, 11-2=9, 9+5=15. Wait, check: 4+7=11, 11-2=9, 9+5=14. # 14"
    trace = Trace(problem=Prompt(text="4+7-2+5="), text=text, tokens=len(text), right=True)
    segments = divided(made, [trace], method.segmenter, {})[0]
    wrong, right = probabilities(made, cuts(trace, segments), method.exits)
    assert wrong < 0.5 < right


def test_the_recipe_learns_from_what_was_made(made):
    folder, _, _ = made
    run = dto.embedded()
    run = replace(
        run,
        policy=replace(run.policy, path=_SHIPPED),
        feedback=Preferences(path=str(folder / "out" / "data")),
        train=replace(run.train, steps=3, batch_size=4, log_every=1),
        # The recipe's verifier knows the shipped problems, not these.
        evaluation=None,
        out=str(folder / "run"),
    )
    found = align(run, say=lambda line: None)
    assert found.outcome.step == 3
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all("rewards/margins" in line for line in lines)
    assert load(found.model_path).fingerprint() != load(_SHIPPED).fingerprint()


def test_the_zoo_s_feedback_is_right_and_shorter():
    groups = read(resolve("zoo:thinker/thoughts"))
    assert len(groups) > 1000
    for group in groups:
        chosen, rejected = (candidate.settings for candidate in group.candidates)
        assert chosen["right"]
        assert not rejected["right"] or chosen["tokens"] < rejected["tokens"]
