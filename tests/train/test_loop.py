"""What the loop promises, one sentence a test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loop_fixtures import bad_rows, recipe, write
from safetensors.torch import load_file

from penchant.errors import DivergedError, RecipeError
from penchant.models import Policy
from penchant.objectives import DSPO, KTO, SFT, MaPO
from penchant.recipe import Preferences, Recipe
from penchant.recipes import find
from penchant.references import Reference
from penchant.run import align
from penchant.train.checkpoint import load_latest
from penchant.train.guards import StopRequest


def quiet(text: str) -> None:
    pass


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted((folder / "model").rglob("*lora*.safetensors")) or sorted(
        (folder / "model" / "unet").glob("*.safet*")
    )
    return {name: value for file in files for name, value in load_file(file).items()}


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "groups_per_second"} for line in lines]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class StopAfter(StopRequest):
    """A stop request that arrives during step `step`, as a signal would."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    @property
    def signal(self) -> int | None:
        self._left -= 1
        return 15 if self._left < 0 else None

    @signal.setter
    def signal(self, value: int | None) -> None:
        pass


def align_until(run: Recipe, step: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Starts the run and stops it as SIGTERM would; returns the step it saved."""
    import penchant.train.guards as guards

    with monkeypatch.context() as patch:
        patch.setattr(guards, "StopRequest", lambda: StopAfter(step))
        outcome = align(run, say=quiet).outcome
    assert outcome.stopped_by == 15
    return outcome.step


@pytest.mark.parametrize(("flow", "lora"), [(False, 2), (False, 0), (True, 2), (True, 0)])
def test_step_zero_is_ln_2_with_an_adapter_and_with_a_frozen_copy(flow, lora, sd15, sd3, pairs, tmp_path):
    run = recipe(sd3 if flow else sd15, pairs, tmp_path / "run", flow=flow, lora=lora, steps=1)
    align(run, say=quiet)
    assert abs(metrics(tmp_path / "run")[0]["loss"] - torch.log(torch.tensor(2.0)).item()) < 1e-6


@pytest.mark.parametrize("stop", [1, 2, 4, 5])
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(stop, sd15, pairs, tmp_path, monkeypatch):
    whole = recipe(sd15, pairs, tmp_path / "whole", ema=0.9, steps=6, micro_batch=2)
    align(whole, say=quiet)
    parts = replace(whole, out=str(tmp_path / "parts"))
    assert 0 < align_until(parts, stop, monkeypatch) < 6
    align(parts, resume=True, say=quiet)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


def test_a_full_fine_tune_resumes_bit_for_bit_too(sd15, pairs, tmp_path, monkeypatch):
    whole = recipe(sd15, pairs, tmp_path / "whole", lora=0, steps=4)
    align(whole, say=quiet)
    parts = replace(whole, out=str(tmp_path / "parts"))
    align_until(parts, 2, monkeypatch)
    align(parts, resume=True, say=quiet)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_damaged_checkpoint_is_passed_over_and_the_older_one_gives_the_same_end(sd15, pairs, tmp_path, monkeypatch):
    whole = recipe(sd15, pairs, tmp_path / "whole", steps=5, save_every=1)
    align(whole, say=quiet)
    parts = replace(whole, out=str(tmp_path / "parts"))
    align_until(parts, 3, monkeypatch)
    newest = max((tmp_path / "parts" / "checkpoints").glob("step-*"))
    damaged = newest / "tensors.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-5] ^= 1
    damaged.write_bytes(content)
    said: list[str] = []
    align(parts, resume=True, say=said.append)
    assert any("damaged checkpoint" in line for line in said)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_micro_batches_add_up_to_the_whole_batch(sd15, pairs, tmp_path):
    for name, size in (("big", None), ("small", 1)):
        align(recipe(sd15, pairs, tmp_path / name, steps=2, micro_batch=size), say=quiet)
    for big, small in zip(metrics(tmp_path / "big"), metrics(tmp_path / "small"), strict=True):
        assert big["loss"] == pytest.approx(small["loss"], abs=2e-5)
        assert big["grad_norm"] == pytest.approx(small["grad_norm"], rel=1e-3)


def test_one_candidate_at_a_time_gives_the_same_gradient(sd15, pairs, tmp_path):
    for name, one in (("joint", False), ("single", True)):
        align(recipe(sd15, pairs, tmp_path / name, steps=3, by_candidate=one), say=quiet)
    for joint, single in zip(metrics(tmp_path / "joint"), metrics(tmp_path / "single"), strict=True):
        assert joint["grad_norm"] == pytest.approx(single["grad_norm"], rel=1e-3)
        assert joint["loss"] == pytest.approx(single["loss"], abs=2e-5)


def test_a_cached_reference_changes_no_bit_and_serves_the_next_run(sd15, pairs, tmp_path):
    live = recipe(sd15, pairs, tmp_path / "live", steps=4)
    align(live, say=quiet)
    cached = replace(live, out=str(tmp_path / "cached"), reference=Reference(cache=str(tmp_path / "scores.sqlite")))
    align(cached, say=quiet)
    again = replace(cached, out=str(tmp_path / "again"))
    align(again, say=quiet)
    assert same(weights(tmp_path / "live"), weights(tmp_path / "cached"))
    assert same(weights(tmp_path / "live"), weights(tmp_path / "again"))


def test_pictures_and_prompts_are_encoded_once_for_all_runs(sd15, pairs, tmp_path):
    said: list[str] = []
    for name in ("first", "second"):
        align(recipe(sd15, pairs, tmp_path / name, steps=1, flip=True), say=said.append)
    encoded = [line for line in said if line.startswith("encoded")]
    assert encoded[0].startswith("encoded 19 ")
    assert encoded[1].startswith("encoded 0 ")


@pytest.mark.parametrize("objective", [SFT(), MaPO(), DSPO(), KTO(beta=1.0)])
def test_every_kind_of_need_is_served(objective, sd15, pairs, tmp_path):
    run = replace(recipe(sd15, pairs, tmp_path / "run", steps=2), objective=objective)
    align(run, say=quiet)
    assert all(abs(line["loss"]) < 1e4 for line in metrics(tmp_path / "run"))


def test_a_broken_latent_never_reaches_a_parameter_and_the_groups_are_named(sd15, pairs, tmp_path, monkeypatch):
    from penchant.train import encoding

    real = encoding.Encoder.batch

    def broken(self, groups):
        batch = real(self, groups)
        return replace(batch, candidates={"latents": batch.candidates["latents"] * float("nan")})

    monkeypatch.setattr(encoding.Encoder, "batch", broken)
    run = recipe(sd15, pairs, tmp_path / "run", steps=6, bad_steps=2)
    with pytest.raises(DivergedError, match="2 steps in a row"):
        align(run, say=quiet)
    named = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert len(named["groups"]) == 3
    assert load_latest(tmp_path / "run" / "checkpoints") is None


def test_one_bad_step_is_skipped_and_leaves_the_weights_finite(sd15, pairs, tmp_path, monkeypatch):
    from penchant.train import encoding

    real, calls = encoding.Encoder.batch, []

    def sometimes(self, groups):
        calls.append(1)
        batch = real(self, groups)
        factor = float("inf") if len(calls) == 2 else 1.0
        return replace(batch, candidates={"latents": batch.candidates["latents"] * factor})

    monkeypatch.setattr(encoding.Encoder, "batch", sometimes)
    outcome = align(recipe(sd15, pairs, tmp_path / "run", steps=4), say=quiet).outcome
    assert outcome.skipped == 1
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


def test_an_unfinished_run_is_not_overwritten(sd15, pairs, tmp_path, monkeypatch):
    run = recipe(sd15, pairs, tmp_path / "run")
    align_until(run, 2, monkeypatch)
    with pytest.raises(RecipeError, match="unfinished run"):
        align(run, say=quiet)


def test_sdxl_mapo_trains_on_a_bad_file_and_refuses_its_bad_rows_by_name(sdxl, tmp_path):
    from diffusers import StableDiffusionXLPipeline

    path = write(tmp_path / "bad.parquet", bad_rows())
    run = replace(
        find("sdxl-mapo"),
        policy=Policy(path=str(sdxl), resolution=64),
        feedback=Preferences(path=str(path)),
        train=replace(find("sdxl-mapo").train, steps=2, batch_size=4, micro_batch=2, precision="no"),
        out=str(tmp_path / "run"),
    )
    align(run, say=quiet)
    report = json.loads((tmp_path / "run" / "reading.json").read_text())
    refused = report["refused"].values()
    assert report["rows"] == 10 == report["kept"] + sum(reason["count"] for reason in refused)
    assert {(reason["field"], *reason["examples"]) for reason in refused} == {
        ("jpg_0", "3"),
        ("caption", "4"),
        ("label_0", "6"),
    }
    dropped = json.loads((tmp_path / "run" / "selection.json").read_text())["dropped"]
    assert [len(ids) for ids in dropped.values()] == [1]
    pipeline = StableDiffusionXLPipeline.from_pretrained(tmp_path / "run" / "model")
    picture = pipeline("prompt", num_inference_steps=1, height=64, width=64).images[0]
    assert picture.size == (64, 64)


def test_sd3_flow_dpo_trains_an_adapter_that_diffusers_loads(sd3, pairs, tmp_path):
    from diffusers import StableDiffusion3Pipeline

    base = find("sd3-flow-dpo")
    run = replace(
        base,
        policy=replace(base.policy, path=str(sd3), lora=2, resolution=32, dtype="float32"),
        feedback=Preferences(path=str(pairs)),
        train=replace(base.train, steps=2, batch_size=4, precision="no"),
        out=str(tmp_path / "run"),
    )
    align(run, say=quiet)
    pipeline = StableDiffusion3Pipeline.from_pretrained(sd3)
    pipeline.load_lora_weights(str(tmp_path / "run" / "model"))
    assert pipeline.get_active_adapters()


@pytest.mark.slow
def test_a_run_killed_three_times_ends_with_the_bits_of_one_that_was_not():
    import runpy

    path = Path(__file__).parents[2] / "benchmarks" / "kill.py"
    assert runpy.run_path(str(path))["main"](3) == 0
