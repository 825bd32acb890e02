"""Every video family: what goes in and out of the adapter is what its own pipeline would give the denoiser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_fixtures import Recorder, assert_same_arguments
from video_fixtures import VARIANTS, Tiny, clips, rows

from penchant.models.ltx import pack, unpack

PROMPTS = ["a red cat", "two dogs", "an old tree", ""]
SEEDS = [3, 1, 4, 1]
# Mochi forbids autocast inside its positions, and says so on every CPU.
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("video"))


@pytest.fixture(params=[*VARIANTS])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def shared(tiny, name):
    return tiny.shared(name)


def recorders(model) -> tuple[list, list]:
    """The calls of every denoiser of the pipeline in one list, and what removes the recorders."""
    found = [Recorder(part) for part in model.denoisers().values()]
    for recorder in found[1:]:
        recorder.calls = found[0].calls
    return found[0].calls, [recorder.handle.remove for recorder in found]


def outside(model, tensor: torch.Tensor) -> torch.Tensor:
    """Latents of the pipeline's denoiser as [N, C, f, h, w]."""
    kind = type(model).__name__
    if kind == "LTX":
        return unpack(tensor, (3, 8, 8), 1, 1)
    return tensor.transpose(1, 2) if kind == "CogVideoX" else tensor


def inside(model, latents: torch.Tensor) -> torch.Tensor:
    """The inverse of `outside`."""
    kind = type(model).__name__
    if kind == "LTX":
        return pack(latents, 1, 1)
    return latents.transpose(1, 2) if kind == "CogVideoX" else latents


def embeds_guidance(model) -> bool:
    return type(model).__name__ == "HunyuanVideo"


def test_predictions_have_the_shape_of_the_latents(shared):
    latents, time, condition, candidates = rows(shared)
    assert latents.ndim == 5
    assert latents.dtype == torch.float32
    assert all(len(value) == 3 for value in condition.values())
    prediction = shared.denoise(latents, time, condition, candidates)
    assert prediction.shape == latents.shape
    assert prediction.requires_grad


def test_the_empty_prompt_fits_the_others(shared):
    condition, empty = shared.encode_prompts(["a red cat"]), shared.unconditional()
    assert {k: v.shape for k, v in empty.items()} == {k: v.shape for k, v in condition.items()}
    assert shared.unconditional() is empty


def test_denoise_gives_the_module_what_the_pipeline_gives_it(shared):
    model = shared
    calls, remove = recorders(model)
    # Embedded guidance is trained at the pipeline's default.
    model.generate(PROMPTS[:2], seeds=SEEDS[:2], steps=3, guidance=6.0 if embeds_guidance(model) else 1.0)
    assert len(calls) == 3
    for time, (theirs, answer) in zip(model.pipeline.scheduler.timesteps, calls[:3], strict=True):
        noisy = outside(model, theirs["hidden_states"])
        if model.prediction == "velocity":
            sigma = time / 1000
            time = 1 - sigma if type(model).__name__ == "Mochi" else sigma
        with torch.no_grad():
            prediction = model.denoise(noisy, time.expand(2), model.encode_prompts(PROMPTS[:2]), {})
        ours, mine = calls[-1]
        assert_same_arguments(ours, theirs)
        torch.testing.assert_close(mine, answer, rtol=0, atol=2e-6)
        sign = -1 if type(model).__name__ == "Mochi" else 1
        torch.testing.assert_close(prediction, sign * outside(model, answer), rtol=0, atol=2e-6)
    for each in remove:
        each()


