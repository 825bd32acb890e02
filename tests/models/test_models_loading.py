"""Which folders load, which are refused, and what the refusal says to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import penchant
from penchant.errors import ModelError
from penchant.models import Policy
from penchant.testing import build


@pytest.fixture
def sd15(folders, tmp_path) -> Path:
    return Path(shutil.copytree(folders["stable-diffusion"], tmp_path / "sd15"))


def test_a_missing_folder_says_what_a_path_may_be(tmp_path):
    with pytest.raises(ModelError, match=r"no such folder.*zoo:NAME"):
        penchant.load(str(tmp_path / "nothing"))


def test_an_unreachable_hub_id_is_said_plainly(monkeypatch):
    with pytest.raises(ModelError, match="could not be read from the hub"):
        penchant.load("nobody/no-such-model-here")


def test_a_folder_without_an_index_is_no_pipeline(tmp_path):
    with pytest.raises(ModelError, match=r"no model_index\.json"):
        penchant.load(str(tmp_path))
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(ModelError, match="safetensors"):
        penchant.load(str(tmp_path))
    with pytest.raises(ModelError, match="safetensors"):
        penchant.load(str(tmp_path / "model.ckpt"))


def test_an_unknown_pipeline_class_names_the_nearest(sd15):
    index = json.loads((sd15 / "model_index.json").read_text())
    (sd15 / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionXLPipe"}))
    with pytest.raises(ModelError, match="did you mean 'StableDiffusionXLPipeline'"):
        penchant.load(str(sd15))
    assert penchant.load(str(sd15), family="stable-diffusion").prediction == "epsilon"


def test_an_unknown_family_or_option_names_the_nearest(sd15):
    with pytest.raises(ModelError, match="did you mean 'stable-diffusion-3'"):
        penchant.load(str(sd15), family="stable-diffusion-4")
    with pytest.raises(ModelError, match="did you mean 'lora_alpha'"):
        penchant.load(str(sd15), lora_alpa=3)
    with pytest.raises(ModelError, match="did you mean 'to_q'"):
        penchant.load(str(sd15), lora=2, lora_targets=("to_qq",))
    with pytest.raises(ModelError, match="holds no model_index"):
        penchant.load(str(sd15 / "unet"))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickled_weights_are_never_opened(sd15, part):
    for weights in (sd15 / part).glob("*.safetensors"):
        weights.unlink()
    torch.save({}, sd15 / part / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pickled weights.*convert the weights to safetensors"):
        penchant.load(str(sd15))


def test_pickles_beside_safetensors_are_ignored(sd15):
    (sd15 / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"not even a pickle")
    penchant.load(str(sd15))


def test_a_resolution_must_fit_the_latents(folders):
    with pytest.raises(ModelError, match=r"no multiple of 4.*use 32"):
        penchant.load(str(folders["stable-diffusion-3"]), resolution=34)


def test_a_policy_is_a_value():
    assert Policy(path="a", lora=4) == Policy(path="a", lora=4)
    with pytest.raises(ModelError, match="unknown dtype"):
        Policy(path="a", dtype="int8")
    with pytest.raises(ModelError, match="brings its own rank"):
        Policy(path="a", lora=4, adapter="b")


def test_a_loaded_model_remembers_its_spec(sd15):
    assert penchant.load(str(sd15), lora=2).spec == Policy(path=str(sd15), lora=2)


def test_a_folder_without_lora_weights_is_no_adapter(sd15, tmp_path):
    with pytest.raises(ModelError, match=r"holds no pytorch_lora_weights\.safetensors"):
        penchant.load(str(sd15), adapter=str(tmp_path))


def test_an_adapter_of_another_model_is_refused(folders, sd15, tmp_path):
    penchant.load(str(folders["flux"]), lora=2, resolution=32).save(tmp_path / "lora")
    with pytest.raises(ModelError, match="another model"):
        penchant.load(str(sd15), adapter=str(tmp_path / "lora"))


def test_another_vae_can_be_put_in(folders, sd15):
    other = build("stable-diffusion", sd15.parent / "other", seed=1)
    plain, swapped = penchant.load(str(sd15)), penchant.load(str(sd15), vae_path=str(other))
    assert swapped.fingerprint() == plain.fingerprint()
    assert swapped.encoder_fingerprint() != plain.encoder_fingerprint()
    assert penchant.load(str(sd15), vae_path=str(other / "vae")).encoder_fingerprint() == swapped.encoder_fingerprint()


def test_zoo_names_are_resolved_by_the_zoo(sd15, monkeypatch):
    from penchant import assets

    monkeypatch.setattr(assets, "path", lambda name: {"tiny": sd15}[name])
    assert penchant.load("zoo:tiny").prediction == "epsilon"


def test_the_spec_costs_no_heavy_import():
    code = "import sys, penchant.models; assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tiny_pipelines_are_a_function_of_their_seed(folders, tmp_path):
    again = build("stable-diffusion", tmp_path / "a")
    other = build("stable-diffusion", tmp_path / "b", seed=1)
    expected = penchant.load(str(folders["stable-diffusion"])).fingerprint()
    assert penchant.load(str(again)).fingerprint() == expected != penchant.load(str(other)).fingerprint()
    with pytest.raises(ModelError, match="did you mean 'flux'"):
        build("fluks", tmp_path / "c")


def test_prompts_pool_at_their_end(folders):
    """The stand-in tokenizer gives CLIP an end token that it finds: what follows the end does not count."""
    pipeline = penchant.load(str(folders["stable-diffusion-xl"])).pipeline
    ids = pipeline.tokenizer_2(["ab", "ab longer"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    assert ids.eq(3).sum(1).tolist() == [1, 1]
    assert ids.eq(3).int().argmax(1).tolist() == [3, 10]
    with torch.no_grad():
        hidden = pipeline.text_encoder_2.text_model(ids)
    torch.testing.assert_close(hidden.pooler_output[0], hidden.last_hidden_state[0, 3])
