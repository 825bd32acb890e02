"""What spoils clips spoils what it says, and simulated annotators follow their published rule."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from penchant.feedback.video_files import clip_of
from penchant.zoo.clips import annotated, corruptions
from penchant.zoo.clips.annotators import ANNOTATORS, judge, preference, rating
from penchant.zoo.clips.data import Footage, motion
from penchant.zoo.emoji.data import split_of


def disc(hue: int, length: int = 18) -> np.ndarray:
    """A coloured disc that goes round, [F, 32, 32, 3]."""
    frames = np.full((length, 32, 32, 3), 255, np.uint8)
    down, right = np.mgrid[:32, :32]
    for index in range(length):
        angle = 2 * np.pi * index / length
        inside = (down - 16 - 7 * np.sin(angle)) ** 2 + (right - 16 - 7 * np.cos(angle)) ** 2 < 49
        frames[index][inside] = np.roll([230, 120, 20], hue)
    return frames


FRAMES = disc(0, 9)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


@pytest.mark.parametrize("kind", corruptions.VISUAL)
def test_a_visual_corruption_hurts_the_picture_more_at_every_level(kind):
    changes = [
        difference(corruptions.apply(corruptions.VISUAL, kind, FRAMES, level, rng()), FRAMES) for level in range(5)
    ]
    assert changes[0] == 0
    assert all(a < b for a, b in pairwise(changes))


@pytest.mark.parametrize("kind", corruptions.VISUAL)
def test_a_visual_corruption_leaves_still_what_was_still(kind):
    still = np.repeat(FRAMES[:1], 9, 0)
    assert motion(corruptions.VISUAL[kind](still, 4, rng())) == 0


@pytest.mark.parametrize("kind", ["shuffle", "freeze", "stutter"])
def test_a_corruption_of_motion_shows_only_frames_that_were_there(kind):
    for level in range(1, 5):
        spoilt = corruptions.MOTION[kind](FRAMES, level, rng())
        assert len(spoilt) == 9
        assert difference(spoilt, FRAMES) > 0
        assert all(any(np.array_equal(frame, own) for own in FRAMES) for frame in spoilt)


def test_shuffling_keeps_every_frame_once():
    for seed in range(20):
        spoilt = corruptions.shuffle(FRAMES, 2, np.random.default_rng(seed))
        assert sorted(f.tobytes() for f in spoilt) == sorted(f.tobytes() for f in FRAMES)
        assert not np.array_equal(spoilt, FRAMES)


def test_freezing_takes_motion_away_until_nothing_moves():
    moved = [motion(corruptions.apply(corruptions.MOTION, "freeze", FRAMES, level, rng())) for level in range(5)]
    assert all(a > b for a, b in pairwise(moved))
    assert moved[4] == 0


def test_shaking_displaces_further_at_every_level():
    still = np.repeat(FRAMES[:1], 9, 0)
    moved = [motion(corruptions.apply(corruptions.MOTION, "shake", still, level, rng())) for level in range(5)]
    assert moved[0] == 0
    assert all(a < b for a, b in pairwise(moved))


def test_an_annotator_says_same_up_to_the_threshold():
    assert preference(-1.0, -1.7) == preference(-1.7, -1.0) == "same"
    assert preference(-1.0, -1.8) == "A"
    assert preference(-1.8, -1.0) == "B"


def test_ratings_are_five_without_a_fault_and_one_at_the_worst():
    assert [rating(-float(level)) for level in range(5)] == [5, 4, 3, 2, 1]
    assert rating(2.0) == 5
    assert rating(-9.0) == 1


def test_the_label_is_the_majority_or_the_reviewer_s():
    reviewed = 0
    for seed in range(400):
        verdict = judge(1, 2, np.random.default_rng(seed))
        counts = [verdict.votes.count(name) for name in ("A", "same", "B")]
        assert sum(counts) == ANNOTATORS
        assert verdict.reviewed == (max(counts) == 1)
        assert verdict.reviewed or verdict.votes.count(verdict.label) >= 2
        reviewed += verdict.reviewed
    assert reviewed > 0


def test_the_panel_is_nearly_sure_of_two_levels_and_torn_over_one():
    def share(first: int, second: int, label: str) -> float:
        return float(np.mean([judge(first, second, np.random.default_rng(s)).label == label for s in range(400)]))

    assert share(0, 3, "A") > 0.97
    assert share(3, 0, "B") > 0.97
    assert 0.6 < share(1, 2, "A") < 0.9
    assert share(2, 2, "same") > 0.75


@pytest.fixture(scope="module")
def loops() -> list[Footage]:
    captions = [f"thing {i}" for i in range(60)]
    return [
        Footage(
            caption=caption,
            category=("Food & Drink", "Objects")[i % 2],
            split=split_of(caption),
            codepoint=f"{i}",
            frames=disc(i),
        )
        for i, caption in enumerate(captions)
    ]


@pytest.fixture(scope="module")
def pairs(loops):
    return list(annotated.groups(loops))


def level(candidate, dimension: str) -> int:
    return int(candidate.settings[dimension].split()[-1])


def test_pairs_are_a_function_of_the_footage(loops, pairs):
    again = next(iter(annotated.groups(loops)))
    assert again == pairs[0]


def test_every_dimension_has_a_label_and_ratings_and_both_are_called_simulated(pairs):
    for pair in pairs:
        kinds = [(j.dimension, j.kind, j.source) for j in pair.judgements]
        expected = [
            (d, k, s)
            for d in ("VQ", "MQ", "TA")
            for k, s in (("pair", "simulated:panel"), ("score", "simulated:likert"))
        ]
        assert kinds == expected


def test_labels_follow_the_levels_and_not_the_position(pairs):
    for dimension in annotated.DIMENSIONS:
        clear, first = [], []
        for pair in pairs:
            a, b = (level(c, dimension) for c in pair.candidates)
            (label,) = (j for j in pair.judgements if j.dimension == dimension and j.kind == "pair")
            if abs(a - b) >= 2:
                clear.append((label.values[0] > 0.5) == (a < b) and label.values[0] != 0.5)
            if label.values[0] != 0.5:
                first.append(label.values[0])
        assert np.mean(clear) > 0.95
        assert 0.4 < np.mean(first) < 0.6


def test_no_dimension_tells_another(pairs):
    labels = np.array([[j.values[0] for j in p.judgements if j.kind == "pair"] for p in pairs])
    assert np.abs(np.corrcoef(labels.T) - np.eye(3)).max() < 0.15


def test_a_pair_never_shows_footage_of_another_split(loops, pairs):
    splits = {loop.caption: loop.split for loop in loops}
    for pair in pairs:
        assert pair.split == splits[pair.prompt]
        for candidate in pair.candidates:
            shown = candidate.settings["TA"].rsplit(" ", 1)[0]
            assert splits[shown] == pair.split
            assert (shown == pair.prompt) == (level(candidate, "TA") == 0)


def test_media_are_nine_lossless_frames_at_six_a_second(pairs):
    clip = clip_of(pairs[0].candidates[0])
    assert clip.frames.shape == (9, 32, 32, 3)
    assert clip.fps == 6.0


def test_the_other_windows_of_a_faultless_clip_are_ties(pairs):
    spotless = [p for p in pairs if all(level(c, d) == 0 for c in p.candidates for d in annotated.DIMENSIONS)]
    assert spotless
    for pair in spotless:
        assert pair.candidates[0].id != pair.candidates[1].id
