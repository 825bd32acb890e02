"""What is particular to one family: conditioning, packing, prediction types, shifts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from model_fixtures import RESOLUTION
from PIL import Image

import penchant
from penchant.errors import ModelError
from penchant.models.flux import TRAIN_GUIDANCE, pack, token_positions, unpack
from penchant.models.images import frame
from penchant.models.latents import denormalise, normalise
from penchant.models.process import flow_process


def test_sdxl_is_told_original_size_crop_and_target_size(folders):
    model = penchant.load(str(folders["stable-diffusion-xl"]))
    wide = Image.new("RGB", (100, 60))  # 60 high; resized to 32 x 53, cut 10 from the left
    ids = model.encode_images([wide, wide], ids=["a", "b"], flips=[False, True])["time_ids"]
    assert ids.tolist() == [[60, 100, 0, 10, 32, 32], [60, 100, 0, 11, 32, 32]]


def test_sdxl_guides_away_from_zeros(folders):
    model = penchant.load(str(folders["stable-diffusion-xl"]))
    assert all(not value.any() for value in model.unconditional().values())
    assert model.encode_prompts([""])["prompt_embeds"].any()


def test_v_prediction_is_read_from_the_scheduler(tmp_path):
    from penchant.testing.pictures import tiny_sd15

    tiny_sd15(prediction_type="v_prediction").save_pretrained(tmp_path)
    model = penchant.load(str(tmp_path))
    assert model.prediction == "v_prediction"
    assert model.resolution == 32


def test_the_schedule_is_stable_diffusions(folders):
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    for name in ("stable-diffusion", "stable-diffusion-xl"):
        model = penchant.load(str(folders[name]))
        assert model.prediction == "epsilon"
        np.testing.assert_allclose(model.alphas_cumprod.numpy(), np.cumprod(1 - betas), rtol=1e-5)


def test_shift_is_the_static_one_or_that_of_the_resolution(folders):
    assert penchant.load(str(folders["stable-diffusion-3"])).shift == 3.0
    flux = str(folders["flux"])
    tokens = (RESOLUTION // 4) ** 2
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    assert penchant.load(flux, resolution=RESOLUTION).shift == pytest.approx(math.exp(mu))
    assert penchant.load(flux).resolution == 256


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_a_dynamic_shift_is_a_static_one(kind):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind)
    k = flow_process(scheduler, tokens=4096).shift
    mu = 1.15
    sigma = np.linspace(0.05, 1.0, 7)
    np.testing.assert_allclose(k * sigma / (1 + (k - 1) * sigma), scheduler.time_shift(mu, 1.0, sigma), rtol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0, 7.0])
def test_a_perfect_velocity_brings_the_sampler_back_to_the_data(shift):
    """velocity = noise - data with sigma 1 = noise is the sign that diffusers' sampler integrates."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(8)
    data, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step(noise - data, t, x, return_dict=False)[0]
    torch.testing.assert_close(x, data, rtol=0, atol=2e-6)


def test_flux_packs_as_its_pipeline_does():
    from diffusers import FluxPipeline

    latents = torch.randn(2, 4, 6, 8)
    packed = pack(latents)
    assert torch.equal(packed, FluxPipeline._pack_latents(latents, 2, 4, 6, 8))
    assert torch.equal(unpack(packed, 6, 8), latents)
    theirs = FluxPipeline._prepare_latent_image_ids(1, 3, 4, torch.device("cpu"), torch.float32)
    assert torch.equal(token_positions(3, 4), theirs)


def test_flux_without_guidance_embedding_is_guided_by_the_empty_prompt(tmp_path):
    from penchant.testing.pictures import tiny_flux

    tiny_flux(guidance_embeds=False).save_pretrained(tmp_path)
    model = penchant.load(str(tmp_path), resolution=RESOLUTION)
    calls = []
    model.bare.register_forward_pre_hook(lambda m, a, k: calls.append(k["guidance"]), with_kwargs=True)
    model.generate(["x"], seeds=[0], steps=1, guidance=1.0)
    assert calls == [None]
    model.generate(["x"], seeds=[0], steps=1, guidance=2.0)
    assert calls == [None] * 3


def test_flux_trains_at_the_guidance_its_pipeline_samples_with(folders):
    import inspect

    from diffusers import FluxPipeline

    assert inspect.signature(FluxPipeline.__call__).parameters["guidance_scale"].default == TRAIN_GUIDANCE


def test_latent_statistics_per_channel_round_trip():
    class Config(dict):
        scaling_factor = 0.5

    z = torch.randn(2, 4, 3, 8, 8)
    config = Config(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0])
    scaled = normalise(z, config)
    torch.testing.assert_close(scaled[:, 1], (z[:, 1] - 0.2) * 0.5 / 2.0)
    torch.testing.assert_close(denormalise(scaled, config), z)


def test_framing_cuts_the_centre_of_the_short_side():
    values = np.zeros((32, 64, 3), np.uint8)
    values[:, :32] = 255
    pixels, framing = frame(Image.fromarray(values), 32)
    assert (framing.original, framing.crop, framing.target) == ((32, 64), (0, 16), (32, 32))
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, :, :16].eq(1).all()
    assert pixels[:, :, 16:].eq(-1).all()
    mirrored, _ = frame(Image.fromarray(values), 32, flip=True)
    assert torch.equal(mirrored, pixels.flip(-1))


def test_transparency_is_laid_on_white():
    pixels, _ = frame(Image.new("RGBA", (40, 40), (0, 0, 0, 0)), 32)
    assert pixels.eq(1).all()


def test_seeds_and_ids_are_counted(folders):
    model = penchant.load(str(folders["stable-diffusion"]))
    with pytest.raises(ModelError, match="2 prompts came with 1 seeds"):
        model.generate(["a", "b"], seeds=[1])
    with pytest.raises(ModelError, match="1 ids"):
        model.encode_images([Image.new("RGB", (8, 8))] * 2, ids=["a"])
