"""A run that is killed twenty times, while it draws, judges, updates and saves, ends with the bits of one that was not.

Each life is a forked child that kills itself, without a word, at a counted call of one of the four; the next resumes.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from online_fixtures import metrics, quiet, recipe, same, weights

from penchant.recipe import Recipe, Training
from penchant.rollouts.actors import TextActor
from penchant.rollouts.rewards import Purse
from penchant.run import align
from penchant.train import checkpoint
from penchant.train.scoring import Scorer

PLACES: dict[str, tuple[Any, str]] = {
    "drawing": (TextActor, "draw"),
    "judging": (Purse, "scores"),
    "updating": (Scorer, "backward"),
    "saving": (checkpoint, "_fsync"),
}


def test_twenty_kills_change_nothing(llama, prompts, tmp_path):
    run = recipe(llama, prompts, tmp_path / "killed", train=Training(steps=24, batch_size=2, lr=1e-2, save_every=1))
    align(replace(run, out=str(tmp_path / "whole")), say=quiet)
    rng, where = random.Random(0), [place for place in PLACES for _ in range(5)]
    rng.shuffle(where)
    for place in where:
        # One saving makes three calls or more, a round of sixteen samples four drawings.
        assert _life(run, place, rng.randint(1, 2 if place == "judging" else 3)) == signal.SIGKILL, place
    assert _life(run, "", 0) == 0
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


def _life(run: Recipe, place: str, call: int) -> int:
    """Runs or resumes in a child; the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        try:
            if place:
                _die_at(*PLACES[place], call)
            align(run, resume=(Path(str(run.out)) / "recipe.toml").exists(), say=quiet)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _die_at(owner: Any, name: str, call: int) -> None:
    function, calls = getattr(owner, name), [0]

    def counted(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)

    setattr(owner, name, counted)


@pytest.mark.parametrize("place", sorted(PLACES))
def test_the_places_are_where_a_run_passes(place, llama, prompts, tmp_path):
    run = recipe(llama, prompts, tmp_path / "run", train=Training(steps=2, batch_size=2, save_every=1))
    assert _life(run, place, 1) == signal.SIGKILL


LAUNCHED = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from online_fixtures import JUDGES, quiet, recipe
from penchant.judges import JUDGES as ALL
from penchant.run import align
ALL.update(JUDGES)
align(recipe(*map(Path, sys.argv[2:])), say=quiet)
"""


@pytest.mark.slow
def test_two_processes_share_the_drawing_and_take_the_steps_of_one(llama, prompts, tmp_path):
    script = tmp_path / "online.py"
    script.write_text(LAUNCHED)
    words = [str(word) for word in (script, Path(__file__).parent, llama, prompts, tmp_path / "two")]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([*launch, *words], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    align(recipe(llama, prompts, tmp_path / "one"), say=quiet)
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    # The first round is drawn with the same weights: the same samples, whoever drew them.
    # Each process tells the loss of its own groups, and both the gradient of all.
    for name in ("rewards/mean", "rewards/late", "rollouts/surprise", "grad_norm"):
        assert two[0][name] == pytest.approx(one[0][name], rel=1e-4), name
    for before, after in zip(*(weights(tmp_path / side).values() for side in ("one", "two")), strict=True):
        assert torch.allclose(before, after, atol=2e-3, rtol=1e-2)
