"""Stable Audio: what the transformer is told is what its own pipeline tells it, and it learns from preferences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from model_fixtures import Recorder, assert_same_arguments, train_a_little
from music_fixtures import noise
from torch.testing import assert_close

import penchant
from penchant.errors import ModelError
from penchant.feedback.sound import Sound
from penchant.likelihoods import Diffusion, FlowMatching, gaussian
from penchant.models.blank import blank
from penchant.models.stable_audio import StableAudio, cosine_powers
from penchant.objectives import DPO, MaPO, RankDPO
from penchant.references import AdapterOff
from penchant.sampling import ode
from penchant.testing import build
from penchant.types import CandidateBatch, ObjectiveInputs

PROMPTS = ["rain on a tin roof", "two dogs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build("stable-audio", tmp_path_factory.mktemp("audio") / "tiny")


@pytest.fixture(scope="module")
def shared(folder) -> StableAudio:
    return penchant.load(folder)


def batch_of(model: StableAudio, *, K: int = 2) -> CandidateBatch:
    """Two groups of K sounds, the first preferred."""
    sounds = [noise(0.016, channels=2, seed=i) for i in range(2 * K)]
    latents = model.encode_sounds(sounds, ids=[str(i) for i in range(2 * K)])["latents"]
    return CandidateBatch(
        group_ids=("g0", "g1"),
        sample_ids=tuple(tuple(f"s{b}{k}" for k in range(K)) for b in range(2)),
        prompts=tuple(PROMPTS),
        candidates={"latents": latents.unflatten(0, (2, K))},
        condition=model.encode_prompts(PROMPTS),
        scores_BK=torch.arange(K, 0, -1.0).repeat(2, 1) / K,
        mask_BK=torch.ones(2, K, dtype=torch.bool),
    )


# --- the process ---------------------------------------------------------------------------------------------------


def test_noise_and_time_are_those_of_the_schedulers_preconditioning(shared) -> None:
    """diffusers walks x = x0 + sigma eps; its Euler solver shares the preconditioning with Stable Audio's."""
    from diffusers import EDMEulerScheduler

    theirs = EDMEulerScheduler(sigma_data=1.0, prediction_type="v_prediction")
    rng = torch.Generator().manual_seed(0)
    x0, eps, answer = (torch.randn(2, 4, 16, generator=rng, dtype=torch.float64) for _ in range(3))
    for i in (4, 100, 499, 900, 998):
        t = (i + 1) / 1000
        sigma = torch.tensor(math.tan(math.pi * t / 2), dtype=torch.float64)
        assert float(sigma.atan() / math.pi * 2) == pytest.approx(t, abs=1e-12)  # what the scheduler tells of sigma
        a, s = gaussian.ddpm_coefficients(cosine_powers(), torch.tensor([i, i]))
        noisy = gaussian.add_noise(x0, eps, a, s)
        wide = x0 + sigma * eps
        assert_close(theirs.precondition_inputs(wide, sigma), noisy, rtol=1e-9, atol=1e-9)
        data, _ = gaussian.to_data_and_noise(answer, noisy, a, s, "v_prediction")
        assert_close(theirs.precondition_outputs(wide, answer, sigma), data, rtol=1e-9, atol=1e-9)


def test_the_schedulers_own_time_is_ours() -> None:
    """With torchsde at hand, the class itself is asked."""
    pytest.importorskip("torchsde")
    from diffusers import CosineDPMSolverMultistepScheduler

    scheduler = CosineDPMSolverMultistepScheduler()
    scheduler.set_timesteps(20)
    sigma = scheduler.sigmas[:-1].double()
    assert_close((math.pi / 2 * scheduler.timesteps.double()).tan(), sigma, rtol=2e-3, atol=0)


