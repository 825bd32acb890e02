"""Measures of motion mean what they say, on real clips and on known translations."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from PIL import Image

from clip_fixtures import pan, shuffled, still, zoom
from penchant.errors import ModelError
from penchant.feedback.clip import Clip
from penchant.judges import load
from penchant.judges.motion import FLOOR, SIDE, motion

NAMES = ("dynamic-degree", "smoothness", "steadiness")
REAL = [clip for k in range(10) for clip in (pan(k), zoom(k), pan(k, side=64, step=3))]


def drifting(side: int = 64, step: tuple[int, int] = (2, 0), frames: int = 7, fps: float = 6.0) -> Clip:
    """Texture everywhere that moves by (right, down) pixels a frame, around a torus."""
    small = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))
    moved = [np.roll(picture, (i * step[1], i * step[0]), (0, 1)) for i in range(frames)]
    return Clip(frames=np.stack(moved), fps=fps)


@pytest.mark.parametrize("side", [32, 64, 128])
@pytest.mark.parametrize("step", [(1, 0), (2, 0), (0, -2), (3, 1)])
def test_a_known_translation_has_the_known_dynamic_degree(side, step):
    found = motion(drifting(side, step))
    assert found.dynamic_degree == pytest.approx(np.hypot(*step) / side * 6.0, rel=0.02)
    assert found.smoothness > 0.98
    assert found.steadiness > 0.99


def test_the_flow_is_brought_to_the_shorter_side():
    square = drifting(64)
    wide = Clip(frames=np.concatenate([square.frames, square.frames], axis=2), fps=6.0)
    assert motion(wide).dynamic_degree == pytest.approx(motion(square).dynamic_degree, rel=0.02)


def test_twice_the_rate_is_twice_the_dynamic_degree_and_as_smooth():
    slow, fast = drifting(fps=6.0), drifting(fps=12.0)
    assert motion(fast).dynamic_degree == pytest.approx(2 * motion(slow).dynamic_degree)
    assert motion(fast).smoothness == motion(slow).smoothness


def test_a_frozen_clip_does_not_move_and_is_smooth_and_steady():
    found = motion(still())
    assert (found.dynamic_degree, found.smoothness, found.steadiness) == (0.0, 1.0, 1.0)


def test_shuffled_frames_are_rougher_and_less_steady_on_every_real_clip():
    pairs = [(motion(clip), motion(shuffled(clip, seed))) for seed, clip in enumerate(REAL)]
    assert all(real.smoothness > mixed.smoothness + 0.2 for real, mixed in pairs)
    assert all(real.steadiness > mixed.steadiness for real, mixed in pairs)


def test_flicker_is_no_motion_but_is_not_steady():
    clip = drifting()
    light = clip.frames * np.where(np.arange(len(clip)) % 2, 0.8, 1.0)[:, None, None, None]
    flickering = Clip(frames=light.astype(np.uint8), fps=clip.fps)
    assert motion(flickering).steadiness < motion(clip).steadiness - 0.05


def test_jitter_is_rougher_than_a_drift_of_the_same_speed():
    picture, at = drifting().frames[0], [0, 2, 0, 2, 0, 2, 0]
    jitter = Clip(frames=np.stack([np.roll(picture, x, 1) for x in at]), fps=6.0)
    assert motion(jitter).dynamic_degree == pytest.approx(motion(drifting()).dynamic_degree, rel=0.05)
    assert motion(jitter).smoothness < 0.1


def test_the_smoothness_worked_by_hand():
    # Speeds of 1 and 3 pixels at side 64: flows of 1 and 3, a change of 2.
    picture = drifting().frames[0]
    clip = Clip(frames=np.stack([np.roll(picture, x, 1) for x in (0, 1, 4)]), fps=6.0)
    assert motion(clip).smoothness == pytest.approx(1 - 2 / (1 + 3 + 2 * FLOOR), abs=0.02)
    assert SIDE == 64


@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips_have_measures_too(frames):
    clip = drifting(frames=frames)
    assert motion(clip).smoothness == 1.0
    assert (motion(clip).dynamic_degree > 0) == (frames == 2)


@pytest.mark.parametrize("name", NAMES)
def test_a_judge_gives_one_row_a_clip_whatever_stands_beside_it(name):
    judge = load(name)
    clips = [pan(), zoom(1), still()]
    together = judge.score(["a", "b", "c"], clips)
    assert together.shape == (3, 1)
    assert np.array_equal(together, np.concatenate([judge.score(["another"], [clip]) for clip in clips]))
    assert judge.score([], []).shape == (0, 1)
    assert (judge.name, len(judge.dimensions)) == (name, 1)


@pytest.mark.parametrize("name", NAMES)
def test_there_are_no_weights_to_load(name):
    with pytest.raises(ModelError, match="name the judge alone"):
        load(f"{name}:somewhere")


@pytest.mark.parametrize("name", NAMES)
def test_without_opencv_the_remedy_is_named(name, monkeypatch):
    real = builtins.__import__

    def missing(wanted, *args, **kwargs):
        if wanted == "cv2":
            raise ImportError(wanted)
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ModelError, match=r"pip install 'penchant\[video\]'"):
        load(name)
