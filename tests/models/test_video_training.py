"""Every video family trains: weights and adapters come back from their folders, Flow-DPO begins at ln 2 and learns."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from model_fixtures import train_a_little
from video_fixtures import VARIANTS, Tiny, likelihood_of, pairs, rows, sampled

import penchant
from penchant.errors import ModelError
from penchant.likelihoods import Diffusion, FlowMatching
from penchant.objectives import DPO
from penchant.references import AdapterOff
from penchant.types import ObjectiveInputs

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


def test_all_weights_survive_save_and_reload(tiny, name, tmp_path):
    from diffusers import DiffusionPipeline

    model = tiny.load(name)
    train_a_little(model)
    model.save(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path, use_safetensors=True)
    assert sampled(again, model).sub(sampled(model.pipeline, model)).abs().max() == 0.0
    loaded = penchant.load(str(tmp_path))
    assert loaded.fingerprint() == model.fingerprint()
    assert loaded.clip_size == model.clip_size
    assert not [f for f in tmp_path.rglob("*") if f.suffix in (".bin", ".pt", ".ckpt")]


def test_an_adapter_survives_save_and_reload_with_its_scale(tiny, name, tmp_path):
    from diffusers import DiffusionPipeline

    model = tiny.load(name, lora=4, lora_alpha=8.0)
    untrained = sampled(model.pipeline, model)
    train_a_little(model)
    model.save(tmp_path)
    trained = sampled(model.pipeline, model)
    assert (trained - untrained).abs().max() > 1e-4

    stock = DiffusionPipeline.from_pretrained(tiny.folder(name))
    stock.load_lora_weights(tmp_path)
    if name == "wan-experts":
        stock.load_lora_weights(
            tmp_path, weight_name="pytorch_lora_weights_2.safetensors", load_into_transformer_2=True
        )
    assert sampled(stock, model).sub(trained).abs().max() == 0.0

    continued = penchant.load(str(tiny.folder(name)), adapter=str(tmp_path))
    assert sampled(continued.pipeline, model).sub(trained).abs().max() == 0.0
    assert continued.fingerprint() == model.fingerprint()
    counts = [sum(p.numel() for p in m.trainable_parameters()) for m in (continued, model)]
    assert counts[0] == counts[1] > 0


def test_a_new_adapter_changes_nothing(tiny, name, shared):
    model = tiny.shared(name, lora=4, lora_alpha=8.0)
    assert model.fingerprint(adapters=False) == shared.fingerprint() != model.fingerprint()
    given = rows(shared)
    with torch.no_grad():
        assert torch.equal(model.denoise(*given), shared.denoise(*given))
    names = [n for n, p in model.bare.named_parameters() if p.requires_grad]
    assert names
    assert all(".lora_" in n for n in names)


def test_the_likelihood_of_the_other_kind_is_refused(shared):
    wrong = Diffusion() if shared.prediction == "velocity" else FlowMatching()
    batch = pairs(shared)
    with pytest.raises(ModelError, match="is no"):
        wrong.log_prob(shared, batch, wrong.draw(batch, seed=0, epoch=0))


def test_dpo_begins_at_ln_2_and_one_step_lowers_it(tiny, name):
    model = tiny.load(name, lora=4, lora_alpha=8.0)
    likelihood, batch = likelihood_of(model), pairs(model)
    draw = likelihood.draw(batch, seed=0, epoch=0)
    reference = AdapterOff().log_prob(likelihood, model, batch, draw)
    objective = DPO(beta=100.0)

    def loss() -> torch.Tensor:
        policy = likelihood.log_prob(model, batch, draw)
        assert policy.step_BKT.shape == (2, 2, 4)
        assert policy.step_BKT.max() < 0
        given = ObjectiveInputs(policy=policy, reference=reference, scores_BK=batch.scores_BK, mask_BK=batch.mask_BK)
        return objective(given).loss

    before = loss()
    assert before.item() == pytest.approx(math.log(2), abs=1e-7)
    before.backward()
    torch.optim.SGD(model.trainable_parameters(), lr=1e-3).step()
    assert loss().item() < before.item()


def test_gradient_checkpointing_leaves_gradients_as_they_are(tiny, name):
    gradients = []
    for on in (False, True):
        model = tiny.load(name, lora=2, gradient_checkpointing=on)
        train_a_little(model)
        model.module.train()
        model.denoise(*rows(model)).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.trainable_parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


def test_lower_precision_keeps_trained_weights_in_float32(tiny, name, shared):
    for options in ({}, {"lora": 2}):
        model = penchant.load(str(tiny.folder(name)), dtype="bfloat16", **options)
        assert {p.dtype for p in model.trainable_parameters()} == {torch.float32}
        assert model.pipeline.vae.dtype == torch.float32
        given = rows(shared)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prediction = model.denoise(*given)
        assert prediction.dtype == torch.float32
        prediction.square().mean().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.trainable_parameters())
        with torch.no_grad():
            difference = (prediction - shared.denoise(*given)).abs().max() / prediction.abs().max()
        assert 0 < float(difference) < 0.1
        assert len(model.generate(["x"], seeds=[0], steps=2)) == 1


def test_a_frozen_copy_stays_behind(tiny, name):
    model = tiny.load(name)
    given = rows(model)
    with torch.no_grad():
        before = model.denoise(*given)
        twin = model.frozen_copy()
        assert torch.equal(twin.denoise(*given), before)
        train_a_little(model)
        assert torch.equal(twin.denoise(*given), before)
        assert not torch.equal(model.denoise(*given), before)
    assert twin.trainable_parameters() == []
    assert twin.encoder_fingerprint() == model.encoder_fingerprint()
