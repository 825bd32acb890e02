"""`Recipe`: a run, whole, as one frozen object.

A recipe is a Python value; the command line only overrides its fields. `to_toml` writes it with every default filled
in, `from_toml` reads it back to an equal recipe.
"""

from __future__ import annotations

import dataclasses
import importlib
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from penchant.compatible import require
from penchant.errors import RecipeError, nearest
from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.references.spec import Reference
from penchant.types import Likelihood, Objective


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Which feedback to learn from.

    Attributes:
        path: file, folder or store that `penchant.read` reads, or `zoo:NAME`.
        layout: insist on a layout instead of recognising it.
        dimension: which judged dimension.
        source: use judgements of this source only (a prefix, e.g. "human" or "reward:pickscore").
        ties: what becomes of a group without a strict preference; "keep" and "half" need an objective with tie_credit.
        split: use the groups of this split only.
        limit: read at most so many rows.
        max_bad: the largest share of refused rows that is accepted.
    """

    path: str
    layout: str | None = None
    dimension: str = "overall"
    source: str | None = None
    ties: Literal["drop", "half", "random", "keep"] = "drop"
    split: str | None = None
    limit: int | None = None
    max_bad: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to optimise. `batch_size` counts groups (pairs, lists) over all processes of one optimiser step.

    Attributes:
        steps: optimiser steps.
        batch_size: groups a step.
        micro_batch: groups of one forward pass on one process; None means all of its share at once.
        by_candidate: go through a group one candidate at a time, with the same gradient and 1/K of the memory.
        lr: peak learning rate.
        schedule: learning rate after the warm-up.
        warmup: steps of linear warm-up.
        optimizer: AdamW, or Adafactor with fixed step size.
        betas: AdamW's decay rates.
        eps: AdamW's epsilon.
        weight_decay: decoupled weight decay.
        clip: largest gradient norm; None for none.
        ema: decay of the averaged weights that are saved at the end; 0 for none.
        precision: autocast of the forward pass; errors are reduced in float32 whatever it is.
        save_every: steps between checkpoints; 0 saves only when stopped.
        keep: how many checkpoints stay.
        log_every: steps between metric lines.
        bad_steps: consecutive steps with a loss or gradient that is not finite before the run stops.
        flip: mirror half of the groups, all candidates of a group alike.
    """

    steps: int = 100
    batch_size: int = 16
    micro_batch: int | None = None
    by_candidate: bool = False
    lr: float = 1e-5
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup: int = 0
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    clip: float | None = 1.0
    ema: float = 0.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    save_every: int = 0
    keep: int = 2
    log_every: int = 1
    bad_steps: int = 3
    flip: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise RecipeError("a run needs at least one step of one group.", field="steps, batch_size")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise RecipeError("a micro-batch needs a group.", field="micro_batch", remedy="use 1 or more, or None.")
        if self.bad_steps < 1 or self.log_every < 1 or self.keep < 1:
            raise RecipeError("bad_steps, log_every and keep count from 1.", field="bad_steps, log_every, keep")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How to find out whether the policy is better than its base.

    Attributes:
        prompts: a text file with one prompt a line, a `.jsonl` file of prompts and conversations, `zoo:NAME`, or
            "feedback": the prompts of the feedback.
        count: how many prompts of each kind (seen in training, held out).
        seeds: samples a prompt.
        steps: denoising steps (pictures).
        guidance: guidance scale (pictures).
        decoding: how tokens are drawn (texts); None for the defaults of `Decoding`.
        batch_size: samples drawn, and kept, at a time.
        judges: judges that took no part in training.
        trained_against: judges whose opinion made the feedback.
    """

    prompts: str = "feedback"
    count: int = 64
    seeds: int = 1
    steps: int = 20
    guidance: float = 3.0
    decoding: Decoding | None = None
    batch_size: int = 16
    judges: tuple[str, ...] = ()
    trained_against: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.decoding is not None and self.decoding.temperature == 0 and self.seeds > 1:
            raise RecipeError(
                "at temperature 0 every seed of a prompt gives the same text.",
                field="evaluation.seeds",
                remedy="set evaluation.seeds to 1, or evaluation.decoding.temperature above 0.",
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run: which model, likelihood, objective and feedback, how to train and how to judge.

    Attributes:
        name: name of the run.
        policy: the model to align.
        likelihood: how it scores a sample.
        objective: what is minimised.
        feedback: what is learnt from.
        reference: the frozen model to compare with.
        train: how to optimise.
        evaluation: how to judge; None for not at all.
        seed: key of every draw.
        out: run folder; None means `runs/<date>-<name>`.
        cache: folder of encoded latents and texts; None means `cache` in the run folder's parent.
        threads: CPU threads; None leaves PyTorch's choice.
        tracker: also log to this tracker, by accelerate's name ("tensorboard", "wandb", "trackio").
        cite: keys of papers that no part names, such as one on how the feedback was made (`penchant.bibliography`).
    """

    name: str
    policy: Policy
    likelihood: Likelihood
    objective: Objective
    feedback: Preferences
    reference: Reference = field(default_factory=Reference)
    train: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    evaluation: Evaluation | None = None
    seed: int = 0
    out: str | None = None
    cache: str | None = None
    threads: int | None = None
    tracker: str | None = None
    cite: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def __post_init__(self) -> None:
        require(
            self.objective,
            self.likelihood,
            ties=self.feedback.ties,
            cached=self.reference.cache is not None,
            by_candidate=self.train.by_candidate,
        )


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
