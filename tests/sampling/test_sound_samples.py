"""Sounds behind the samplers: what music and audio models draw, how it is kept, and how files become candidates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import penchant
from penchant.cli import main
from penchant.errors import ModelError
from penchant.evaluate import load_samples
from penchant.feedback.audio_encoding import encode_sound
from penchant.feedback.groups import Candidate, Media, Prompt
from penchant.feedback.sound import Sound
from penchant.models.completion import Decoding
from penchant.models.music_decoding import MusicDecoding
from penchant.recipe import Evaluation
from penchant.sampling.guided import GuidedSampler
from penchant.sampling.samplers import MusicSampler, SoundSampler, sampler_of
from penchant.sampling.samples import SampleCache
from penchant.testing import build

PROMPTS = [Prompt(text="a lively jig"), Prompt(text="rain")]
SPEC = Evaluation(steps=2, guidance=2.0, decoding=Decoding(temperature=0.9), batch_size=2)


@pytest.fixture(scope="module", params=["musicgen", "stable-audio"])
def model(request: pytest.FixtureRequest, tmp_path_factory):
    return penchant.load(build(request.param, tmp_path_factory.mktemp("sounds") / request.param))


def test_what_is_drawn_comes_back_from_its_file(model, tmp_path) -> None:
    sampler = sampler_of(model, SPEC)
    assert isinstance(sampler, MusicSampler | SoundSampler)
    assert sampler.modality == "sound"
    kept = SampleCache(tmp_path)
    first, second = (kept.sample(sampler, PROMPTS, [1, 2]) for _ in range(2))
    alone = sampler.draw(PROMPTS[:1], [1])
    for one, two in zip(first, second, strict=True):
        assert one.rate == two.rate
        np.testing.assert_array_equal(one.samples, two.samples)
    np.testing.assert_allclose(first[0].samples, alone[0].samples, atol=1e-5)
    assert not np.array_equal(first[0].samples, first[1].samples)
    assert list(tmp_path.rglob("*.wav"))


def test_a_samplers_name_says_how_it_draws(model) -> None:
    names = {sampler_of(model, spec).name() for spec in (SPEC, Evaluation(guidance=1.0), Evaluation())}
    assert len(names) == 3


def test_the_settings_of_music_are_the_evaluations(tmp_path) -> None:
    model = penchant.load(build("musicgen", tmp_path))
    sampler = sampler_of(model, SPEC)
    assert sampler.decoding == MusicDecoding(temperature=0.9, guidance=2.0)
    assert sampler_of(model, Evaluation()).decoding == MusicDecoding(guidance=3.0)


def test_the_common_solver_draws_sounds_too(tmp_path) -> None:
    model = penchant.load(build("stable-audio", tmp_path))
    sampler = GuidedSampler(model=model, steps=2, guidance=2.0, steering=None)
    ours, theirs = sampler.draw(PROMPTS, [1, 2]), sampler_of(model, SPEC).draw(PROMPTS, [1, 2])
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.samples, two.samples, atol=1e-5)
    assert sampler.codec.decode(sampler.codec.encode(ours[0])).rate == 8000


def test_a_file_becomes_what_a_batch_holds(model) -> None:
    rng = np.random.default_rng(0)
    sound = Sound(samples=rng.uniform(-0.5, 0.5, (2, 2000)).astype(np.float32), rate=8000)
    candidate = Candidate(media=Media.of(encode_sound(sound)))
    (found,) = model.encode_candidates([candidate], flips=[False], seed=0)
    if "latents" in found:
        assert torch.equal(found["latents"], model.encode_sounds([sound], ids=[candidate.id])["latents"][0])
    else:
        assert torch.equal(found["tokens"], model.grid_of(model.codec.encode(sound))["tokens"])
        assert int(found["length"]) == found["tokens"].shape[1] == model.frames + 3
    picture = Candidate(media=Media.of(b"\x89PNG\r\n\x1a\n"))
    for wrong in (picture, Candidate(text="words")):
        with pytest.raises(ModelError, match="learns from sounds"):
            model.encode_candidates([wrong], flips=[False], seed=0)


def test_sample_writes_sounds_and_a_page_that_plays_them(tmp_path, capsys) -> None:
    folder, out = build("stable-audio", tmp_path / "model"), tmp_path / "out"
    words = ["sample", str(folder), "rain", "wind", "--seeds", "2", "--steps", "2", "--out", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out.split()[-1] == str(out / "sheet.html")
    kept = [(sample.prompt, sample.seed) for sample in load_samples(out)]
    assert kept == [("rain", 0), ("rain", 1), ("wind", 0), ("wind", 1)]
    page = (out / "sheet.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 2
    # What a model of this size makes is too short to have a loudness, and the page says so in place of four players.
    assert page.count("the sound is too short") == 4


def test_sample_plays_and_draws_tunes_that_are_said_to_be_tunes(tmp_path, capsys) -> None:
    out = tmp_path / "out"
    words = ["sample", "zoo:tunes", "jig in 6/8, major", "--seeds", "2", "--max-tokens", "24", "--out", str(out)]
    assert main([*words, "--notation", "tune"]) == 0
    assert capsys.readouterr().out.split()[-1] == str(out / "sheet.html")
    assert [sample.finished for sample in load_samples(out)] == [False, False]
    page = (out / "sheet.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 1
    assert page.count("<audio") == page.count("no end") == 2
