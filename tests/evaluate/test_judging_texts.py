"""The judging of a text run, end to end: real texts of a tiny model, judged, compared and reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import penchant as pc
from penchant.evaluate.sheet import Sheet
from penchant.evaluate.verdict import verdict
from penchant.feedback import read, select
from penchant.feedback.groups import Prompt
from penchant.judges import Judge
from penchant.judging import Judging
from penchant.likelihoods import Autoregressive
from penchant.models.completion import Completion, Decoding
from penchant.recipe import Evaluation
from penchant.run import Watch
from penchant.testing import build

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


class CountsLetters(Judge):
    """Prefers texts with more letters, and remembers what it was asked."""

    name, version, dimensions = "letters", "1", ("letters",)

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def score(self, prompts: Sequence[str], samples: Sequence[Any]) -> np.ndarray:
        self.asked += list(zip(prompts, samples, strict=True))
        return np.array([[float(sum(c.isalpha() for c in sample))] for sample in samples])


class SeesLength(CountsLetters):
    """The same with features: a text's length and vowels."""

    name = "sees"

    def features(self, samples: Sequence[str]) -> np.ndarray:
        points = np.array([[1.0, len(s), sum(c in "aeiou" for c in s)] for s in samples])
        return points / np.linalg.norm(points, axis=-1, keepdims=True)


