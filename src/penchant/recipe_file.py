"""Recipes as files: `to_toml` writes one with every default filled in, `from_toml` reads it back to an equal one."""

from __future__ import annotations

import dataclasses
import importlib
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, Literal

from penchant.errors import RecipeError, nearest
from penchant.recipe import Recipe

# TOML knows no None and no classes: None is left out, a part says its class in `class`.
_KIND = "class"


def to_toml(recipe: object) -> str:
    """A recipe (a `Recipe`, or any frozen dataclass of parts) with every default filled in, as TOML."""
    import tomli_w

    return tomli_w.dumps(_plain(recipe))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = f"{type(value).__module__}:{type(value).__qualname__}"
        pairs = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {_KIND: name, **{k: _plain(v) for k, v in pairs.items() if v is not None}}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def from_toml(path: Path, kind: type = Recipe) -> Any:
    """Reads what `to_toml` wrote of a `kind`.

    Raises:
        RecipeError: not TOML, an unknown class, an unknown or missing field, another kind.
    """
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(
            f"cannot be read: {error}", file=path, remedy="write it again with `penchant align`."
        ) from error
    recipe = _build({k: v for k, v in table.items() if k != "versions"}, path)
    if not isinstance(recipe, kind):
        raise RecipeError(f"holds a {type(recipe).__name__}, no {kind.__name__}.", file=path, field=_KIND)
    return recipe


def _class(name: Any, path: Path) -> type:
    module, _, qualname = str(name).partition(":")
    try:
        if not module.startswith("penchant."):
            raise RecipeError(
                f"'{name}' is no part of penchant.",
                file=path,
                field=_KIND,
                remedy="run the Python file that defines it.",
            )
        found = getattr(importlib.import_module(module), qualname)
        if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
            raise RecipeError(f"'{name}' is no part of a recipe.", file=path, field=_KIND, remedy="check the spelling.")
        return found
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"there is no '{name}'.", file=path, field=_KIND, remedy="check the spelling.") from error


def _build(table: dict[str, Any], path: Path) -> Any:
    cls = _class(table.get(_KIND), path)
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    values = {}
    for key, value in table.items():
        if key == _KIND:
            continue
        if key not in known:
            raise RecipeError(f"unknown option '{key}'.", file=path, field=key, remedy=nearest(key, sorted(known)))
        values[key] = _typed(value, hints[key], path)
        if not _fits(values[key], hints[key]):
            raise RecipeError(f"{value!r} does not fit.", file=path, field=key, remedy=f"give {_words(hints[key])}.")
    # A field that is absent was None: the writer fills in every other default.
    absent = {f.name: None for f in dataclasses.fields(cls) if f.name not in values and _allows_none(hints[f.name])}
    required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name not in values and name not in absent]:
        raise RecipeError("is missing.", file=path, field=missing[0], remedy=f"{cls.__name__} needs it.")
    return cls(**values, **absent)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value read from TOML is one of its field's type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        items = _items(value, hint)
        return isinstance(value, tuple) and items is not None and all(map(_fits, value, items))
    # To Python True is an int.
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _items(value: Any, hint: Any) -> tuple[Any, ...] | None:
    """The type of each item of a tuple; None if it has another number of them."""
    arguments = typing.get_args(hint)
    if arguments[-1] is Ellipsis:
        return (arguments[0],) * len(value)
    return arguments if len(value) == len(arguments) else None


def _words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _allows_none(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union) and type(None) in typing.get_args(hint)


def _typed(value: Any, hint: Any, path: Path) -> Any:
    if isinstance(value, dict) and _KIND in value:
        return _build(value, path)
    if isinstance(value, list):
        items = _items(value, hint) if typing.get_origin(hint) is tuple else None
        return tuple(_typed(one, item, path) for one, item in zip(value, items or (None,) * len(value), strict=True))
    if isinstance(value, int) and not isinstance(value, bool) and hint in (float, float | None):
        return float(value)
    return value
