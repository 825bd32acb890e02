"""Every family: what goes in and out of the adapter is what its own pipeline would give the denoiser."""

from __future__ import annotations

import pytest
import torch
from model_fixtures import RESOLUTION, Recorder, assert_same_arguments, rows, train_a_little

import penchant
from penchant.models.flux import unpack
from penchant.models.images import frame
from penchant.models.latents import posterior_noise

PROMPTS = ["a red cat", "two dogs", "an old tree", "rain"]
SEEDS = [3, 1, 4, 1]


def test_predictions_have_the_shape_of_the_latents(shared, pictures):
    model = shared
    latents, time, condition, candidates = rows(model, pictures)
    assert latents.shape == (3, 4, 16, 16)
    assert latents.dtype == torch.float32
    assert all(len(value) == 3 for value in [*condition.values(), *candidates.values()])
    prediction = model.denoise(latents, time, condition, candidates)
    assert prediction.shape == latents.shape
    assert prediction.requires_grad


def test_the_empty_prompt_fits_the_others(shared):
    model = shared
    condition, empty = model.encode_prompts(["a red cat"]), model.unconditional()
    assert {k: v.shape for k, v in empty.items()} == {k: v.shape for k, v in condition.items()}
    assert model.unconditional() is empty


def test_denoise_gives_the_module_what_the_pipeline_gives_it(shared, family):
    model = shared
    recorder = Recorder(model.bare)
    model.generate(PROMPTS[:2], seeds=SEEDS[:2], steps=3, guidance=3.5 if family == "flux" else 1.0)
    scheduler = model.pipeline.scheduler
    flow = model.prediction == "velocity"
    times = scheduler.sigmas[:3] if flow else scheduler.timesteps
    side = (float(RESOLUTION), float(RESOLUTION))
    ids = torch.tensor([[*side, 0, 0, *side]] * 2)
    for time, (theirs, answer) in zip(times, recorder.calls[:3], strict=True):
        noisy = theirs.get("sample", theirs.get("hidden_states"))
        if family == "flux":
            noisy, answer = unpack(noisy, 16, 16), unpack(answer, 16, 16)
        with torch.no_grad():
            prediction = model.denoise(
                noisy,
                time.expand(2) if flow else time.long().expand(2),
                model.encode_prompts(PROMPTS[:2]),
                {"time_ids": ids} if family == "stable-diffusion-xl" else {},
            )
        ours = recorder.calls[-1][0]
        assert_same_arguments(ours, theirs)
        torch.testing.assert_close(prediction, answer, rtol=0, atol=2e-6)
    recorder.handle.remove()