@dataclass
class Outcome:
    pairs_per_second: float = 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def recipe(folder, tmp_path) -> pc.Recipe:
    rows = [{"prompt": f"say {i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(4)]
    sides = {k: [{"role": "assistant", "content": k}] for k in ("chosen", "rejected")}
    rows.append({"prompt": TURNS, **sides})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    held = [{"prompt": f"tell {i}"} for i in range(4)]
    held += [{"messages": [*TURNS[:1], {"role": "user", "content": "How?"}], "opening": "Well"}, {"prompt": "say 0"}]
    (tmp_path / "held.jsonl").write_text("\n".join(map(json.dumps, held)))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.7}\n{"step": 2, "loss": 0.6}\n')
    return pc.Recipe(
        name="words",
        policy=pc.Policy(path=str(folder), lora=4),
        likelihood=Autoregressive(),
        objective=pc.DPO(beta=0.1),
        feedback=pc.Preferences(path=str(tmp_path / "pairs.jsonl")),
        evaluation=Evaluation(
            prompts=str(tmp_path / "held.jsonl"),
            count=20,
            seeds=2,
            decoding=Decoding(max_tokens=8),
            judges=("vader",),
        ),
    )


def trained(recipe: pc.Recipe) -> list[Prompt]:
    """The prompts of the recipe's feedback."""
    return [scored.group.asked() for scored in select(read(recipe.feedback.path))]


def judging(recipe: pc.Recipe, tmp_path: Path, *judges: Judge) -> Judging:
    made = Judging.of(recipe, trained(recipe), tmp_path / "cache")
    return replace(made, judges={judge.name: (judge, "held out") for judge in judges})


def pushed(model: Any) -> Any:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.trainable_parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def silent(text: str) -> None:
    pass


def test_prompts_keep_their_conversations_and_trained_ones_are_never_held_out(recipe, tmp_path):
    made = judging(recipe, tmp_path, CountsLetters())
    assert {p.text for p in made.seen} == {"say 0", "say 1", "say 2", "say 3", "system: Be brief.\n\nuser: Why?"}
    assert [list(p.messages) for p in made.seen if p.messages] == [TURNS]
    assert {p.text for p in made.held_out} == {f"tell {i}" for i in range(4)} | {"system: Be brief.\n\nuser: How?"}
    assert [p.opening for p in made.held_out if p.messages] == ["Well"]


def test_both_models_answer_the_same_prompts_at_the_same_seeds_and_judges_read_plain_answers(recipe, tmp_path):
    judge, model = CountsLetters(), pc.load(recipe.policy)
    made = judging(recipe, tmp_path, judge)
    said: list[str] = []
    base = made.sample(model, said.append)
    assert said == ["sampling 10 texts of 5 seen prompts", "sampling 10 texts of 5 held-out prompts"]
    policy = made.sample(pushed(model), silent)
    assert base == made.sample(pc.load(recipe.policy), silent) != policy
    assert [(sheet.modality, sheet.prompts) for sheet in base] == [(sheet.modality, sheet.prompts) for sheet in policy]
    assert all(sheet.samples[2 * p] != sheet.samples[2 * p + 1] for sheet in base for p in range(5))
    made.result(base, policy, tmp_path, None)
    opened = [answer for prompt, answer in judge.asked if prompt.endswith("How?")]
    assert len(opened) == 4
    assert all(answer.startswith("Well") for answer in opened)
    assert len(judge.asked) == 40  # every text once


def test_a_run_of_texts_is_reported_whole(recipe, tmp_path):
    made, model = judging(recipe, tmp_path, CountsLetters(), SeesLength()), pc.load(recipe.policy)
    base = made.sample(model, silent)
    policy = made.sample(pushed(model), silent)
    feedback = read(recipe.feedback.path)
    reading, said = (feedback.report, select(feedback).report), []
    made.report(base, policy, reading, Watch(), Outcome(), tmp_path, said.append, model=model)
    rows = json.loads((tmp_path / "evaluation.json").read_text())
    assert [(row["captions"], row["judge"], row["modality"]) for row in rows] == [
        (kind, judge, "text") for kind in ("seen", "held-out") for judge in ("letters", "sees")
    ]
    assert all(0 <= row["controlled"]["low"] <= row["controlled"]["high"] <= 1 for row in rows)
    assert all("at equal length" in line for line in said)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert np.shape(scores["held-out"]["letters"]["policy"]) == (5, 2)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for part in (
        "Length and form",
        "KL, nats a text",
        "Feature distance",
        "the text that letters prefers",
        "Held-out p",
    ):
        assert part in page
    assert page.count('class="exhibit broad text"') == 10


def test_what_was_measured_is_what_the_texts_say(recipe, tmp_path):
    model = pc.load(recipe.policy)
    made = judging(recipe, tmp_path, CountsLetters())
    base = made.sample(model, silent)
    unmoved = made.result(base, base, tmp_path, None, model)
    assert unmoved.drift.word_distance == 0
    assert unmoved.drift.kl.nats == 0
    assert unmoved.diversity.space == "words"
    assert {row.win.rate for row in unmoved.evidence} == {row.controlled.rate for row in unmoved.evidence} == {0.5}
    policy = made.sample(pushed(model), silent)
    moved = made.result(base, policy, tmp_path, None, model)
    assert moved.drift.word_distance > 0.3
    assert moved.drift.kl.nats > 0.1
    assert made.result(base, policy, tmp_path, None).drift.kl is None
    tokens = [len(sample.tokens) for sample in policy[-1].samples]
    assert moved.form.tokens.after == pytest.approx(np.mean(tokens))


def sheets(*texts: str) -> list[Sheet]:
    prompts = tuple(Prompt(text=f"prompt {i}") for i in range(len(texts) // 2))
    samples = tuple(Completion(text=text, tokens=(1,) * max(1, len(text)), finished=True) for text in texts)
    return [Sheet(captions="held-out", prompts=prompts, seeds=2, samples=samples, modality="text")]


def test_a_policy_that_says_one_thing_to_everybody_has_collapsed(recipe, tmp_path):
    made = judging(recipe, tmp_path, CountsLetters())
    base = sheets(*(f"{a} {b}" for a in ("red fox", "old owl", "big dog") for b in ("runs home", "sleeps there")))
    policy = sheets(*["yes of course"] * 6)
    names = [alarm.name for alarm in made.result(base, policy, tmp_path, None).alarms]
    assert "diversity collapse" in names
    # a base that says one thing to each has no diversity to lose
    assert "diversity collapse" not in [a.name for a in made.result(policy, policy, tmp_path, None).alarms]


def test_a_judge_of_length_is_seen_through(recipe, tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 60, size=80)
    more = lengths + rng.integers(-10, 30, size=80)
    made = judging(recipe, tmp_path, CountsLetters())
    found = made.result(sheets(*("x" * n for n in lengths)), sheets(*("x" * n for n in more)), tmp_path, None)
    (row,) = found.evidence
    assert row.win.better
    assert not row.controlled.better
    assert {"length bias", "length drift"} <= {alarm.name for alarm in found.alarms}


def test_a_verifier_is_called_one_and_cannot_be_taken_in_by_length(recipe, tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(json.dumps({"prompt": f"prompt {i}", "answer": "1"}) for i in range(40)))
    address = f"exact-match:{answers}"
    asked = replace(recipe, evaluation=replace(recipe.evaluation, judges=("vader", address)))
    made = Judging.of(asked, trained(recipe), tmp_path / "cache")
    assert [role for _, role in made.judges.values()] == ["held out", "verifier"]
    base, policy = sheets(*["a long way to a wrong answer: 2"] * 80), sheets(*["1"] * 60, *["no: 2"] * 20)
    found = made.result(base, policy, tmp_path, None)
    taste, right = found.evidence
    assert (right.win.rate, right.controlled, right.independent) == (0.875, None, True)
    assert taste.controlled is not None
    assert "length bias" not in [alarm.name for alarm in found.alarms]
    assert verdict("dto", "base", [right]).sentence.startswith("dto is better than base: the verifier exact-match")


def test_a_verifier_that_a_recipe_trained_against_stays_so(recipe, tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"prompt": "prompt 0", "answer": "1"}))
    spec = replace(recipe.evaluation, trained_against=(f"exact-match:{answers}",))
    made = Judging.of(replace(recipe, evaluation=spec), trained(recipe), tmp_path / "cache")
    assert [role for _, role in made.judges.values()] == ["held out", "trained against"]