def test_the_truth_denoises_to_the_data(tiny, name):
    """A denoiser that knows data and noise: the pipeline's own sampler brings it to the data, and `denoise` answers
    with the target of the likelihood, so sign, time and packing of the adapter are those of the sampler."""
    model = tiny.load(name)
    generator = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, *rows(model)[0][:1].shape, generator=generator)

    def signal(timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        power = model.alphas_cumprod[timestep[0].long()]
        return power.sqrt(), (1 - power).sqrt()

    def truth(*args, timestep, **kwargs):
        if model.prediction == "velocity":
            answer = data - noise if type(model).__name__ == "Mochi" else noise - data
        else:
            a, s = signal(timestep)
            answer = a * noise - s * data
        return (inside(model, answer),)

    for part in model.denoisers().values():
        part.forward = truth
    options = {"latents": inside(model, noise), "num_inference_steps": 8, "output_type": "latent"}
    with torch.no_grad():
        reached = model.sample_latents(["x"], 1.0, {**options, **model.size_options()})
    torch.testing.assert_close(reached, data, rtol=0, atol=2e-5)

    time = torch.tensor([0.3] if model.prediction == "velocity" else [300])
    answer = model.denoise(noise, time, model.encode_prompts(["x"]), {})
    if model.prediction == "velocity":
        torch.testing.assert_close(answer, noise - data)
    else:
        a, s = signal(time)
        torch.testing.assert_close(answer, a * noise - s * data)


def test_a_clip_does_not_depend_on_its_batch(shared):
    options = {"steps": 3, "guidance": 4.0}
    together = latents_of(shared, PROMPTS, SEEDS, batch_size=4, **options)
    alone = [latents_of(shared, [p], [s], batch_size=1, **options) for p, s in zip(PROMPTS, SEEDS, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert (together[1] - together[3]).abs().max() > 1e-4  # same seed, another prompt


def latents_of(model, prompts, seeds, **options) -> torch.Tensor:
    seen = []
    original = model.decode_latents
    model.decode_latents = lambda latents: seen.append(latents) or original(latents)
    try:
        model.generate(prompts, seeds=seeds, **options)
    finally:
        del model.decode_latents
    return torch.cat(seen)


def test_generate_is_the_stock_pipeline(tiny, name, shared):
    """Down to the pixels: latents are unscaled and decoded as the pipeline does it."""
    from diffusers import DiffusionPipeline

    stock = DiffusionPipeline.from_pretrained(tiny.folder(name))
    stock.set_progress_bar_config(disable=True)
    (ours,) = shared.generate(["a red cat"], seeds=[5], steps=2, guidance=3.0)
    own = {"frame_rate": 6} if type(shared).__name__ == "LTX" else {}
    theirs = stock(
        ["a red cat"],
        generator=[torch.Generator().manual_seed(5)],
        num_inference_steps=2,
        guidance_scale=3.0,
        output_type="np",
        **shared.size_options(),
        **own,
    ).frames[0]
    assert ours.fps == shared.clip_size.fps == 6.0
    assert ours.frames.shape == (shared.clip_size.frames, shared.clip_size.height, shared.clip_size.width, 3)
    assert len(np.unique(ours.frames)) > 20
    assert np.array_equal(ours.frames, (theirs * 255).round().astype(np.uint8))


def test_latents_are_scaled_as_the_pipeline_unscales_them(shared):
    encoded = torch.randn(1, *shared.denormalise(rows(shared)[0][:1]).shape[1:])
    latents = shared.normalise(encoded)
    torch.testing.assert_close(shared.denormalise(latents), encoded, rtol=1e-5, atol=1e-5)
    vae = shared.pipeline.vae
    mean, std, scale = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std", "scaling_factor"))
    if type(shared).__name__ == "LTX":
        mean, std = vae.latents_mean.tolist(), vae.latents_std.tolist()
    mean, std = (torch.tensor(value or [default]).view(1, -1, 1, 1, 1) for value, default in ((mean, 0.0), (std, 1.0)))
    expected = (encoded - mean) * (scale or 1.0) / std
    torch.testing.assert_close(latents[:, :, -encoded.shape[2] :], expected, rtol=1e-5, atol=1e-6)


def test_latents_are_a_function_of_the_clip_and_its_id(shared):
    given = clips()
    together = shared.encode_clips(given, ids=["a", "b", "c"])["latents"]
    alone = shared.encode_clips(given[1:2], ids=["b"])["latents"]
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(alone, shared.encode_clips(given[1:2], ids=["other"])["latents"])
    assert not torch.equal(alone, shared.encode_clips(given[1:2], ids=["b"], seed=1)["latents"])
    assert not torch.equal(alone, shared.encode_clips(given[1:2], ids=["b"], flips=[True])["latents"])
