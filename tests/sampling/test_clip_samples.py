"""Kept clips: drawn once, lossless, never mistaken for clips of another size or rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import penchant
from clip_fixtures import pan, still
from penchant.cli import main
from penchant.errors import MediaError
from penchant.evaluate.samples import clip_sheet, contact_sheet, load_samples
from penchant.feedback.groups import Prompt
from penchant.feedback.video_files import decode_clip
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


def test_a_sheet_plays_clips_in_step_and_holds_the_last_frame_of_a_shorter_one():
    long, short = pan(frames=9), pan(1, frames=4)
    sheet = clip_sheet([long, short], ["long", "short"], columns=2, tile=64)
    assert (len(sheet), sheet.fps) == (9, long.fps)
    for i, j in ((0, 0), (3, 3), (8, 3)):
        shown = [Image.fromarray(long.frames[i]), Image.fromarray(short.frames[j])]
        assert np.array_equal(sheet.frames[i], contact_sheet(shown, ["long", "short"], columns=2, tile=64))


def test_sample_writes_clips_and_a_sheet_of_them(folder, model, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["sample", str(folder), "a cat", "a dog", "--steps", "1", "--guidance", "1", "--out", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out.split()[-1] == str(out / "sheet.apng")
    kept = load_samples(out)
    assert [sample.prompt for sample in kept] == ["a cat", "a dog"]
    sheet, _ = decode_clip((out / "sheet.apng").read_bytes())
    expected = clip_sheet([sample.clip for sample in kept], ["a cat", "a dog"], columns=2, tile=128)
    assert np.array_equal(sheet.frames, expected.frames)
    assert sheet.fps == model.clip_size.fps