def test_the_transformer_is_told_the_time_of_its_timestep(shared) -> None:
    recorder = Recorder(shared.bare)
    condition = shared.encode_prompts(PROMPTS)
    shared.denoise(torch.randn(2, 4, 16), torch.tensor([0, 999]), condition, {})
    recorder.handle.remove()
    assert_close(recorder.calls[0][0]["timestep"], torch.tensor([0.001, 1.0]))
    assert shared.prediction == "v_prediction"
    assert shared.alphas_cumprod[-1] == 0
    assert_close(shared.alphas_cumprod[499], torch.tensor(0.5, dtype=torch.float64))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_conditions_are_those_of_the_stock_pipeline(folder, guidance) -> None:
    from diffusers import EDMEulerScheduler, StableAudioPipeline

    model = penchant.load(folder, seconds=0.01)
    # Its time is not Stable Audio's, but conditions do not depend on it; its own solver needs torchsde.
    stock = StableAudioPipeline(**{**model.pipeline.components, "scheduler": EDMEulerScheduler(sigma_data=1.0)})
    stock.set_progress_bar_config(disable=True)
    recorder = Recorder(model.bare)
    stock(PROMPTS, num_inference_steps=1, guidance_scale=guidance, output_type="latent", **model.size_options())
    theirs = recorder.calls[-1][0]
    condition = model.encode_prompts(PROMPTS)
    if guidance > 1:
        null = {k: v.expand_as(condition[k]) for k, v in model.unconditional().items()}
        assert {*null} == {"prompt_embeds"}
        condition = {k: torch.cat([{**condition, **null}[k], v]) for k, v in condition.items()}
    noisy = theirs["hidden_states"]
    model.denoise(noisy, torch.zeros(len(noisy), dtype=torch.long), condition, {})
    ours = recorder.calls[-1][0]
    recorder.handle.remove()
    for arguments in (ours, theirs):
        del arguments["timestep"]
    assert_same_arguments(ours, theirs)


def test_a_transformer_that_knows_the_truth_is_led_to_it_and_scores_zero(shared, monkeypatch) -> None:
    batch = batch_of(shared)
    truth = batch.candidates["latents"][:, 0]

    def denoise(noisy_N, time_N, condition, candidates):
        a, s = (c[:, None, None] for c in gaussian.ddpm_coefficients(shared.alphas_cumprod.float(), time_N))
        eps = (noisy_N - a * truth) / s
        return a * eps - s * truth

    monkeypatch.setattr(shared, "denoise", denoise)
    options = {"generator": [torch.Generator().manual_seed(i) for i in range(2)], "num_inference_steps": 7}
    assert_close(shared.sample_latents(PROMPTS, 3.0, options), truth, rtol=0, atol=1e-4)
    likelihood = Diffusion(timestep_range=(50, 1000))
    first = batch.only_candidate(0)
    found = likelihood.log_prob(shared, first, likelihood.draw(first, seed=0, epoch=0))
    assert found.step_BKT.abs().max() < 1e-6


def test_sampling_is_the_common_solver(shared) -> None:
    options = {"generator": [torch.Generator().manual_seed(i) for i in (3, 4)], "num_inference_steps": 5}
    ours = shared.sample_latents(PROMPTS, 2.5, options)
    start = ode.start_noise((4, 16), [3, 4])
    assert_close(ours, ode.integrate(shared, start, shared.encode_prompts(PROMPTS), steps=5, guidance=2.5))


# --- sounds --------------------------------------------------------------------------------------------------------


def test_a_sound_depends_on_its_prompt_and_seed_and_not_on_its_batch(shared) -> None:
    options = {"steps": 3, "guidance": 2.0}
    together = shared.generate([*PROMPTS, PROMPTS[0]], seeds=[1, 2, 2], batch_size=3, **options)
    assert [(s.samples.shape, s.rate) for s in together] == [((2, 128), 8000)] * 3
    for sound, prompt, seed in zip(together, [*PROMPTS, PROMPTS[0]], [1, 2, 2], strict=True):
        (alone,) = shared.generate([prompt], seeds=[seed], **options)
        np.testing.assert_allclose(alone.samples, sound.samples, rtol=1e-4, atol=1e-5)
    assert np.abs(together[1].samples - together[2].samples).max() > 1e-5


