"""From words to options and recipes: what every verb needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penchant.errors import RecipeError, nearest


def options(verb: str, function: Callable[..., int], words: Sequence[str]) -> int:
    """Parses a function's arguments with tyro and calls it."""
    import tyro

    return tyro.cli(function, args=list(words), prog=f"penchant {verb}", config=(tyro.conf.PositionalRequiredArgs,))


def find_recipe(address: str) -> Any:
    """A recipe by name, from a recipe.toml (or the run folder that holds one), or from `file.py:function`.

    Raises:
        RecipeError: there is none, or the function returns something else.
    """
    from penchant.recipe import Recipe
    from penchant.recipes import find

    return found(address, Recipe, file="recipe.toml", by_name=find)


def found(address: str, kind: type, *, file: str, by_name: Callable[[str], Any]) -> Any:
    """What `find_recipe` does, for any kind of recipe; `file` is its name in a run folder."""
    from penchant.recipe_file import from_toml

    source, _, function = address.partition(":")
    if source.endswith(".py"):
        return _from_python(source, function, kind)
    path = Path(address)
    if path.is_dir() and (path / file).exists():
        path = path / file
    return from_toml(path, kind) if path.suffix == ".toml" else by_name(address)


def _from_python(file: str, function: str, kind: type) -> Any:
    import runpy

    if not Path(file).exists():
        raise RecipeError("there is no such file.", file=file, remedy="give PATH.py:FUNCTION.")
    names = runpy.run_path(file)
    if function not in names:
        callables = [n for n, v in names.items() if callable(v) and not n.startswith("_")]
        raise RecipeError(f"has no '{function}'.", file=file, remedy=nearest(function, callables or ["?"]))
    recipe = names[function]()
    if not isinstance(recipe, kind):
        raise RecipeError(f"'{function}' returned a {type(recipe).__name__}, no {kind.__name__}.", file=file)
    return recipe
