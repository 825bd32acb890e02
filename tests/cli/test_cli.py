"""The command line as a stranger meets it."""

from __future__ import annotations

import io
import re
import resource
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from penchant.bibliography import REFERENCES, bibliography, keys
from penchant.cli import VERBS, main
from penchant.cli.words import find_recipe
from penchant.compatible import reasons
from penchant.errors import RecipeError
from penchant.likelihoods import LIKELIHOODS
from penchant.objectives import OBJECTIVES, RLOO
from penchant.recipe import Recipe
from penchant.recipe_file import from_toml, to_toml
from penchant.recipes import CONSTRUCTIONS, ITERATIONS, RECIPES, REWARDS, SYNTHESES, find, find_any

OPTIONS = Path(__file__).parent / "options.txt"


def options_of(verb: str, *words: str) -> set[str]:
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit):
        main([verb, *words, "--help"])
    # The third generator of a recipe has the options of the first.
    return {re.sub(r"\.\d+\.", ".N.", option) for option in re.findall(r"--[a-z][a-z0-9.-]*", said.getvalue())}


RECIPE_VERBS = {"align", "iterate", "synthesize", "think", "train-reward"}


def all_options() -> list[str]:
    """Of every recipe, of every objective put into one, and of what makes data."""
    shown = [(name,) for name in RECIPES]
    shown += [
        ("diffusion-dpo", *([] if "bound" in o.needs.density else ["likelihood:autoregressive"]), f"objective:{name}")
        for name, o in OBJECTIVES.items()
    ]
    align = set().union(*(options_of("align", *words) for words in shown))
    others = {f"{verb} {o}" for verb in ("score", "rank") for o in options_of(verb)}
    tables = {"synthesize": SYNTHESES, "iterate": ITERATIONS, "think": CONSTRUCTIONS, "train-reward": REWARDS}
    for verb, table in tables.items():
        others |= {f"{verb} {o}" for name in table for o in options_of(verb, name)}
    return sorted(align | others)


def test_every_option_is_a_decision():
    found, known = all_options(), OPTIONS.read_text().splitlines()
    assert found == known, (
        f"new: {sorted(set(found) - set(known))}, gone: {sorted(set(known) - set(found))}; "
        "if that is on purpose, run `python tests/cli/test_cli.py`, which writes tests/cli/options.txt, and commit it"
    )


def test_help_and_import_cost_less_than_half_a_second_of_cpu():
    for code in (["-m", "penchant", "--help"], ["-c", "import penchant"]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *code], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize("verb", sorted(set(VERBS) - RECIPE_VERBS))
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("verb", sorted(RECIPE_VERBS))
def test_a_verb_without_a_recipe_says_how_it_is_used(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert f"usage: penchant {verb} RECIPE" in capsys.readouterr().out
    assert main([verb]) == 2


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["alingn"], "did you mean 'align'?"),
        (["align", "mapoo"], "did you mean 'mapo'?"),
        (["check", "mapo", "objective:dspoo"], "did you mean 'dspo'?"),
        (["check", "mapo", "objectiv:dpo"], "use objective:NAME"),
        (["pretrain", "emojis"], "did you mean 'emoji'?"),
        (["doctor", "nowhere.parquet"], "check the path"),
        (["sample", "zoo:emojj", "heart"], "did you mean 'emoji'?"),
        (["report", "nowhere"], "penchant evaluate"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_remedy(words, hint, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert hint in said
    assert "Traceback" not in said
    assert said.count("\n") == 1


def test_an_unknown_option_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["align", "mapo", "--objective.bta", "1"])
    assert stop.value.code == 2
    assert "--objective.beta" in capsys.readouterr().err


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_its_own_toml(name, tmp_path):
    recipe = find(name)
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe))
    assert from_toml(path) == recipe


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mapo"', 'nmae = "mapo"', "did you mean 'name'"),
        ("penchant.objectives.mapo:MaPO", "os:system", "is no part of penchant"),
        ("penchant.objectives.mapo:MaPO", "penchant.objectives.mapo:MaPPO", "there is no"),
        ("seed = 0", "seed = = 0", "cannot be read"),
    ],
)
def test_a_damaged_toml_is_refused(old, new, message, tmp_path):
    path = tmp_path / "recipe.toml"
    text = to_toml(find("mapo"))
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(RecipeError, match=message):
        from_toml(path)


