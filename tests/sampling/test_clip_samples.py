"""Kept clips: drawn once, lossless, never mistaken for clips of another size or rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import penchant
from clip_fixtures import pan, still
from penchant.errors import MediaError
from penchant.feedback.groups import Prompt
from penchant.models import Policy
from penchant.recipe import Evaluation
from penchant.sampling.codecs import ClipCodec
from penchant.sampling.samplers import ClipSampler, PictureSampler, sampler_of
from penchant.sampling.samples import SampleCache
from penchant.testing import build
from penchant.testing.video import BUILDERS, SIZES, save

PROMPTS, SEEDS = [Prompt(text="a cat"), Prompt(text="a dog"), Prompt(text="a cat")], [0, 0, 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save(BUILDERS["wan"](0), tmp_path_factory.mktemp("wan"), size=SIZES["wan"])


@pytest.fixture(scope="module")
def model(folder):
    return penchant.load(folder)


@pytest.mark.parametrize("clip", [pan(), still(), pan(fps=24000 / 1001)])
def test_the_codec_keeps_every_bit(clip):
    back = ClipCodec().decode(ClipCodec().encode(clip))
    assert np.array_equal(back.frames, clip.frames)
    assert back.fps == clip.fps


def test_a_video_model_draws_clips_and_an_image_model_pictures(model, tmp_path):
    spec = Evaluation(steps=3, guidance=1.5, batch_size=2)
    assert sampler_of(model, spec) == ClipSampler(model=model, steps=3, guidance=1.5, batch_size=2)
    other = penchant.load(build("stable-diffusion", tmp_path))
    assert sampler_of(other, spec) == PictureSampler(model=other, steps=3, guidance=1.5, batch_size=2)


def test_a_clip_is_drawn_once_and_comes_back_bit_for_bit(model, tmp_path):
    sampler = ClipSampler(model=model, steps=1, guidance=1.0, batch_size=2)
    drawn = sampler.draw(PROMPTS, SEEDS)
    cache = SampleCache(tmp_path)
    kept = cache.sample(sampler, PROMPTS, SEEDS)
    assert {path.suffix for path in tmp_path.iterdir()} == {".apng"}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = cache.sample(sampler, PROMPTS, SEEDS)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
    for a, b, c in zip(drawn, kept, again, strict=True):
        assert np.array_equal(b.frames, c.frames)
        assert np.abs(a.frames.astype(int) - b.frames).max() <= 1  # batches of another size
    size = model.clip_size
    assert kept[0].frames.shape == (size.frames, size.height, size.width, 3)
    assert kept[0].fps == size.fps


def test_another_size_or_rate_or_setting_is_another_sample(folder, model):
    plain = ClipSampler(model=model, steps=1, guidance=1.0)
    spec, size = Policy(path=str(folder)), model.clip_size
    others = [
        ClipSampler(model=penchant.load(replace(spec, frames=size.frames - 4)), steps=1, guidance=1.0),
        ClipSampler(model=penchant.load(replace(spec, fps=size.fps + 1)), steps=1, guidance=1.0),
        replace(plain, steps=2),
        replace(plain, guidance=2.0),
    ]
    assert len({sampler.name() for sampler in (plain, *others)}) == 5
    assert replace(plain, batch_size=1).name() == plain.name()


def test_a_damaged_clip_is_named(model, tmp_path):
    sampler = ClipSampler(model=model, steps=1, guidance=1.0)
    SampleCache(tmp_path).sample(sampler, PROMPTS[:1], [0])
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"no clip")
    with pytest.raises(MediaError, match=file.name):
        SampleCache(tmp_path).sample(sampler, PROMPTS[:1], [0])
