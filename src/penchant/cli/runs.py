"""The verbs around a run: `align`, `sample`, `evaluate`, `report`, and what a recipe is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penchant.cli.words import find_recipe, found, options
from penchant.errors import RecipeError, nearest


def _swap(recipe: Any, parts: Sequence[str]) -> Any:
    """The recipe with `objective:NAME` or `likelihood:NAME` put in place."""
    from dataclasses import replace

    from penchant.likelihoods import LIKELIHOODS
    from penchant.objectives import OBJECTIVES

    tables: dict[str, dict[str, Any]] = {"objective": OBJECTIVES, "likelihood": LIKELIHOODS}
    chosen = {}
    for part in parts:
        kind, _, name = part.partition(":")
        word = name.replace("-", "_")
        if kind not in tables:
            raise RecipeError(f"'{part}' names no part.", remedy="use objective:NAME or likelihood:NAME.")
        if word not in tables[kind]:
            raise RecipeError(f"there is no {kind} '{name}'.", remedy=nearest(word, list(tables[kind])))
        chosen[kind] = tables[kind][word]()
    # At once: an objective may need the likelihood that comes with it.
    return replace(recipe, **chosen)


def _override(recipe: Any, words: Sequence[str], name: str) -> Any:
    import tyro

    from penchant.recipe import Recipe

    return tyro.cli(
        Recipe, default=recipe, args=list(words), prog=f"penchant align {name}", config=(tyro.conf.AvoidSubcommands,)
    )


def _composed(recipe: Any, parts: Sequence[str], words: Sequence[str], name: str) -> Any:
    """The recipe with parts put in place and options read; the other way round where a part fits only what they say,
    as one that compares samples fits a recipe of one sample a prompt with `--feedback.candidates 4`."""
    try:
        swapped = _swap(recipe, parts)
    except RecipeError:
        own = tuple(f"--{part.partition(':')[0]}." for part in parts)
        swapped = _swap(_override(recipe, _others(words, own), name), parts)
    return _override(swapped, words, name)


def _others(words: Sequence[str], prefixes: tuple[str, ...]) -> list[str]:
    """The options, with their values, that begin with none of the prefixes."""
    kept, found = True, []
    for word in words:
        if word.startswith("--"):
            kept = not word.startswith(prefixes)
        if kept:
            found.append(word)
    return found


def align(words: Sequence[str]) -> int:
    """`penchant align RECIPE [objective:NAME] [--resume] [overrides]`."""
    if not words or words[0].startswith("-"):
        print("usage: penchant align RECIPE [--resume] [OPTIONS]; `penchant align mapo --help` lists the options")
        return 0 if words and words[0] in ("-h", "--help") else 2
    from dataclasses import replace

    address, rest = words[0], [w for w in words[1:] if w != "--resume"]
    parts = [w for w in rest if w.startswith(("objective:", "likelihood:"))]
    recipe = _composed(find_recipe(address), parts, [w for w in rest if w not in parts], address)
    path = Path(address)
    if recipe.out is None and (path / "recipe.toml").exists():
        recipe = replace(recipe, out=str(path))
    elif recipe.out is None and path.name == "recipe.toml":
        recipe = replace(recipe, out=str(path.parent))
    from penchant.models.loading import quiet
    from penchant.run import align as run_recipe

    quiet()
    run = run_recipe(recipe, resume="--resume" in words)
    return 0 if run.outcome.stopped_by is None else 128 + int(run.outcome.stopped_by)


def recipes(words: Sequence[str]) -> int:
    """`penchant recipes`: name, objective, likelihood, model."""

    def show() -> int:
        """Every recipe, one line each: those that train, those that go round, those that make data or rewards."""
        from penchant.recipes import CONSTRUCTIONS, ITERATIONS, RECIPES, REWARDS, SYNTHESES

        lines: list[tuple[str, str, Callable[[], Any]]] = []
        for name, make in (*RECIPES.items(), *ITERATIONS.items()):
            recipe: Any = make()
            lines.append((name, f"{type(recipe.objective).__name__} on {type(recipe.likelihood).__name__}", make))
        for name, sow in SYNTHESES.items():
            data = sow()
            lines.append((name, f"{len(data.generators)} generators, {len(data.rewards)} rewards", sow))
        for name, teach in REWARDS.items():
            reward = teach()
            lines.append((name, f"{type(reward.loss).__name__} on {type(reward.backbone).__name__}", teach))
        lines += [(name, "thoughts made better", ponder) for name, ponder in CONSTRUCTIONS.items()]
        for name, parts, function in lines:
            print(f"{name:20s} {parts:25s} {(function.__doc__ or '').strip().splitlines()[0]}")
        return 0

    return options("recipes", show, words)


def check(words: Sequence[str]) -> int:
    """`penchant check RECIPE [objective:NAME] [likelihood:NAME]`."""

    def show(recipe: str, parts: tuple[str, ...]) -> int:
        """Says whether a recipe's parts fit, with another objective or likelihood if named.

        Args:
            recipe: name, recipe.toml or file.py:function.
            parts: `objective:NAME` or `likelihood:NAME` to put in place.
        """
        found = _swap(find_recipe(recipe), parts)
        print(f"{type(found.objective).__name__} on {type(found.likelihood).__name__}: fits.")
        return 0

    return options("check", show, words)


def cite(words: Sequence[str]) -> int:
    """`penchant cite RECIPE`."""

    def show(recipe: str) -> int:
        """Prints the references of exactly what a recipe of any verb runs.

        Args:
            recipe: name, recipe.toml or file.py:function.
        """
        from penchant.bibliography import bibliography
        from penchant.recipes import find_any

        print("\n\n".join(bibliography(found(recipe, object, file="recipe.toml", by_name=find_any))))
        return 0

    return options("cite", show, words)


def evaluate(words: Sequence[str]) -> int:
    """`penchant evaluate RUN`."""

    def show(run: Path) -> int:
        """Judges a finished run's model again, with the evaluation that its recipe names.

        Args:
            run: the run folder.
        """
        from penchant.models.loading import quiet
        from penchant.run import evaluate as judge_run

        quiet()
        judge_run(find_recipe(str(run)), run)
        return 0

    return options("evaluate", show, words)


def report(words: Sequence[str]) -> int:
    """`penchant report RUN`."""

    def show(run: Path) -> int:
        """Prints where a run's report lies, and its rows of evidence.

        Args:
            run: the run folder.
        """
        import json

        from penchant.evaluate.evidence import sentence

        path = run / "evaluation.json"
        if not path.exists():
            raise RecipeError("the run was not judged.", file=run, remedy=f"penchant evaluate {run}")
        for row in json.loads(path.read_text()):
            print(sentence(row))
        print(run / "report.html")
        return 0

    return options("report", show, words)


def pretrain(words: Sequence[str]) -> int:
    """`penchant pretrain NAME`."""

    def show(name: str, out: Path = Path("zoo"), device: str = "cpu", threads: int | None = None) -> int:
        """Rebuilds a model that penchant ships, from data fetched by package name or generated; an
        interrupted rebuild goes on.

        Args:
            name: `emoji`, `thinker`, `openers`, `clips` or `tunes`.
            out: folder to build in.
            device: cpu or cuda.
            threads: CPU threads.
        """
        from penchant.zoo import makers

        makers.build(name, out, device=device, threads=threads)
        return 0

    return options("pretrain", show, words)
