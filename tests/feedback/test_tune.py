"""Tunes in words: what is written is read again, and nothing is dropped silently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.errors import FeedbackError
from penchant.feedback.tune import SCALES, Caption, Event, Tune, caption_of, parse

notes = st.builds(lambda p, t: f"N{p}_{t}", st.integers(-99, 99), st.integers(1, 999))
words = st.one_of(notes, st.builds("R_{}".format, st.integers(1, 999)), st.just("|"))
captions = st.builds(
    Caption,
    dance=st.sampled_from(["slip jig", "reel", "tune in the round"]),
    beats=st.integers(1, 99),
    unit=st.sampled_from([1, 2, 4, 8, 16]),
    mode=st.sampled_from(list(SCALES)),
)


@given(st.lists(words))
def test_a_tune_is_written_as_it_was_read(said):
    tune = parse(" ".join(said))
    assert tune.text().split() == said
    assert tune.unread == ()
    assert len(tune.bar_ends) == said.count("|")
    assert len(tune.notes) == sum(word.startswith("N") for word in said)
    assert parse(tune.text()) == tune


@given(st.lists(words))
def test_events_follow_each_other_and_lie_between_their_bar_lines(said):
    tune, tick = parse(" ".join(said)), 0
    for event in tune.events:
        assert event.start == tick
        tick += event.ticks
        assert tune.bar_ends[event.bar - 1] <= event.start if event.bar else True
        assert event.bar == len(tune.bar_ends) or event.start + event.ticks <= tune.bar_ends[event.bar]
    assert tune.ticks == tick


@given(st.lists(st.one_of(words, st.text(min_size=1).filter(lambda t: not any(c.isspace() for c in t)))))
def test_every_word_is_an_event_a_line_or_unread(said):
    given_words = " ".join(said).split()
    tune = parse(" ".join(said))
    assert len(tune.events) + len(tune.bar_ends) + len(tune.unread) == len(given_words)
    assert sorted([*tune.unread, *tune.text().split()]) == sorted(given_words)


@pytest.mark.parametrize(
    "word", ["N0_0", "N0_00", "N0_06", "N-0_6", "N00_6", "N+1_6", "R_0", "R_", "N_6", "N100_6", "N0_1000", "n0_6", "||"]
)
def test_other_spellings_are_unread(word):
    assert parse(f"N0_6 {word} N2_6").unread == (word,)
    assert len(parse(f"N0_6 {word} N2_6").notes) == 2


def test_bars_count_what_follows_the_last_line():
    assert [parse(text).bars for text in ("", "|", "N0_6", "N0_6 |", "N0_6 | R_6", "N0_6 | |")] == [0, 1, 1, 1, 2, 2]
    tune = Tune(events=(Event(pitch=None, start=0, ticks=6, bar=2),), bar_ends=(0, 0, 6))
    assert tune.text() == "| | R_6 |"


@given(captions)
def test_a_caption_is_written_as_it_was_read(caption):
    assert caption_of(caption.text()) == caption
    assert caption.bar * caption.unit == 48 * caption.beats


@pytest.mark.parametrize("text", ["", "jig", "jig in 6/8", "jig in 6/8, blue", "jig in 6/7, major", "in 6/8, major"])
def test_what_is_no_caption_is_refused_with_an_example(text):
    with pytest.raises(FeedbackError, match="jig in 6/8, minor"):
        caption_of(text)


def test_scales_are_the_white_keys_from_their_tonic():
    white = (0, 2, 4, 5, 7, 9, 11)
    for mode, tonic in (("major", 0), ("dorian", 2), ("mixolydian", 7)):
        assert SCALES[mode] == {(step - tonic) % 12 for step in white}
    assert SCALES["minor"] == {(step - 9) % 12 for step in white} | {9, 11}