def test_a_picture_does_not_depend_on_its_batch(shared):
    model = shared
    options = {"steps": 3, "guidance": 4.0}
    together = _latents(model, PROMPTS, SEEDS, batch_size=4, **options)
    alone = torch.cat([_latents(model, [p], [s], batch_size=1, **options) for p, s in zip(PROMPTS, SEEDS, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (together[1] - together[3]).abs().max() > 1e-4  # same seed, another prompt


def _latents(model, prompts, seeds, **options) -> torch.Tensor:
    seen = []
    original = model.decode_latents
    model.decode_latents = lambda latents: seen.append(latents) or original(latents)
    try:
        model.generate(prompts, seeds=seeds, **options)
    finally:
        del model.decode_latents
    return torch.cat(seen)


def test_generate_is_the_stock_pipeline(shared, folder, family):
    from diffusers import DiffusionPipeline

    model, stock = shared, DiffusionPipeline.from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    ours = model.generate(["a red cat"], seeds=[5], steps=2, guidance=3.0)[0]
    theirs = stock(
        "a red cat",
        generator=torch.Generator().manual_seed(5),
        num_inference_steps=2,
        guidance_scale=3.0,
        height=RESOLUTION,
        width=RESOLUTION,
    ).images[0]
    assert ours.tobytes() == theirs.tobytes()


def test_guidance_of_one_asks_the_model_once_a_step(shared, family):
    model = shared
    recorder = Recorder(model.bare)
    model.generate(["x"], seeds=[0], steps=2, guidance=1.0)
    assert [len(answer) for _, answer in recorder.calls] == [1, 1]
    if family != "flux":  # its guidance is an embedding
        model.generate(["x"], seeds=[0], steps=1, guidance=2.0)
        assert len(recorder.calls[-1][1]) == 2
    recorder.handle.remove()


def test_all_weights_survive_save_and_reload(load, tmp_path):
    from diffusers import DiffusionPipeline

    model = load()
    train_a_little(model)
    model.save(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path, use_safetensors=True)
    assert _sampled(again).sub(_sampled(model.pipeline)).abs().max() == 0.0
    assert penchant.load(str(tmp_path), resolution=RESOLUTION).fingerprint() == model.fingerprint()
    assert not [f for f in tmp_path.rglob("*") if f.suffix in (".bin", ".pt", ".ckpt")]


def test_an_adapter_survives_save_and_reload_with_its_scale(load, folder, tmp_path):
    from diffusers import DiffusionPipeline

    model = load(lora=4, lora_alpha=8.0)
    untrained = _sampled(model.pipeline)
    train_a_little(model)
    model.save(tmp_path)
    trained = _sampled(model.pipeline)
    assert (trained - untrained).abs().max() > 1e-4

    stock = DiffusionPipeline.from_pretrained(folder)
    stock.load_lora_weights(tmp_path)
    assert _sampled(stock).sub(trained).abs().max() == 0.0

    continued = load(adapter=str(tmp_path))
    assert _sampled(continued.pipeline).sub(trained).abs().max() == 0.0
    assert continued.fingerprint() == model.fingerprint()
    assert load(lora=4, lora_alpha=4.0).fingerprint() != load(lora=4, lora_alpha=8.0).fingerprint()
    assert sum(p.numel() for p in continued.trainable_parameters()) == sum(
        p.numel() for p in model.trainable_parameters()
    )


def _sampled(pipeline) -> torch.Tensor:
    # Weights read from a file lie in memory as the file has them, and kernels may sum those in another order.
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                parameter.data = parameter.data.clone()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        "a red cat",
        generator=torch.Generator().manual_seed(0),
        num_inference_steps=2,
        height=RESOLUTION,
        width=RESOLUTION,
        output_type="latent",
    ).images


def test_a_new_adapter_changes_nothing_and_is_the_same_in_every_load(folder, shared, pictures):
    base, loaded = shared, []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        loaded.append(penchant.load(str(folder), resolution=RESOLUTION, lora=4))
        assert torch.equal(torch.get_rng_state(), before)
    first, second = loaded
    assert first.fingerprint() == second.fingerprint() != base.fingerprint()
    assert first.fingerprint(adapters=False) == base.fingerprint(adapters=False) == base.fingerprint()
    given = rows(base, pictures)
    with torch.no_grad():
        assert torch.equal(first.denoise(*given), base.denoise(*given))


def test_only_the_adapter_trains(load):
    model = load(lora=2)
    names = [n for n, p in model.bare.named_parameters() if p.requires_grad]
    assert names
    assert all(".lora_" in n for n in names)
    parts = [v for v in model.pipeline.components.values() if isinstance(v, torch.nn.Module) and v is not model.bare]
    assert not any(p.requires_grad for part in parts for p in part.parameters())
    assert not any(part.training for part in parts)


def test_latents_are_a_function_of_the_picture_and_its_id(shared, pictures):
    model = shared
    torch.manual_seed(1)
    together = model.encode_images(pictures, ids=["a", "b", "c"])["latents"]
    torch.manual_seed(2)
    alone = model.encode_images(pictures[1:2], ids=["b"])["latents"]
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(alone, model.encode_images(pictures[1:2], ids=["other"])["latents"])
    assert not torch.equal(alone, model.encode_images(pictures[1:2], ids=["b"], seed=1)["latents"])


def test_latents_are_scaled_as_the_pipeline_unscales_them(shared, pictures):
    """Encode is (mean + std * noise - shift) * scale; decode undoes it."""
    model = shared
    vae = model.pipeline.vae
    pixels, _ = frame(pictures[0], RESOLUTION)
    with torch.no_grad():
        posterior = vae.encode(pixels[None]).latent_dist
    latents = model.encode_images(pictures[:1], ids=["a"])["latents"]
    unscaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    noise = posterior_noise(latents.shape, seed=0, name="a")
    assert abs(float(noise.mean())) < 0.1
    assert abs(float(noise.std()) - 1) < 0.1
    torch.testing.assert_close(unscaled, posterior.mean + posterior.std * noise, rtol=1e-5, atol=1e-5)
    (image,) = model.decode_latents(latents)
    expected = model.pipeline.image_processor.postprocess(vae.decode(unscaled).sample.detach(), output_type="pil")[0]
    assert image.tobytes() == expected.tobytes()


@pytest.mark.parametrize("family", ["stable-diffusion-xl", "flux"])
def test_lower_precision_keeps_trained_weights_in_float32(load, shared, pictures):
    exact = shared
    for options in ({}, {"lora": 2}):
        model = load(dtype="bfloat16", **options)
        assert {p.dtype for p in model.trainable_parameters()} == {torch.float32}
        assert model.pipeline.vae.dtype == torch.float32
        given = rows(exact, pictures)
        prediction = model.denoise(*given)
        assert prediction.dtype == torch.float32
        prediction.square().mean().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.trainable_parameters())
        with torch.no_grad():
            difference = (prediction - exact.denoise(*given)).abs().max() / prediction.abs().max()
        assert 0 < float(difference) < 0.05
        assert len(model.generate(["x"], seeds=[0], steps=1)) == 1


def test_gradient_checkpointing_leaves_gradients_as_they_are(load, pictures):
    gradients = []
    for on in (False, True):
        model = load(lora=2, gradient_checkpointing=on)
        train_a_little(model)
        model.module.train()
        model.denoise(*rows(model, pictures)).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.trainable_parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


def test_sampling_gives_back_the_training_mode(load):
    model = load()
    model.module.train()
    model.generate(["x"], seeds=[0], steps=1)
    assert model.bare.training


def test_a_frozen_copy_stays_behind(load, pictures):
    model = load()
    given = rows(model, pictures)
    with torch.no_grad():
        before = model.denoise(*given)
        twin = model.frozen_copy()
        assert torch.equal(twin.denoise(*given), before)
        train_a_little(model)
        assert torch.equal(twin.denoise(*given), before)
        assert not torch.equal(model.denoise(*given), before)
    assert twin.trainable_parameters() == []
    assert twin.pipeline is model.pipeline
    assert twin.fingerprint() != model.fingerprint()
    assert twin.encoder_fingerprint() == model.encoder_fingerprint()
