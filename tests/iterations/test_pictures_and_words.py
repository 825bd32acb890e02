"""The rounds know no modality, and the command line runs them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from rollout_fixtures import quiet, spec
from test_iterations import losses

from penchant.cli import main
from penchant.errors import RecipeError
from penchant.feedback import open_store
from penchant.iterations import Draws, Iterations, JudgePanel, iterate
from penchant.likelihoods import Diffusion
from penchant.models import Policy
from penchant.objectives import DPO
from penchant.recipe_file import from_toml
from penchant.recipes import ITERATIONS, find_iterations
from penchant.testing import build


def test_a_picture_model_goes_round_too(prompts, tmp_path):
    # Iterative Diffusion-DPO: pictures drawn, voted on by how sharp they are, and learnt from.
    pictures = spec(
        build("stable-diffusion", tmp_path / "sd15"),
        prompts,
        tmp_path / "pictures",
        policy=Policy(path=str(tmp_path / "sd15"), lora=2),
        likelihood=Diffusion(),
        objective=DPO(beta=100.0),
        annotators=(JudgePanel(judges=("sharpness",)),),
        draws=Draws(candidates=2, steps=2, guidance=1.0, batch_size=4),
        prompts_a_round=2,
    )
    result = iterate(pictures, say=quiet)
    assert [r.number for r in result.rounds] == [0, 1]
    assert abs(losses(pictures.folder, 1)[0] - math.log(2)) < 1e-6
    for group in open_store(pictures.folder / "round-001" / "groups"):
        assert {c.media.mime for c in group.candidates} == {"image/png"}


@pytest.fixture
def recipe_file(llama, prompts, tmp_path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\nfrom rollout_fixtures import spec\n"
        f"def rounds():\n    return spec(*map(Path, {[str(llama), str(prompts), str(tmp_path / 'out')]!r}))\n"
    )
    return path


def test_the_command_line_runs_rounds_with_another_objective_and_goes_on(recipe_file, tmp_path, capsys):
    words = ["iterate", f"{recipe_file}:rounds", "objective:dpo", "--objective.beta", "0.5", "--rounds", "1"]
    assert main(words) == 0
    assert "all rounds are done" in capsys.readouterr().out
    made = from_toml(tmp_path / "out" / "iterations.toml", Iterations)
    assert made.objective == DPO(beta=0.5)
    assert made.rounds == 1
    # Again is refused, --resume with more rounds goes on.
    assert main(["iterate", str(tmp_path / "out")]) == 2
    assert main(["iterate", str(tmp_path / "out"), "--resume", "--rounds", "2"]) == 0
    assert (tmp_path / "out" / "round-001" / "round.json").exists()


def test_usage_is_said_when_no_recipe_is_named(capsys):
    assert main(["iterate"]) == 2
    assert main(["iterate", "--help"]) == 0
    assert "penchant iterate RECIPE" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(ITERATIONS))
def test_shipped_rounds_read_logits_from_the_last_iterate(name):
    made = find_iterations(name)
    assert made.dimension == "logit"
    assert made.reference.kind == "start"


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(RecipeError, match="irepo"):
        find_iterations("irepoo")
