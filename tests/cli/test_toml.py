"""A recipe.toml that somebody edited: what is wrong is said with its place, whatever it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from penchant.cli import main
from penchant.errors import RecipeError
from penchant.recipe import Recipe, Rollouts, Server
from penchant.recipe_file import from_toml, to_toml
from penchant.recipes import RECIPES, find

WRONG = [
    ("steps = 80", 'steps = "many"', "field 'steps': 'many' does not fit. Remedy: give int."),
    ("steps = 80", "steps = true", "field 'steps'"),
    ("steps = 80", "steps = 80.5", "field 'steps'"),
    ("steps = 80", "steps = 0", "at least one step"),
    ("lr = 2e-05", 'lr = "fast"', "field 'lr': 'fast' does not fit. Remedy: give float."),
    ("betas = [", "betas = [ 0.5,", "field 'betas'"),
    ('schedule = "constant"', 'schedule = "cosin"', "field 'schedule'"),
    ("judges = [", "judges = [ 3,", "field 'judges'"),
    ("flip = false", 'flip = "no"', "field 'flip'"),
    ("seed = 0", "sed = 0", "did you mean 'seed'?"),
    ('name = "diffusion-dpo"', "", "field 'name': is missing."),
    ('ties = "drop"', 'ties = "keep"', "set objective.tie_credit"),
    ("penchant.recipe:Recipe", "penchant.run:align", "is no part of a recipe"),
    ("penchant.recipe:Recipe", "penchant.recipe:Training", "unknown option"),
    ("penchant.objectives.dpo:DPO", "penchant.recipe:Training", "unknown option"),
    ("penchant.objectives.dpo:DPO", "penchant.nowhere:DPO", "there is no"),
    ("penchant.objectives.dpo:DPO", "builtins:eval", "is no part of penchant"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_an_edit_that_does_not_fit_is_one_sentence_with_its_place(old, new, message, tmp_path, capsys):
    recipe = find("diffusion-dpo")
    text = to_toml(replace(recipe, train=replace(recipe.train, steps=80, lr=2e-5)))
    assert old in text
    path = tmp_path / "recipe.toml"
    path.write_text(text.replace(old, new, 1))
    assert main(["check", str(path)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"a = ", b'class = "penchant.recipe:Recipe"'])
def test_what_is_no_recipe_at_all_is_one_sentence(content, tmp_path, capsys):
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    assert main(["check", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_whole_numbers_stand_for_floats(tmp_path):
    recipe = find("diffusion-dpo")
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe).replace("betas = [\n    0.9,\n    0.999,\n]", "betas = [0, 1]"))
    betas = from_toml(path).train.betas
    assert betas == (0.0, 1.0)
    assert [type(beta) for beta in betas] == [float, float]


def changed(recipe: Recipe) -> Recipe:
    """The recipe with something uncommon in every kind of field."""
    train = replace(recipe.train, clip=None, micro_batch=3, betas=(0.5, 0.75), schedule="cosine")
    policy = replace(recipe.policy, lora=4, lora_targets=("to_q",), lora_alpha=8.0, dtype="bfloat16")
    odd = 'a "quoted" ☃\\path'
    if isinstance(recipe.feedback, Rollouts):
        texts = recipe.likelihood.density == "exact" and recipe.feedback.decoding.temperature == 1
        server = Server(url=odd, folder=odd) if texts else None
        feedback = replace(recipe.feedback, prompts=odd, keep=3, server=server)
    else:
        train, feedback = replace(train, flip=True), replace(recipe.feedback, path=odd, limit=7)
    return replace(recipe, train=train, policy=policy, feedback=feedback, evaluation=None, out="x y", threads=2)


@pytest.mark.parametrize("name", RECIPES)
def test_every_kind_of_value_survives_toml(name, tmp_path):
    recipe = changed(find(name))
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe), encoding="utf-8")
    assert from_toml(path) == recipe


def test_a_recipe_of_a_part_from_elsewhere_says_to_run_its_file(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(find("sft")).replace("penchant.objectives.sft:SFT", "my_losses:Mine"))
    with pytest.raises(RecipeError, match="run the Python file that defines it"):
        from_toml(path)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--steps", "0"], "at least one step"),
        (["--micro-batch", "0"], "micro-batch"),
        (["--reference.cache", "x", "objective:dspo"], "keeps scores only"),
        (["--feedback.ties", "keep"], "tie_credit"),
        (["--policy.lora", "-1"], "negative"),
        (["--policy.path", "nowhere/at/all"], "no such folder"),
        (["--feedback.path", "nowhere.parquet"], "check the path"),
        (["--likelihood.caption-dropout", "2"], "is not a probability"),
    ],
)
def test_an_override_that_cannot_be_is_refused_before_anything_is_trained(words, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert code_of(["align", "diffusion-dpo", *words]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert hint in said
    assert "Traceback" not in said
    assert not list(Path(tmp_path).rglob("step-*"))


def code_of(words: list[str]) -> int:
    """The exit code; the parser leaves by itself."""
    try:
        return main(words)
    except SystemExit as stop:
        return int(str(stop.code))
