"""The outward form of texts: length, repetition, endings, and the alarms that they raise."""

from __future__ import annotations

import pytest

from penchant.errors import PenchantError
from penchant.evaluate import Evidence, MeanGain, TextForm, WinRate, find_alarms, text_form
from penchant.evaluate.form import distance, lengths, repetition, text_diversity, words
from penchant.evaluate.length_control import ControlledRate
from penchant.models.completion import Completion


def completion(text: str, *, tokens: int = 4, finished: bool = True) -> Completion:
    return Completion(text=text, tokens=tuple(range(tokens)), finished=finished)


# --- what is counted -----------------------------------------------------------------------------------------------


def test_words_are_split_at_spaces_and_signs_and_unspaced_scripts_by_character():
    assert words("Don't stop: 4+3=7.") == ["don", "'", "t", "stop", ":", "4", "+", "3", "=", "7", "."]
    assert words("これは犬, ok") == ["こ", "れ", "は", "犬", ",", "ok"]
    assert words("") == []


def test_repetition_is_the_share_of_sequences_said_before():
    # 12 words, 9 sequences of four, 4 of them different
    assert repetition("so it goes on " * 3) == pytest.approx(1 - 4 / 9)
    assert repetition("every word of this sentence stands here once") == 0
    assert repetition("too short") == 0


def test_texts_are_as_far_apart_as_they_share_no_words():
    assert distance("a red fox runs", "a red fox runs") == 0
    assert distance("a red fox", "zwei blaue Hunde") == 1
    assert distance("", "") == 0
    # one sentence in two orders shares its words and none of its pairs: 3 of 3 + 2 + 2
    assert distance("a b c", "c b a") == pytest.approx(1 - 3 / 7)


def test_diversity_is_among_the_seeds_of_a_prompt_and_not_between_prompts():
    same = text_diversity(["red fox", "red fox", "blue dog", "blue dog"], seeds=2)
    assert (same.value, same.prompts, same.seeds, same.space) == (0.0, 2, 2, "words")
    other = text_diversity(["red fox", "blue dog", "red fox", "blue dog"], seeds=2)
    assert other.value == 1
    assert text_diversity(["red fox"] * 3 + ["a", "b", "c"], seeds=3).value == 0.5
    with pytest.raises(PenchantError, match="two texts"):
        text_diversity(["a", "b"], seeds=1)


def test_lengths_are_tokens_on_both_sides_or_words_on_both_sides():
    counted, uncounted = [completion("one two", tokens=7)], [Completion(text="one two three", finished=True)]
    assert [side.tolist() for side in lengths(counted, counted)] == [[7.0], [7.0]]
    assert [side.tolist() for side in lengths(counted, uncounted)] == [[2.0], [3.0]]


def test_the_form_of_a_policy_stands_beside_its_bases():
    base = [completion("one two", tokens=3), completion("one", tokens=2)] * 2
    policy = [completion("no " * 8, tokens=9, finished=False), completion("one", tokens=2)] * 2
    form = text_form(policy, base, seeds=2)
    assert form.tokens is not None
    assert (form.tokens.before, form.tokens.after, form.tokens.prompts, form.tokens.seeds) == (2.5, 5.5, 2, 2)
    assert (form.words.before, form.words.after) == (1.5, 4.5)
    assert (form.unfinished.before, form.unfinished.after) == (0.0, 0.5)
    assert (form.repeated.before, form.repeated.after) == (0.0, pytest.approx(0.4))
    unknown = [Completion(text="one", finished=True)] * 4
    assert text_form(unknown, base, seeds=2).tokens is None


# --- alarms ----------------------------------------------------------------------------------------------------------


def gain(before: float, after: float, *, half: float = 0.0) -> MeanGain:
    change = after - before
    return MeanGain(
        before=before, after=after, gain=change, low=change - half, high=change + half, prompts=50, seeds=2, runs=1
    )


def form(**changed: MeanGain) -> TextForm:
    same = {"tokens": gain(100, 100), "words": gain(80, 80), "repeated": gain(0.1, 0.1), "unfinished": gain(0, 0)}
    return TextForm(**{**same, **changed})


def row(rate: float, equal: float, *, half: float = 0.05) -> Evidence:
    win = WinRate(rate=rate, low=rate - half, high=rate + half, prompts=100, seeds=2, runs=1, ties=0.0)
    controlled = ControlledRate(rate=equal, low=equal - half, high=equal + half, slope=1.0, longer=0.8)
    return Evidence(
        policy="DPO",
        judge="kind",
        role="held out",
        captions="held-out",
        win=win,
        gain=gain(0, 1),
        modality="text",
        controlled=controlled,
    )


def raised(found: TextForm) -> list[tuple[str, str]]:
    return [(alarm.name, alarm.severity) for alarm in find_alarms([row(0.7, 0.7)], form=found)]


def test_texts_of_the_bases_form_raise_nothing():
    assert raised(form()) == []


@pytest.mark.parametrize(
    ("length", "severity"),
    [
        (gain(100, 124, half=1), None),
        (gain(100, 130, half=31), None),  # chance over prompts
        (gain(100, 130, half=1), "warning"),
        (gain(100, 200, half=1), "severe"),
        (gain(100, 60, half=1), "notice"),  # shorter may be what was wanted
    ],
)
def test_a_change_of_length_is_named(length, severity):
    assert raised(form(tokens=length)) == ([] if severity is None else [("length drift", severity)])


def test_the_length_is_counted_in_words_where_tokens_are_not_known():
    (alarm,) = find_alarms([row(0.7, 0.7)], form=form(tokens=None, words=gain(80, 120)))
    assert "50.0" in alarm.sentence
    assert "120 words" in alarm.sentence


@pytest.mark.parametrize(
    ("repeated", "severity"),
    [
        (gain(0.4, 0.44), None),
        (gain(0.1, 0.2, half=0.2), None),
        (gain(0.1, 0.2, half=0.01), "warning"),
        (gain(0.1, 0.6, half=0.01), "severe"),
    ],
)
def test_degenerate_repetition_is_named_where_the_base_does_not_repeat_itself(repeated, severity):
    assert raised(form(repeated=repeated)) == ([] if severity is None else [("repetition", severity)])


@pytest.mark.parametrize(
    ("cut", "severity"),
    [(gain(0, 0.1), None), (gain(0.5, 0.5), "notice"), (gain(0.0, 0.3, half=0.1), "warning")],
)
def test_texts_that_are_cut_off_are_named(cut, severity):
    assert raised(form(unfinished=cut)) == ([] if severity is None else [("unfinished texts", severity)])


@pytest.mark.parametrize(
    ("rate", "equal", "named"),
    [(0.7, 0.68, False), (0.7, 0.61, False), (0.7, 0.55, True), (0.7, 0.45, True), (0.53, 0.5, False)],
)
def test_a_lead_that_length_explains_is_named(rate, equal, named):
    names = [alarm.name for alarm in find_alarms([row(rate, equal)])]
    assert names == (["length bias"] if named else [])
