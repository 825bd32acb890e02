"""The thinker: a simulated teacher that over-thinks, and the shipped model that learnt it."""

from __future__ import annotations

import random
import string
from itertools import pairwise
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("reasoning_gym")

import penchant
from penchant.zoo.small_language_model import BOS, UNKNOWN
from penchant.zoo.thinker import training
from penchant.zoo.thinker.measure import exits, think
from penchant.zoo.thinker.problems import TERMS, answer_of, problems, split_of, stream, verify
from penchant.zoo.thinker.teacher import ANSWER, CHECK, EXIT, MARKERS, Teacher, result, terms, work


def patterns_of(trace: str) -> list[str]:
    """The thinking patterns of a trace of the teacher, whose sentences they are."""
    return [sentence for sentence in trace.split(". ") if not sentence.startswith(ANSWER)]


@pytest.fixture(scope="module")
def traces() -> list[tuple[int, str]]:
    """(right answer, trace) of 4,000 problems."""
    rng, usual = random.Random(0), stream(TERMS, 0)
    return [(int(p.answer), Teacher().trace(p.expression, rng)) for p, _ in zip(usual, range(4000), strict=False)]


def test_a_trace_adds_up_from_the_left_and_from_the_right():
    rng = random.Random(0)
    assert work("4+3-2+5", 0.0, rng) == "4+3=7, 7-2=5, 5+5=10."
    assert work("4+3-2+5", 0.0, rng, backwards=True) == "-2+5=+3, +3+3=+6, 4+6=10."
    assert work("0-3-9", 0.0, rng, backwards=True) == "-3-9=-12, 0-12=-12."
    once = Teacher(slip=0.0, further=0.0)
    assert once.trace("4+3-2", rng) == "4+3=7, 7-2=5. # 5"


@pytest.mark.parametrize("backwards", [False, True])
def test_every_step_is_wrong_at_the_stated_rate(backwards):
    rng, rate, wrong, steps = random.Random(0), 0.05, 0, 0
    for problem in problems(3000, TERMS, 3):
        for step in work(problem.expression, rate, rng, backwards=backwards).rstrip(".").split(", "):
            left, _, total = step.partition("=")
            wrong += int(total) != sum(map(int, terms(left)))
            steps += 1
    # Five standard deviations of a binomial count.
    assert abs(wrong - steps * rate) < 5 * (steps * rate * (1 - rate)) ** 0.5


def test_a_check_after_a_right_result_hurts_and_after_a_wrong_one_helps(traces):
    after: dict[bool, list[bool]] = {True: [], False: []}
    for truth, trace in traces:
        patterns = patterns_of(trace)
        for before, check in pairwise(patterns):
            if check.startswith(CHECK):
                after[result(before) == truth].append(result(check) == truth)
    assert fmean(after[True]) < fmean(after[False]) - 0.05


def test_whether_the_teacher_thinks_on_does_not_depend_on_what_it_found(traces):
    on: dict[bool, list[bool]] = {True: [], False: []}
    for truth, trace in traces:
        first, *further = patterns_of(trace)
        on[result(first) == truth].append(bool(further))
    assert abs(fmean(on[True]) - fmean(on[False])) < 5 * (0.75 * 0.25 / len(on[False])) ** 0.5
    assert fmean(on[True]) == pytest.approx(Teacher().further, abs=0.03)


def test_thinking_on_makes_the_teacher_worse(traces):
    longer = [(truth, patterns_of(trace)) for truth, trace in traces if len(patterns_of(trace)) > 1]
    first = fmean(result(patterns[0]) == truth for truth, patterns in longer)
    last = fmean(result(patterns[-1]) == truth for truth, patterns in longer)
    assert last < first - 0.05


def test_no_pattern_begins_like_the_answer():
    # Else the model could go on thinking where an exit wants the answer.
    assert ANSWER[0] == EXIT[0] not in {marker[0] for marker in MARKERS}


@settings(deadline=None)
@given(st.text(alphabet=string.digits + string.ascii_letters + string.punctuation + " \n"))
def test_the_tokenizer_gives_texts_back(text):
    words = training.tokenizer()
    ids = words(text, add_special_tokens=False).input_ids
    assert len(ids) == len(text)
    assert UNKNOWN not in ids
    assert words.decode(ids) == text
    assert words(text).input_ids == [BOS, *ids]


