"""The rules of tunes on melodies whose faults are known."""

from __future__ import annotations

import pytest

from penchant.errors import FeedbackError, ModelError
from penchant.judges import load
from penchant.judges.tune_rules import RANGE, TuneRules
from penchant.models.completion import Completion

JIG = "jig in 6/8, major"
BAR = "N0_6 N4_6 N9_6 N12_6 N9_6 N4_6 |"
END = "N7_6 N5_6 N2_6 N0_18 |"
GOOD = " ".join([BAR] * 7 + [END])


def scored(text, prompt: str = JIG) -> dict[str, float]:
    judge = load("tune-rules")
    return dict(zip(judge.dimensions, judge.score([prompt], [text])[0].tolist(), strict=True))


def test_a_good_tune_has_full_marks():
    assert scored(GOOD) == dict.fromkeys(TuneRules.dimensions, 1.0)


def test_a_pick_up_and_its_complement_are_one_bar():
    text = " ".join(["N-5_6 |", *[BAR] * 7, "N7_6 N5_6 N2_6 N0_12 |"])
    assert scored(text) == dict.fromkeys(TuneRules.dimensions, 1.0)
    # A pick-up without its complement is a bar of its own, and the tune is a sixth of a bar too long.
    late = scored(" ".join(["N-5_6 |", *[BAR] * 7, END]))
    assert late["valid"] == pytest.approx(8 / 9)
    assert late["form"] == pytest.approx(1 - 1 / 48)


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        (" ".join([BAR] * 3 + [END]), "form", 0.5),
        (" ".join([BAR] * 7 + [END] + [BAR] * 4), "form", 0.5),
        (" ".join([BAR] * 20), "form", 0.0),
        (GOOD.removesuffix(" |"), "form", 0.0),
        (GOOD.replace("|", "N0_3 |", 4), "valid", 4 / 8),
        (GOOD.replace("N0_6", "N0_3", 1), "valid", 7 / 8),
        (GOOD.replace("N4_6", "N3_6"), "key", 1 - 14 / 46),
        (GOOD.replace("N0_18", "N7_18"), "tonic", 0.0),
        (GOOD.replace("N0_18", "N12_18"), "tonic", 1.0),
        (GOOD.replace("N0_18", "N12_12 R_6"), "tonic", 1.0),
        ("N0_12 N7_12 N15_12 N7_12 N8_12 |", "leap", 2 / 4),
        ("N0_12 N0_12 N2_12 N2_12 N2_12 |", "repeat", 1 / 4),
        ("N0_12 N4_12 |", "range", 1 - (RANGE[0] - 4) / 12),
        ("N-5_12 N20_12 |", "range", 1 - (25 - RANGE[1]) / 12),
        ("N-20_12 N25_12 |", "range", 0.0),
        ("N0_12 |", "leap", 1.0),
    ],
)
def test_each_fault_costs_in_its_own_dimension(text, dimension, expected):
    assert scored(text)[dimension] == pytest.approx(expected)


def test_the_prompt_says_metre_and_mode():
    assert scored(GOOD, "waltz in 3/4, major")["valid"] == 1.0
    assert scored(GOOD, "reel in 2/2, major")["valid"] == 0.0
    dorian = scored(GOOD, "jig in 6/8, dorian")
    # Seven bars hold two thirds that are not dorian's.
    assert dorian["key"] == pytest.approx(1 - 14 / 46)
    for third, sixth in (("N3_6", "N8_6"), ("N3_6", "N9_6")):
        text = GOOD.replace("N4_6", third).replace("N9_6", sixth)
        assert scored(text, "jig in 6/8, minor")["key"] == 1.0


def test_an_unfinished_tune_has_no_form():
    assert scored(Completion(text=GOOD, finished=True)) == scored(GOOD)
    cut = scored(Completion(text=GOOD, finished=False))
    assert cut.pop("form") == 0.0
    assert set(cut.values()) == {1.0}


@pytest.mark.parametrize("text", ["", "R_12 |", "a merry tune", f"{GOOD} <eos>", GOOD.replace("N4_6", "N4-6", 1)])
def test_what_is_no_tune_scores_nothing(text):
    assert set(scored(text).values()) == {0.0}


def test_what_cannot_be_judged_is_refused():
    judge = load("tune-rules")
    with pytest.raises(FeedbackError, match="no caption"):
        judge.score(["a sad song"], [GOOD])
    with pytest.raises(ModelError, match="reads texts"):
        judge.score([JIG], [3])
    with pytest.raises(ModelError, match="no weights"):
        load("tune-rules:folder")
    assert judge.score([], []).shape == (0, 7)