def test_a_run_is_a_function_in_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from penchant.recipes import find\n\ndef soft():\n    return find('sft')\n")
    assert find_recipe(f"{path}:soft") == find("sft")
    with pytest.raises(RecipeError, match="did you mean 'soft'"):
        find_recipe(f"{path}:sof")


def test_a_part_and_the_options_that_it_needs_may_come_together(monkeypatch, capsys):
    started: list[Recipe] = []

    class Finished:
        class outcome:
            stopped_by = None

    def start(recipe: Recipe, **options: object) -> type[Finished]:
        started.append(recipe)
        return Finished

    monkeypatch.setattr("penchant.run.align", start)
    assert main(["align", "musicrl-r", "objective:rloo"]) == 2
    assert "compares 2 samples" in capsys.readouterr().err
    words = ["objective:rloo", "--feedback.candidates", "4", "--objective.beta", "0.2"]
    assert main(["align", "musicrl-r", *words]) == 0
    (recipe,) = started
    assert recipe.feedback.candidates == 4
    assert recipe.objective == RLOO(beta=0.2)


def test_check_says_yes_for_what_fits(capsys):
    assert main(["check", "mapo", "objective:dspo"]) == 0
    assert capsys.readouterr().out == "DSPO on Diffusion: fits.\n"


def test_check_says_why_not_for_what_does_not(capsys):
    assert main(["check", "mapo", "objective:dspo", "likelihood:autoregressive"]) == 2
    assert "defined on a bound density" in capsys.readouterr().err
    assert main(["check", "mapo", "objective:wpo", "likelihood:autoregressive"]) == 0
    # Every objective fits some likelihood, and every likelihood some objective.
    fits = {(o, n) for o in OBJECTIVES for n, k in LIKELIHOODS.items() if not reasons(OBJECTIVES[o], k.density)}
    assert {o for o, _ in fits} == set(OBJECTIVES)
    assert {n for _, n in fits} == set(LIKELIHOODS)


def test_a_cache_that_cannot_serve_an_objective_is_refused_when_the_recipe_is_built():
    from dataclasses import replace

    from penchant.objectives import DSPO
    from penchant.references import Reference

    with pytest.raises(RecipeError, match="keeps scores only"):
        replace(find("diffusion-dpo"), objective=DSPO(), reference=Reference(cache="x"))


def test_ties_that_would_have_no_loss_are_refused():
    from dataclasses import replace

    base = find("diffusion-dpo")
    with pytest.raises(RecipeError, match="tie_credit"):
        replace(base, feedback=replace(base.feedback, ties="keep"))


@pytest.mark.parametrize("name", [*RECIPES, *SYNTHESES, *CONSTRUCTIONS, *ITERATIONS, *REWARDS])
def test_cite_names_what_a_recipe_runs(name):
    assert bibliography(find_any(name))


@pytest.mark.parametrize(
    ("name", "paper"),
    [
        ("diffusion-dpo", "wallace2024diffusiondpo"),
        ("sd3-flow-dpo", "liu2025videoalign"),
        ("dpo", "rafailov2023dpo"),
        ("dto", "an2025dto"),
        ("thinker-thoughts", "an2025dto"),
        ("synpic", "karthik2024rankdpo"),
        ("irepo", "le2024irepo"),
    ],
)
def test_a_recipe_cites_its_own_paper_and_no_other_modality_s(name, paper):
    images = {"wallace2024diffusiondpo", "liu2025videoalign"}
    assert paper in keys(find_any(name))
    assert images & set(keys(find_any(name))) <= {paper}


def test_every_key_that_a_part_cites_is_known():
    parts = (*OBJECTIVES.values(), *LIKELIHOODS.values())
    assert {key for part in parts for key in part.cite} <= set(REFERENCES)


if __name__ == "__main__":
    OPTIONS.write_text("\n".join(all_options()) + "\n")
