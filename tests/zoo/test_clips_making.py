"""What `penchant pretrain clips` does, on a few drawn loops and for a few steps: every part is made and loads."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from penchant.zoo.clips import autoencoder, feedback, footage, generator, mosaic, text
from penchant.zoo.clips.data import FPS, Footage
from penchant.zoo.clips.training import Run, Schedule
from penchant.zoo.clips.windows import Loops

CAPTIONS = ["red disc", "green disc", "blue disc", "red bar"]


def loop(caption: str, length: int) -> Footage:
    frames = np.full((length, 32, 32, 3), 255, np.uint8)
    for index in range(length):
        place = 2 + index * 16 // length
        frames[index, place : place + 12, 6:26] = {"red": (255, 0, 0), "green": (0, 200, 0)}.get(
            caption.split()[0], (0, 0, 255)
        )
    return Footage(caption=caption, category="Objects", split="train", codepoint="1f534", frames=frames)


@pytest.fixture(scope="module")
def loops() -> list[Footage]:
    return [loop(caption, length) for caption, length in zip(CAPTIONS, (18, 12, 18, 5), strict=True)]


def test_a_window_goes_round_the_loop(loops):
    short = loops[3]
    assert np.array_equal(short.window(3)[:4], short.frames[[3, 4, 0, 1]])
    windows = Loops.of(loops).windows(torch.tensor([3, 0]), torch.tensor([3, 17]))
    assert np.array_equal(windows[0].numpy(), short.window(3))
    assert np.array_equal(windows[1].numpy(), loops[0].window(17))


def test_every_window_has_its_place(loops):
    indices, starts = Loops.of(loops).places()
    assert len(indices) == 18 + 12 + 18 + 5
    assert set(zip(indices.tolist(), starts.tolist(), strict=True)) == {
        (i, s) for i, one in enumerate(loops) for s in range(len(one.frames))
    }


def test_a_mosaic_keeps_its_tiles_apart_and_in_order(tmp_path):
    pytest.importorskip("av")
    colours = np.linspace(0, 255, 23, dtype=np.uint8)
    clips = np.stack([np.full((3, 32, 32, 3), (c, 255 - c, 128), np.uint8) for c in colours])
    mosaic.write(clips, tmp_path / "m.webm", crf=38)
    back = mosaic.read(tmp_path / "m.webm", clips=23, frames=3)
    assert back.shape == clips.shape
    assert np.abs(back.astype(int) - clips).mean() < 3


def test_footage_comes_back_with_its_captions_and_lengths(loops, tmp_path):
    pytest.importorskip("av")
    footage.write(loops, tmp_path)
    back = footage.read(tmp_path)
    assert [(c.caption, len(c.frames)) for c in back] == [(c.caption, len(c.frames)) for c in loops]
    assert np.abs(back[1].frames.astype(int) - loops[1].frames).mean() < 4


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr("penchant.zoo.clips.training._SAVE_EVERY", 4)
    target = torch.linspace(-1, 1, 8)

    def run(file, steps):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(8))
        training = Run([weight], Schedule(steps=10, lr=0.1, warmup=2), file)

        def loss_of(random):
            if training.step == steps:
                raise KeyboardInterrupt
            return (weight - target + 0.1 * torch.randn(8, generator=random)).square().mean()

        try:
            training.train(loss_of)
        except KeyboardInterrupt:
            return None
        return weight.detach()

    straight = run(tmp_path / "straight.safetensors", None)
    assert run(tmp_path / "stopped.safetensors", 6) is None
    assert torch.equal(run(tmp_path / "stopped.safetensors", None), straight)


def test_the_schedule_warms_up_and_ends_at_zero():
    schedule = Schedule(steps=100, lr=1.0, warmup=10)
    assert schedule.rate(0) == pytest.approx(0.1)
    assert schedule.rate(9) == pytest.approx(1.0)
    assert schedule.rate(55) == pytest.approx(0.5)
    assert schedule.rate(100) == pytest.approx(0.0)


def test_what_the_denoiser_reads_is_zero_behind_the_caption():
    words = text.tokenizer(CAPTIONS)
    ids, mask = text.tokens(words, [*CAPTIONS, ""])
    assert ids.shape == (5, text.WORDS)
    assert ids[4, 0] == words.eos_token_id == 1
    states = text.states(text.encoder().eval(), ids, mask)
    assert (states[mask == 0] == 0).all()
    assert (states[mask == 1].abs().sum(-1) > 0).all()


def test_the_autoencoder_halves_time_after_the_first_frame_and_its_variance_is_fixed():
    torch.manual_seed(0)
    model = autoencoder.autoencoder().eval()
    with torch.no_grad():
        posterior = model.encode(torch.rand(1, 3, 9, 32, 32) * 2 - 1).latent_dist
        decoded = model.decode(posterior.mean).sample
        bare = autoencoder.unclamped(model, posterior.mean)
    assert posterior.mean.shape == (1, 8, 5, 8, 8)
    assert posterior.std.numpy() == pytest.approx(autoencoder.NOISE)
    assert torch.equal(bare.clamp(-1, 1), decoded)


@pytest.fixture(scope="module")
def made(loops, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    few = Schedule(steps=2, lr=1e-3, warmup=1, batch=2)
    budget = generator.Budget(reader=few, rounds=(few, few), denoiser=few, decoder=few)
    results = generator.train(loops, folder / "pipeline", folder / "runs", budget, fused=False)
    return folder, results


def test_the_generator_becomes_an_ordinary_pipeline(made):
    from diffusers import WanPipeline

    folder, results = made
    assert results["denoiser_seconds"] > 0
    pipeline = WanPipeline.from_pretrained(folder / "pipeline", torch_dtype=torch.float32)
    options = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": 1, "max_sequence_length": 20}
    assert pipeline("red disc", output_type="np", **options).frames.shape == (1, 9, 32, 32, 3)
    size = json.loads((folder / "pipeline" / "clip_size.json").read_text())
    assert size == {"height": 32, "width": 32, "frames": 9, "fps": FPS}


def test_latents_are_normalised_by_what_the_pipeline_tells(made, loops):
    from diffusers import AutoencoderKLWan

    folder, _ = made
    vae = AutoencoderKLWan.from_pretrained(folder / "pipeline" / "vae", torch_dtype=torch.float32)
    latents = generator.encode(vae, Loops.of(loops), folder / "again.safetensors")
    assert latents.mean((0, 2, 3, 4)).numpy() == pytest.approx(np.array(vae.config.latents_mean), abs=2e-2)
    assert latents.std((0, 2, 3, 4)).numpy() == pytest.approx(np.array(vae.config.latents_std), rel=5e-2)


class _Painter:
    """A video model that paints a clip's seed and scale: what `feedback.draw` asks of one."""

    def generate(self, prompts, *, seeds, steps, guidance, batch_size):
        from penchant.feedback.clip import Clip

        return [Clip(frames=np.full((9, 32, 32, 3), 20 + int(guidance * 50), np.uint8), fps=FPS) for _ in seeds]


