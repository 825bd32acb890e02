"""A thought is cut where a sentence begins with a marker, and nothing of it is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.errors import RecipeError
from penchant.feedback.groups import Prompt
from penchant.thoughts.segmentation import Markers, joined, segment

BARE = Markers(shortest=0)


def words(text: str) -> int:
    return len(text.split())


def texts(thought: str, markers: Markers = BARE) -> list[str]:
    return [piece.text for piece in segment(thought, markers, words)]


def test_a_marker_at_a_sentence_start_begins_a_pattern():
    thought = "Try 7. Wait, 7 is odd. So it is 8.\nAlternatively, halve it. Hmm. But no."
    assert texts(thought) == [
        "Try 7. ",
        "Wait, 7 is odd. ",
        "So it is 8.\n",
        "Alternatively, halve it. ",
        "Hmm. ",
        "But no.",
    ]


@pytest.mark.parametrize(
    "thought",
    ["We wait. Then I said Wait to myself, and So on.", "Sooner or later. Butter is cheap. Waiting helps.", "so. but."],
)
def test_a_marker_within_a_sentence_a_longer_word_or_another_spelling_begins_none(thought):
    assert texts(thought) == [thought]


def test_a_pattern_is_named_by_its_marker_and_a_longer_marker_wins():
    found = segment("2 + 2. Let me double-check that. Let me check it too. Wait. ", BARE, words)
    assert [piece.pattern for piece in found] == ["start", "Let me double-check", "Let me check", "Wait"]


def test_a_thought_that_begins_with_a_marker_has_no_empty_start():
    assert texts("Wait, first. So then.") == ["Wait, first. ", "So then."]
    assert texts("") == []


def test_slivers_join_the_pattern_before_them_and_a_first_one_the_next():
    markers = Markers(shortest=3)
    assert texts("Well. Wait, look at this again. So 4. Hmm. But it was five at first.", markers) == [
        "Well. Wait, look at this again. So 4. Hmm. ",
        "But it was five at first.",
    ]
    assert texts("Well. Wait.", markers) == ["Well. Wait."]


def test_the_thinker_s_traces_are_cut_between_their_patterns():
    from penchant.zoo.thinker.teacher import MARKERS

    thought = "7-2+5=5+5=10. Wait, check: 7-2+5=5+5=10. Alternatively: 4+3+3=4+6=10. "
    assert texts(thought, Markers(words=MARKERS, shortest=0)) == [
        "7-2+5=5+5=10. ",
        "Wait, check: 7-2+5=5+5=10. ",
        "Alternatively: 4+3+3=4+6=10. ",
    ]


_WORDS = st.sampled_from(
    ["Wait", "So", "Hmm", "But", "Let me check", "x", "wait", "7", ".", ". ", "\n", "\n\n", "! ", " "]
)


@given(st.lists(_WORDS, max_size=40).map("".join), st.integers(0, 6))
def test_segments_are_the_thought(thought, shortest):
    found = segment(thought, Markers(shortest=shortest), words)
    assert joined(found) == thought
    assert all(piece.text for piece in found)
    # Only a thought that is a sliver as a whole has a segment below the shortest length.
    assert len(found) == 1 or all(words(piece.text) >= shortest for piece in found)


def test_markers_divide_many_thoughts_and_never_fail():
    found = BARE.divide([(Prompt(text="p"), "A. So b."), (Prompt(text="q"), "c")], words)
    assert [[piece.text for piece in pieces or ()] for pieces in found] == [["A. ", "So b."], ["c"]]


@pytest.mark.parametrize("bad", [{"words": ()}, {"words": (" Wait",)}, {"shortest": -1}])
def test_markers_that_mark_nothing_are_refused(bad):
    with pytest.raises(RecipeError):
        Markers(**bad)
