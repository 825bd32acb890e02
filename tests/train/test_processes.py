"""Runs as processes of their own: stopped politely, kept apart, and several for one run."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loop_fixtures import recipe
from safetensors.torch import load_file

from penchant.compatible import reasons
from penchant.errors import RecipeError
from penchant.likelihoods import Autoregressive
from penchant.objectives import DPO, OBJECTIVES
from penchant.recipe_file import to_toml
from penchant.run import align
from penchant.testing import build
from penchant.types import Objective

STEPS = 40


def quiet(text: str) -> None:
    pass


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def recorded(folder: Path) -> list[dict[str, float]]:
    path = folder / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{k: v for k, v in line.items() if k != "groups_per_second"} for line in found]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = (folder / "model").glob("*.safetensors")
    return load_file(file)


def test_sigterm_finishes_the_step_saves_says_how_to_go_on_and_the_end_is_bit_equal(sd15, pairs, tmp_path):
    run = recipe(sd15, pairs, tmp_path / "stopped", steps=STEPS, batch_size=2)
    (tmp_path / "run.toml").write_text(to_toml(run))
    process = start(sys.executable, "-m", "penchant", "align", str(tmp_path / "run.toml"))
    while not recorded(tmp_path / "stopped"):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    with pytest.raises(RecipeError, match="another run is writing here"):
        align(run, resume=True, say=quiet)
    process.send_signal(signal.SIGTERM)
    said, complaint = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, complaint
    assert "Traceback" not in complaint
    done = len(recorded(tmp_path / "stopped"))
    assert 0 < done < STEPS
    assert [path.name for path in (tmp_path / "stopped" / "checkpoints").glob("step-*")] == [f"step-{done:08d}"]

    told = re.search(rf"stopped at step {done}; go on with: penchant (.*)", said)
    assert told is not None, said
    again = start(sys.executable, "-m", "penchant", *shlex.split(told[1]))
    said, complaint = again.communicate(timeout=120)
    assert again.returncode == 0, complaint
    assert f"resumed at step {done}" in said

    align(replace(run, out=str(tmp_path / "whole")), say=quiet)
    assert recorded(tmp_path / "whole") == recorded(tmp_path / "stopped")
    whole, stopped = adapter(tmp_path / "whole"), adapter(tmp_path / "stopped")
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


CHECKED = """
from jaxtyping import install_import_hook
install_import_hook(["penchant.types", "penchant.objectives", "penchant.likelihoods"], "beartype.beartype")
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from loop_fixtures import recipe
from penchant.objectives import OBJECTIVES
from penchant.run import align
for name in sys.argv[6].split():
    make = OBJECTIVES[name]
    for pipeline in sys.argv[2:4]:
        out = Path(sys.argv[5]) / (name + Path(pipeline).name)
        run = recipe(Path(pipeline), Path(sys.argv[4]), out, flow=pipeline.endswith("sd3"), steps=1, micro_batch=2)
        align(replace(run, objective=make()), say=lambda text: None)
        print(name)
"""


@pytest.mark.slow
def test_the_declared_shapes_hold_in_a_run_of_every_objective(sd15, sd3, pairs, tmp_path):
    # In a process of its own: the tests of the objectives hand over what the signatures forbid, to see it refused.
    names = [name for name, o in OBJECTIVES.items() if _learns_from_pictures_in_pairs(o)]
    words = [str(word) for word in (Path(__file__).parent, sd15, sd3, pairs, tmp_path, " ".join(names))]
    done = subprocess.run([sys.executable, "-c", CHECKED, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.split()) == 2 * len(names)


def _learns_from_pictures_in_pairs(objective: type[Objective]) -> bool:
    needs = objective.needs
    return not reasons(objective, "bound") and needs.min_candidates <= 2 and needs.scores != "logit"


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(sd15, pairs, tmp_path):
    # Three groups a step and seven an epoch: shares are uneven, and one process crosses an epoch before the other.
    run = recipe(sd15, pairs, tmp_path / "two", steps=6, batch_size=3, micro_batch=1, ema=0.5)
    (tmp_path / "run.toml").write_text(to_toml(run))
    launch = ["--nproc-per-node", "2", "--master-port", "29512", "-m", "penchant", "align", str(tmp_path / "run.toml")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "torch.distributed.run", *launch]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model: ") == 1
    align(replace(run, out=str(tmp_path / "one")), say=quiet)
    one, two = adapter(tmp_path / "one"), adapter(tmp_path / "two")
    # Sums in another order, through an optimiser that divides by their size: close, not equal.
    assert all(torch.allclose(one[name], two[name], atol=2e-4, rtol=1e-3) for name in one)
    assert recorded(tmp_path / "one")[-1]["grad_norm"] == pytest.approx(
        recorded(tmp_path / "two")[-1]["grad_norm"], rel=1e-2
    )


@pytest.mark.parametrize("lora", [0, 2])
def test_two_processes_take_the_steps_of_one_on_texts(lora, tmp_path):
    folder, texts = build("llama", tmp_path / "llama"), tmp_path / "pairs.jsonl"
    pairs = [{"prompt": f"About {w}.", "chosen": f"I like {w}.", "rejected": f"{w}? No."} for w in "abcdefg"]
    texts.write_text("\n".join(map(json.dumps, pairs)))
    run = replace(
        recipe(folder, texts, tmp_path / "two", lora=lora, steps=4, batch_size=3, micro_batch=1),
        likelihood=Autoregressive(),
        objective=DPO(beta=0.1),
    )
    (tmp_path / "run.toml").write_text(to_toml(run))
    launch = ["--nproc-per-node", "2", "--master-port", f"{29513 + lora}", "-m", "penchant", "align"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "torch.distributed.run", *launch, str(tmp_path / "run.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    align(replace(run, out=str(tmp_path / "one")), say=quiet)
    for one, two in zip(recorded(tmp_path / "one"), recorded(tmp_path / "two"), strict=True):
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-2)


@pytest.mark.slow
def test_a_run_killed_three_times_ends_with_the_bits_of_one_that_was_not():
    script = Path(__file__).parents[2] / "benchmarks" / "kill.py"
    done = subprocess.run([sys.executable, str(script), "--kills", "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout
    assert "bit-equal" in done.stdout
