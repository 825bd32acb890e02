"""A run that is killed twenty times, while it draws, judges, updates and saves, ends with the bits of one that was not.

Each life is a forked child that kills itself, without a word, at a counted call of one of the four; the next resumes.
"""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
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
