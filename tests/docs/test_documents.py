"""What README and docs show runs: every command is parsed by the real command line, what is cheap is run, links lead
somewhere, and the compatibility table is today's."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from penchant.assets import resolve
from penchant.cli import main
from penchant.compatible import table
from penchant.feedback import read, replace_groups
from penchant.judges import JUDGES
from penchant.likelihoods import LIKELIHOODS
from penchant.objectives import OBJECTIVES
from penchant.recipe import Recipe
from penchant.recipe_file import to_toml
from penchant.recipes import RECIPES, REWARDS, SYNTHESES, find, find_synthesis
from penchant.synthesis import Synthesis

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("README.md")])
sys.path[:0] = [str(ROOT / "tests" / "train"), str(ROOT / "tests" / "feedback")]


def code(text: str) -> list[str]:
    """The indented blocks of a document, dedented."""
    blocks = re.findall(r"(?:^    .*\n(?:^[ \t]*\n(?=    ))?)+", text, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every line of code that calls penchant, without its comment and launcher: (verb, words)."""
    for document in DOCUMENTS:
        for line in "".join(code(document.read_text())).splitlines():
            if re.match(r"(penchant|accelerate launch -m penchant) [a-z]", line):
                words = shlex.split(line, comments=True)
                _, verb, *rest = words[words.index("penchant") :]
                yield verb, tuple(rest)


COMMANDS = sorted(set(commands()))
# Each of these makes its own work; the others only read.
HEAVY = ("align", "iterate", "train-reward", "think", "synthesize", "pretrain", "evaluate", "report", "listen")


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A folder in which the names of the documents exist: preference files, a finished run's recipe."""
    from audio_layouts import music_arena
    from clip_layouts import videoalign
    from loop_fixtures import rows, write

    for name in ("videos", "videoalign"):
        videoalign(tmp_path / name)
    music_arena(tmp_path / "music-arena")
    shutil.copytree(resolve("zoo:clips/reward"), tmp_path / "runs" / "videoreward" / "model")
    for name in ("pickapic_v2", "pick-style-cartoon"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "train.parquet", rows(4))
    run = tmp_path / "runs" / "2026-11-23-mapo"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(to_toml(find("mapo")))
    data_set = tmp_path / "runs" / "synpic"
    replace_groups(read(resolve("zoo:emoji/ranked"), limit=3), data_set / "data")
    (data_set / "synthesis.toml").write_text(to_toml(find_synthesis("synpic")))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def untrained_reward(folder: Path) -> None:
    """What `penchant train-reward flow-nrg --out FOLDER` leaves before its first step."""
    from penchant.recipes import find_reward
    from penchant.reward_models.folders import Normalisation, RewardModelFolder, built, save

    recipe = find_reward("flow-nrg")
    network = built(recipe.backbone, recipe.dimensions, recipe.pooling, prompts=["red heart"])
    count = len(recipe.dimensions)
    about = RewardModelFolder(
        dimensions=recipe.dimensions,
        pooling=recipe.pooling,
        backbone=recipe.backbone,
        normalisation=Normalisation(mean=(0.0,) * count, std=(1.0,) * count),
    )
    save(folder / "model", network, about)


def test_the_documents_show_commands():
    assert {"synthesize", "score", "rank"} <= {verb for verb, _ in COMMANDS}
    assert {"align", "recipes", "check", "cite", "doctor", "sample", "pretrain"} <= {verb for verb, _ in COMMANDS}
    assert len(COMMANDS) > 10


@pytest.mark.parametrize(("verb", "words"), [c for c in COMMANDS if c[0] == "align"])
def test_an_align_command_is_understood(verb, words, desk, monkeypatch):
    started: list[Recipe] = []

    class Finished:
        class outcome:
            stopped_by = None

    def align(recipe: Recipe, *, resume: bool) -> type[Finished]:
        started.append(recipe)
        assert resume == ("--resume" in words)
        return Finished

    monkeypatch.setattr("penchant.run.align", align)
    assert main([verb, *words]) == 0
    (recipe,) = started
    for option, value in pairwise(words):
        if option == "--lr":
            assert recipe.train.lr == float(value)
        if option == "--feedback.path":
            assert recipe.feedback.path == value


@pytest.mark.parametrize(("verb", "words"), [c for c in COMMANDS if c[0] == "synthesize"])
def test_a_synthesize_command_is_understood(verb, words, desk, monkeypatch, capsys):
    started: list[Synthesis] = []

    class Made:
        failures = ()

    def synthesize(recipe: Synthesis) -> type[Made]:
        started.append(recipe)
        return Made

    monkeypatch.setattr("penchant.synthesis.run.synthesize", synthesize)
    assert main([verb, *words]) == 0
    if "--plan" in words:
        assert "device-days" in capsys.readouterr().out
        return
    (recipe,) = started
    added = [w.removeprefix("reward:") for w in words if w.startswith("reward:")]
    assert [reward.judge for reward in recipe.rewards][len(recipe.rewards) - len(added) :] == added


@pytest.mark.parametrize(
    ("verb", "words", "place", "field"),
    [(*c, "penchant.iterations.iterate", "rounds") for c in COMMANDS if c[0] == "iterate" and "/" not in c[1][0]]
    + [(*c, "penchant.thoughts.construct", "each") for c in COMMANDS if c[0] == "think"]
    + [
        (*c, "penchant.reward_training.run.train_reward", "seed")
        for c in COMMANDS
        if c[0] == "train-reward" and "/" not in c[1][0]
    ],
)
def test_rounds_and_thoughts_are_understood(verb, words, place, field, desk, monkeypatch):
    started: list[object] = []

    class Finished:
        stopped_by = None

        class outcome:
            stopped_by = None

    def start(recipe: object, **options: object) -> type[Finished]:
        started.append(recipe)
        return Finished

    monkeypatch.setattr(place, start)
    assert main([verb, *words]) == 0
    (recipe,) = started
    for option, value in pairwise(words):
        if option == f"--{field}":
            assert getattr(recipe, field) == int(value)


@pytest.mark.parametrize(("verb", "words"), [c for c in COMMANDS if c[0] not in HEAVY])
def test_another_command_runs(verb, words, desk, capsys):
    if "--reward" in words:
        untrained_reward(desk / words[words.index("--reward") + 1])
    assert main([verb, *words]) == 0
    assert capsys.readouterr().out


def test_the_readme_s_python_runs_as_it_stands(tmp_path, monkeypatch):
    (block,) = [b for b in code((ROOT / "README.md").read_text()) if b.startswith("import penchant")]
    (tmp_path / "block.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(tmp_path / "block.py"))
    assert (names["run"].model_path / "model_index.json").exists() or any(names["run"].model_path.glob("*.safetensors"))


def test_every_recipe_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert not [name for name in (*RECIPES, *SYNTHESES, *REWARDS) if f"`{name}`" not in text]


def test_every_judge_is_in_the_documents():
    text = (ROOT / "docs" / "judges.md").read_text()
    assert not [name for name in JUDGES if f"`{name}`" not in text]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text())
    assert not [target for target in targets if not (document.parent / target).exists()]


def test_the_compatibility_table_is_todays():
    assert table(OBJECTIVES, LIKELIHOODS) in (ROOT / "docs" / "architecture.md").read_text()
