"""What the loop promises, one sentence a test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loop_fixtures import bad_rows, recipe, write
from safetensors.torch import load_file

from penchant.cli import main
from penchant.errors import RecipeError
from penchant.objectives import DSPO, KTO, SFT, MaPO
from penchant.recipe import Recipe
from penchant.run import align
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


@pytest.mark.parametrize("lora", [0, 2])
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(lora, sd15, pairs, tmp_path, monkeypatch):
    whole = recipe(sd15, pairs, tmp_path / "whole", ema=0.9, steps=5, micro_batch=2, lora=lora)
    align(whole, say=quiet)
    parts = replace(whole, out=str(tmp_path / "parts"))
    assert 0 < align_until(parts, 2, monkeypatch) < 5
    align(parts, resume=True, say=quiet)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


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


def test_an_unfinished_run_is_not_overwritten(sd15, pairs, tmp_path, monkeypatch):
    run = recipe(sd15, pairs, tmp_path / "run")
    align_until(run, 2, monkeypatch)
    with pytest.raises(RecipeError, match="unfinished run"):
        align(run, say=quiet)


def test_resuming_a_finished_run_changes_nothing_and_a_new_start_trains_anew(sd15, pairs, tmp_path):
    run = recipe(sd15, pairs, tmp_path / "run", steps=2)
    align(run, say=quiet)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != ".lock"}
    said: list[str] = []
    again = align(run, resume=True, say=said.append)
    assert "finished run" in said[0]
    assert again.outcome.step == 2
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != ".lock"}
    # A finish that was killed while it removed the checkpoints is still a finish.
    (tmp_path / "run" / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert align(run, resume=True, say=quiet).outcome.step == 2
    assert align(replace(run, seed=1), say=quiet).outcome.step == 2
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_sdxl_mapo_trains_on_a_bad_file_and_refuses_its_bad_rows_by_name(sdxl, tmp_path):
    from diffusers import StableDiffusionXLPipeline

    path = write(tmp_path / "bad.parquet", bad_rows())
    options = f"""--feedback.path {path} --policy.path {sdxl} --policy.vae-path None --policy.resolution 64
                  --steps 3 --batch-size 4 --micro-batch 2 --precision no --out {tmp_path / "run"}"""
    assert main(["align", "sdxl-mapo", *options.split()]) == 0
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2, 3]
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


def test_sd3_flow_dpo_trains_an_adapter_that_diffusers_loads(sd3, tmp_path):
    from diffusers import StableDiffusion3Pipeline

    path = write(tmp_path / "bad.parquet", bad_rows())
    options = f"""--feedback.path {path} --policy.path {sd3} --policy.lora 2 --policy.resolution 32
                  --policy.dtype float32 --steps 2 --batch-size 4 --micro-batch 2 --precision no
                  --out {tmp_path / "run"}"""
    assert main(["align", "sd3-flow-dpo", *options.split()]) == 0
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    pipeline = StableDiffusion3Pipeline.from_pretrained(sd3)
    pipeline.load_lora_weights(str(tmp_path / "run" / "model"))
    assert pipeline.get_active_adapters()
    options = {"num_inference_steps": 2, "height": 32, "width": 32, "output_type": "np"}
    adapted = pipeline("prompt", generator=torch.Generator().manual_seed(0), **options).images
    pipeline.disable_lora()
    plain = pipeline("prompt", generator=torch.Generator().manual_seed(0), **options).images
    assert adapted.shape == (1, 32, 32, 3)
    assert (adapted != plain).any()