def test_latents_are_the_vaes_with_silence_behind(folder, shared) -> None:
    model = penchant.load(folder, seconds=0.01)
    sound = noise(0.016, channels=2)
    latents = model.encode_sounds([sound], ids=["a"])["latents"]
    wave = torch.from_numpy(sound.samples.copy())
    wave[:, 80:] = 0
    mean = model.pipeline.vae.encode(wave[None]).latent_dist.mean
    whole = shared.encode_sounds([Sound(samples=wave.numpy(), rate=8000)], ids=["a"])["latents"]
    assert torch.equal(latents, whole)
    assert (latents - mean).abs().max() > 0
    assert not torch.equal(latents, shared.encode_sounds([sound], ids=["a"])["latents"])
    assert model.generate(["x"], seeds=[0], steps=1)[0].samples.shape == (2, 80)
    assert model.notes() == []
    model.encode_sounds([noise(0.006)], ids=["b"])
    assert model.notes() == ["1 sounds were shorter than 0.01 s: silence was put behind them"]


def test_a_flip_swaps_the_sides_and_ids_count_the_noise(shared) -> None:
    sound = noise(0.016, channels=2)
    other = Sound(samples=sound.samples[::-1].copy(), rate=8000)
    flipped = shared.encode_sounds([sound], ids=["a"], flips=[True])["latents"]
    assert torch.equal(flipped, shared.encode_sounds([other], ids=["a"])["latents"])
    assert not torch.equal(flipped, shared.encode_sounds([other], ids=["b"])["latents"])
    assert blank(shared)["latents"].shape == (1, 4, 16)


def test_impossible_wishes_are_refused(folder) -> None:
    with pytest.raises(ModelError, match="longer than its latents"):
        penchant.load(folder, seconds=1.0)
    with pytest.raises(ModelError, match="music token models alone"):
        penchant.load(folder, guidance=3.0)
    with pytest.raises(ModelError, match="makes sounds"):
        penchant.load(folder, resolution=512)
    model = penchant.load(folder)
    with pytest.raises(ModelError, match="cannot be taken"):
        model.generate(["x"], seeds=[0], steps=1001)


def test_a_folder_of_another_process_is_refused(folder, tmp_path) -> None:
    import json
    import shutil

    wrong = shutil.copytree(folder, tmp_path / "wrong")
    file = wrong / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": "epsilon"}))
    with pytest.raises(ModelError, match="predicts epsilon"):
        penchant.load(wrong)


# --- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [DPO(beta=100.0), MaPO(), RankDPO(beta=100.0)], ids=["dpo", "mapo", "rankdpo"])
def test_a_step_of_each_method_lowers_its_loss(folder, objective) -> None:
    model = penchant.load(folder, lora=4, lora_alpha=8.0)
    likelihood = Diffusion(prediction="v_prediction", caption_dropout=0.5)
    batch = batch_of(model, K=3 if isinstance(objective, RankDPO) else 2)
    draw = likelihood.draw(batch, seed=0, epoch=0)
    reference = AdapterOff().log_prob(likelihood, model, batch, draw) if objective.needs.reference else None

    def loss() -> torch.Tensor:
        policy = likelihood.log_prob(model, batch, draw)
        given = ObjectiveInputs(policy=policy, reference=reference, scores_BK=batch.scores_BK, mask_BK=batch.mask_BK)
        return objective(given).loss

    before = loss()
    if isinstance(objective, DPO):
        assert before.item() == pytest.approx(math.log(2), abs=1e-6)
    before.backward()
    torch.optim.SGD(model.trainable_parameters(), lr=1e-2).step()
    assert loss().item() < before.item()


def test_a_flow_likelihood_is_refused(shared) -> None:
    batch, wrong = batch_of(shared), FlowMatching()
    with pytest.raises(ModelError, match="is no"):
        wrong.log_prob(shared, batch, wrong.draw(batch, seed=0, epoch=0))


