"""The shipped clip generator is an ordinary pipeline that knows its captions; its card and data say what they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from penchant.assets import path
from penchant.models import load as load_model
from penchant.zoo.clips import footage
from penchant.zoo.clips.data import motion


@pytest.fixture(scope="module")
def model():
    return load_model("zoo:clips")


@pytest.fixture(scope="module")
def loops():
    pytest.importorskip("av")
    return footage.read(path("clips/footage"))


def test_weights_are_safetensors_and_all_of_it_is_small():
    files = [f for f in path("clips").parent.rglob("*") if f.is_file()]
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".txt", ".md", ".webm"}
    assert sum(f.stat().st_size for f in files) < 8e6


def test_the_generator_is_an_ordinary_pipeline(model):
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(path("clips"), torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    options = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": 2, "max_sequence_length": 20}
    seed = {"generator": torch.Generator().manual_seed(3), "guidance_scale": 2.0, "output_type": "np"}
    frames = pipeline("red heart", **options, **seed).frames[0]
    (ours,) = model.generate(["red heart"], seeds=[3], steps=2, guidance=2.0)
    assert ours.frames.shape == (9, 32, 32, 3)
    assert ours.fps == 6.0
    assert np.array_equal(ours.frames, (frames * 255).round().astype(np.uint8))


def test_the_same_prompt_and_seed_give_the_same_bits(model):
    first, again = (model.generate(["tiger face"], seeds=[1], steps=2, guidance=2.0)[0] for _ in range(2))
    (other,) = model.generate(["tiger face"], seeds=[2], steps=2, guidance=2.0)
    assert np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, other.frames)


def test_the_autoencoder_shows_real_clips_again(model, loops):
    from penchant.feedback.clip import Clip

    clips = [Clip(frames=loop.window(0), fps=6.0) for loop in loops[::60]]
    latents = model.encode_clips(clips, ids=[str(i) for i in range(len(clips))])["latents"]
    assert latents.shape == (len(clips), 8, 5, 8, 8)
    back = model.decode_latents(latents)
    errors = [np.abs(a.frames.astype(float) - b.frames).mean() for a, b in zip(clips, back, strict=True)]
    assert np.mean(errors) < 16


def test_footage_is_real_and_moves(loops):
    captions = [loop.caption for loop in loops]
    assert len(set(captions)) == len(captions) == 368
    assert all(motion(loop.frames) > 0 for loop in loops)
    assert {loop.split for loop in loops} == {"train", "validation", "test"}


def test_annotated_pairs_are_made_once_and_alike_every_time(loops, tmp_path, monkeypatch):
    from penchant.feedback import read
    from penchant.zoo.clips import annotated

    monkeypatch.setattr(annotated, "PAIRS", {"train": 0, "validation": 0, "test": 1})
    files = []
    for name in ("a", "b"):
        monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / name))
        files.append(path("clips/annotated"))
        before = files[-1].stat().st_mtime_ns
        assert path("clips/annotated").stat().st_mtime_ns == before
    assert files[0].read_bytes() == files[1].read_bytes()
    groups = read(files[0])
    assert groups.report.bad == 0
    assert {g.prompt for g in groups} == {loop.caption for loop in loops if loop.split == "test"}
    assert {j.source for g in groups for j in g.judgements} == {"simulated:panel", "simulated:likert"}


def test_a_shipped_pair_can_be_drawn_again_without_the_loss_of_the_video(model, tmp_path):
    pytest.importorskip("av")
    from penchant.feedback import read
    from penchant.feedback.shown import sample_of
    from penchant.judges import load
    from penchant.zoo.clips.feedback import redraw

    judge = load("zoo:clips/reward")
    redraw(model, judge, tmp_path, limit=1)
    (anew,) = read(tmp_path)
    (shipped,) = [g for g in read(path("clips/samples")) if g.prompt == anew.prompt]
    assert [(c.seed, c.settings) for c in anew.candidates] == [(c.seed, c.settings) for c in shipped.candidates]
    pairs = [[sample_of(c) for c in group.candidates] for group in (anew, shipped)]
    errors = [np.abs(a.frames.astype(float) - b.frames).mean() for a, b in zip(*pairs, strict=True)]
    assert 0 < max(errors) < 12
    values = {j.dimension: j.values for j in anew.judgements}
    assert np.transpose([values[d] for d in judge.dimensions]) == pytest.approx(
        judge.score([anew.prompt] * 2, pairs[0]), abs=1e-4
    )


def test_prompts_are_captions_that_no_preference_contains():
    captions, prompts = (set(path(f"clips/{name}").read_text().split("\n")) - {""} for name in ("captions", "prompts"))
    assert len(captions) == 293
    assert len(prompts) == 61
    assert not captions & prompts


def test_the_card_says_what_is_simulated_and_how_it_was_made():
    card = (path("clips").parent / "README.md").read_text()
    for words in ("penchant pretrain clips", "simulated", "MIT", "Measured quality", "Not for"):
        assert words in card