def test_the_verifier_says_what_reasoning_gym_says():
    from reasoning_gym.arithmetic.chain_sum import ChainSumConfig, ChainSumDataset

    own = ChainSumDataset(ChainSumConfig(min_terms=2, max_terms=2, seed=0, size=1))
    for problem in problems(50, TERMS, 4):
        assert problem.expression == problem.entry["metadata"]["expression"].replace(" ", "")
        for answer in (problem.answer, f"{int(problem.answer):+d}", str(int(problem.answer) + 1), "", "1 2"):
            assert verify(problem, f"1+1=2. # {answer}") == (own.score_answer(answer, dict(problem.entry)) == 1.0)
    assert not verify(problem, problem.answer)
    assert answer_of("# 3 # 12") == "12"
    assert answer_of("12") is None


def test_problems_of_training_and_test_are_disjoint():
    learnt = {p.prompt for p in problems(3000, TERMS, 0, split="train")}
    held_out = problems(3000, TERMS, 0)
    assert len({p.prompt for p in held_out}) == 3000
    assert learnt.isdisjoint(p.prompt for p in held_out)
    words, budget = training.tokenizer(), training.Budget(batch=8, short_steps=0)
    for ids_BT, _ in training.block(0, budget, words):
        for row in ids_BT:
            assert split_of(words.decode(row, skip_special_tokens=True).partition("=")[0]) == "train"


def test_the_trace_and_its_end_are_learnt_and_nothing_else():
    words = training.tokenizer()
    for ids_BT, learnt_BT in training.block(0, training.Budget(batch=4), words):
        for ids, learnt in zip(ids_BT, learnt_BT, strict=True):
            problem, equals, trace = words.decode(ids, skip_special_tokens=True).partition("=")
            assert words.decode(ids[learnt]) == f"{trace}<eos>"
            assert words.decode(ids[~learnt]).replace("<pad>", "") == f"<bos>{problem}{equals}"


def test_a_stopped_training_goes_on_as_if_never_stopped(tmp_path, monkeypatch):
    brief = {"short_steps": 18, "short_terms": (3, 3), "teacher": Teacher(further=0.0)}
    budget = training.Budget(steps=18, batch=4, warmup=2, save_every=16, **brief)
    training.train(tmp_path / "whole", budget, "cpu")
    made = training.block

    def stops(number, *rest):
        if number:
            raise KeyboardInterrupt
        return made(number, *rest)

    monkeypatch.setattr(training, "block", stops)
    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path / "parts", budget, "cpu")
    monkeypatch.setattr(training, "block", made)
    training.train(tmp_path / "parts", budget, "cpu")
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


@pytest.fixture(scope="module")
def shipped():
    model = penchant.load("zoo:thinker")
    return model, think(model, problems(200, TERMS, 5), seed=1)


def test_the_shipped_model_solves_what_it_never_saw(shipped):
    _, thoughts = shipped
    assert fmean(t.right for t in thoughts) >= 0.55
    assert fmean(len(t.patterns) for t in thoughts) >= 2.0


def test_the_shipped_model_over_thinks(shipped):
    # Stopped after its first pattern it is right more often than after its last, over the same traces.
    model, thoughts = shipped
    curves = [curve for curve in exits(model, thoughts, samples=2) if len(curve) > 1]
    assert fmean(curve[-1] for curve in curves) < fmean(curve[0] for curve in curves) - 0.05


def test_an_exit_answers_at_once(shipped):
    model, thoughts = shipped
    from penchant.feedback.groups import Prompt
    from penchant.models.completion import Decoding

    prompts = [Prompt(text=t.problem.prompt, opening=f"{t.patterns[0]} {EXIT}") for t in thoughts[:64]]
    found = model.complete(prompts, seeds=[0] * len(prompts), decoding=Decoding(max_tokens=6))
    assert fmean(c.finished and c.text.lstrip("-").isdigit() for c in found) > 0.95


def test_the_shipped_folder_is_an_ordinary_transformers_model():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from penchant import assets

    folder = assets.path("thinker")
    model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 6e6
    with torch.no_grad():
        found = model.generate(**words("4+3-2=", return_tensors="pt"), max_new_tokens=10, do_sample=False)
    assert words.decode(found[0, 7:]).startswith("4+3=7, 7-2")
