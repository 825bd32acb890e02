"""Kept samples: asked for once, never mistaken for another model's or another sampler's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import penchant
from penchant.errors import MediaError
from penchant.feedback.groups import Prompt
from penchant.sampling.samplers import PictureSampler
from penchant.sampling.samples import SampleCache
from penchant.testing import build

PROMPTS, SEEDS = ["a cat", "a dog", "a cat"], [0, 0, 1]


class Counted:
    """Counts the model's calls to its denoiser."""

    def __init__(self, model) -> None:
        self.model, self.calls = model, 0
        model.bare.register_forward_pre_hook(self._count)

    def _count(self, module, inputs) -> None:
        self.calls += 1

    def sample(self, cache: SampleCache, prompts=PROMPTS, seeds=SEEDS, **options) -> tuple[list[np.ndarray], int]:
        """The pictures as arrays, and how often the denoiser was asked for them."""
        before = self.calls
        sampler = PictureSampler(model=self.model, **{"steps": 1, "guidance": 1.0, "batch_size": 2} | options)
        images = cache.sample(sampler, [Prompt(text=prompt) for prompt in prompts], seeds)
        return [np.asarray(image) for image in images], self.calls - before


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build("stable-diffusion", tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def counted(folder) -> Counted:
    return Counted(penchant.load(folder))


def test_a_sample_is_made_once(counted, tmp_path):
    first, asked = counted.sample(SampleCache(tmp_path))
    again, asked_again = counted.sample(SampleCache(tmp_path))
    assert (asked, asked_again) == (2, 0)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[2])


def test_only_what_is_missing_is_sampled(counted, tmp_path):
    whole, _ = counted.sample(SampleCache(tmp_path / "whole"))
    counted.sample(SampleCache(tmp_path / "part"), PROMPTS[:1], SEEDS[:1])
    files = len(list((tmp_path / "part").iterdir()))
    pictures, asked = counted.sample(SampleCache(tmp_path / "part"), batch_size=1)
    assert (files, asked) == (1, 2)
    assert np.abs(pictures[1].astype(int) - whole[1]).max() <= 1
    assert {path.suffix for path in (tmp_path / "part").iterdir()} == {".png"}


def test_other_weights_are_another_model(counted, tmp_path):
    counted.sample(SampleCache(tmp_path))
    with torch.no_grad():
        next(counted.model.bare.parameters()).add_(0.1)
    assert counted.sample(SampleCache(tmp_path))[1] == 2


def test_other_settings_are_another_sample(counted, tmp_path):
    cache = SampleCache(tmp_path)
    counted.sample(cache)
    assert counted.sample(cache, steps=2)[1] > 0
    assert counted.sample(cache, guidance=2.0)[1] > 0


def test_another_scheduler_is_another_sampler(counted, tmp_path):
    from diffusers import EulerDiscreteScheduler

    cache, pipeline = SampleCache(tmp_path), counted.model.pipeline
    counted.sample(cache)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    assert counted.sample(cache)[1] > 0


def test_the_names_of_kept_pictures_are_what_they_always_were(counted, tmp_path):
    """Caches of finished runs stay good: the key is spelt out here, and must not change."""
    counted.sample(SampleCache(tmp_path), ["a cat"], [7], steps=1, guidance=1.5)
    model = counted.model
    name = f"{model.fingerprint()}-{model.encoder_fingerprint()}-{model.sampler()}-1-1.5"
    key = hashlib.blake2b(f"{name}\x1fa cat\x1f7".encode(), digest_size=16).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == [f"{key}.png"]


def test_a_damaged_picture_is_named(counted, tmp_path):
    counted.sample(SampleCache(tmp_path), ["a cat"], [0])
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"no picture")
    with pytest.raises(MediaError, match=file.name):
        counted.sample(SampleCache(tmp_path), ["a cat"], [0])