class _Brightness:
    name, dimensions = "brightness", ("VQ", "MQ")

    def score(self, prompts, samples):
        return np.array([[clip.frames.mean() / 25, 0.0] for clip in samples])


def test_samples_are_labelled_by_the_judge_given_and_called_simulated(tmp_path):
    pytest.importorskip("av")
    from penchant.errors import FeedbackError

    feedback.draw(_Painter(), CAPTIONS, tmp_path, steps=1)
    with pytest.raises(FeedbackError, match="no judge has labelled"):
        next(feedback.groups(tmp_path))
    feedback.label(tmp_path, _Brightness())
    pairs = list(feedback.groups(tmp_path))
    assert [p.prompt for p in pairs] == CAPTIONS
    for pair in pairs:
        scales = [c.settings["guidance"] for c in pair.candidates]
        by_name = {j.dimension: j for j in pair.judgements}
        assert list(by_name) == ["VQ", "MQ", "overall"]
        assert {(j.kind, j.source) for j in pair.judgements} == {("score", "simulated:brightness")}
        assert by_name["VQ"].values == pytest.approx([(20 + 50 * scale) / 25 for scale in scales], abs=0.1)
        assert by_name["MQ"].values == (0.0, 0.0)
        assert by_name["overall"].values == pytest.approx([v / 2 for v in by_name["VQ"].values])


def test_halved_weights_score_as_the_whole_ones_do(tmp_path):
    from safetensors.torch import load_file, save_file

    from penchant.assets import path
    from penchant.feedback.clip import Clip
    from penchant.judges import load
    from penchant.zoo.clips import rewards

    whole, half = tmp_path / "whole", tmp_path / "half"
    shutil.copytree(path("clips/reward"), whole)
    # No float16 holds these.
    weights = {name: value.float() * 1.0003 for name, value in load_file(whole / "model.safetensors").items()}
    save_file(weights, whole / "model.safetensors")
    rewards.halve(whole, half)
    rng = np.random.default_rng(0)
    clips = [Clip(frames=rng.integers(0, 256, (9, 32, 32, 3), np.uint8), fps=FPS) for _ in range(4)]
    scores = [load(str(folder)).score(CAPTIONS[:4], clips) for folder in (whole, half)]
    assert np.abs(scores[0] - scores[1]).max() < 2e-3
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.51 * sizes[0]