def test_an_adapter_goes_through_a_peft_folder_into_the_stock_transformer(folder, shared, tmp_path) -> None:
    from diffusers import StableAudioDiTModel
    from peft import PeftModel

    given = torch.randn(2, 4, 16), torch.tensor([10, 900]), shared.encode_prompts(PROMPTS), {}
    model = penchant.load(folder, lora=4, lora_alpha=8.0)
    with torch.no_grad():
        assert torch.equal(model.denoise(*given), shared.denoise(*given))
        assert model.fingerprint(adapters=False) == shared.fingerprint() != model.fingerprint()
        train_a_little(model)
        model.save(tmp_path)
        expected = model.denoise(*given)
        assert (expected - shared.denoise(*given)).abs().max() > 1e-3
        again = penchant.load(folder, adapter=str(tmp_path))
        assert torch.equal(again.denoise(*given), expected)
        assert again.fingerprint() == model.fingerprint()
        stock = StableAudioDiTModel.from_pretrained(folder / "transformer")
        again.module = PeftModel.from_pretrained(stock, tmp_path)
        assert torch.equal(again.denoise(*given), expected)
    names = [n for n, p in model.bare.named_parameters() if p.requires_grad]
    assert names
    assert all(".lora_" in n for n in names)
    assert len(penchant.load(folder, adapter=str(tmp_path)).trainable_parameters()) == len(names)


def test_an_adapter_of_another_model_is_refused(folder, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    penchant.load(folder, lora=2).save(tmp_path)
    with pytest.raises(ModelError, match="holds no adapter_model"):
        penchant.load(folder, adapter=str(tmp_path.parent))
    file = tmp_path / "adapter_model.safetensors"
    save_file({name.replace("blocks.0", "blocks.9"): value for name, value in load_file(file).items()}, file)
    with pytest.raises(ModelError, match="of another model"):
        penchant.load(folder, adapter=str(tmp_path))


def test_all_weights_and_the_schedulers_settings_survive_save_and_reload(folder, shared, tmp_path) -> None:
    import json

    model = penchant.load(folder)
    train_a_little(model)
    model.save(tmp_path)
    again = penchant.load(tmp_path)
    assert again.fingerprint() == model.fingerprint() != shared.fingerprint()
    assert again.encoder_fingerprint() == model.encoder_fingerprint()
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "CosineDPMSolverMultistepScheduler"]
    config = json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())
    assert (config["sigma_min"], config["sigma_max"], config["sigma_data"]) == (0.3, 500, 1.0)
    # With torchsde the stock pipeline comes back whole; without, with everything but its solver.
    from diffusers import StableAudioPipeline
    from diffusers.utils import is_torchsde_available

    options = {} if is_torchsde_available() else {"scheduler": None}
    stock = StableAudioPipeline.from_pretrained(tmp_path, **options)
    for name, value in model.bare.state_dict().items():
        assert torch.equal(stock.transformer.state_dict()[name], value)


def test_lower_precision_keeps_what_trains_and_the_vae_in_float32(folder, shared) -> None:
    given = torch.randn(2, 4, 16), torch.tensor([10, 900]), shared.encode_prompts(PROMPTS), {}
    for options in ({}, {"lora": 2}):
        model = penchant.load(folder, dtype="bfloat16", **options)
        assert {p.dtype for p in model.trainable_parameters()} == {torch.float32}
        assert model.pipeline.vae.dtype == torch.float32
        prediction = model.denoise(*given)
        assert prediction.dtype == torch.float32
        with torch.no_grad():
            difference = (prediction - shared.denoise(*given)).abs().max() / prediction.abs().max()
        assert 0 < float(difference) < 0.1
        assert len(model.generate(["x"], seeds=[0], steps=2)) == 1


def test_gradient_checkpointing_leaves_gradients_as_they_are(folder) -> None:
    gradients = []
    for on in (False, True):
        model = penchant.load(folder, lora=2, gradient_checkpointing=on)
        train_a_little(model)
        model.module.train()
        noisy = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))
        given = noisy, torch.tensor([10, 900]), model.encode_prompts(PROMPTS), {}
        model.denoise(*given).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.trainable_parameters()]))
    assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)
