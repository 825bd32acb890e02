"""What the small networks are told about motion: frozen, shuffled and shaken clips look different in it."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from penchant.reward_models.motion import REACH, motion, width

STILL = (np.log(1e-3) + 5) / 2


def sweep(frames: int, side: int = 16) -> np.ndarray:
    """A soft bar that passes from left to right, a pixel a frame."""
    columns = np.arange(side)[None, None, :, None]
    place = 4 + np.arange(frames)[:, None, None, None]
    bar = 255 * np.exp(-0.5 * ((columns - place) / 2.0) ** 2)
    return np.broadcast_to(bar, (frames, side, side, 3)).astype(np.uint8)


def shifts(features: torch.Tensor, most: int) -> torch.Tensor:
    """Distances from the frame before under every shift, [frames - 1, 5, 5]."""
    return features[1:, most:].reshape(-1, 2 * REACH + 1, 2 * REACH + 1)


def test_a_frozen_clip_is_at_no_distance():
    found = motion(np.repeat(sweep(1), 6, axis=0), 6)
    assert torch.allclose(found[:, :6], torch.full((6, 6), STILL, dtype=torch.float32))


def test_in_a_smooth_clip_neighbours_are_nearest_and_in_a_shuffled_one_they_are_not():
    frames = sweep(6)
    smooth = motion(frames, 6)[:, :6]
    assert all(smooth[0, i] < smooth[0, i + 1] for i in range(5))
    shuffled = motion(frames[[0, 5, 1, 4, 2, 3]], 6)[:, :6]
    assert shuffled[0, 1] > shuffled[0, 2]


def test_a_shaken_clip_is_nearest_at_the_shift_that_undoes_it():
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    frames = np.stack([frame, np.roll(frame, (1, -2), axis=(0, 1))])
    (nearest,) = shifts(motion(frames, 2), 2).flatten(1).argmin(1).tolist()
    assert divmod(nearest, 2 * REACH + 1) == (REACH - 1, REACH + 2)


@given(count=st.integers(1, 6))
def test_what_a_shorter_clip_lacks_is_zero(count):
    found = motion(sweep(6)[:count], 6)
    assert found.shape == (6, width(6))
    assert not found[count:].any()
    assert not found[:count, count:6].any()
    assert torch.equal(found[:count, :count], motion(sweep(6), 6)[:count, :count])
