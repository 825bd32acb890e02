"""The verb around reward models: `train-reward`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penchant.cli.words import found
from penchant.errors import RecipeError, nearest


def train_reward(words: Sequence[str]) -> int:
    """`penchant train-reward RECIPE [loss:NAME] [backbone:NAME] [--resume] [overrides]`."""
    if not words or words[0].startswith("-"):
        print(
            "usage: penchant train-reward RECIPE [--resume] [OPTIONS]; "
            "`penchant train-reward videoreward --help` lists the options"
        )
        return 0 if words and words[0] in ("-h", "--help") else 2
    import tyro

    from penchant.models.loading import quiet
    from penchant.recipes import find_reward
    from penchant.reward_training import RewardRecipe
    from penchant.reward_training import run as training

    address, folder = words[0], Path(words[0])
    recipe = found(address, RewardRecipe, file=training.FILE, by_name=find_reward)
    parts = [w for w in words[1:] if w.startswith(("loss:", "backbone:"))]
    rest = [w for w in words[1:] if w != "--resume" and w not in parts]
    prog = f"penchant train-reward {address}"
    default = _swap(recipe, parts)
    recipe = tyro.cli(RewardRecipe, default=default, args=rest, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    if recipe.out is None and (folder.name == training.FILE or (folder / training.FILE).exists()):
        recipe = replace(recipe, out=str(folder.parent if folder.name == training.FILE else folder))
    quiet()
    run = training.train_reward(recipe, resume="--resume" in words)
    return 0 if run.outcome.stopped_by is None else 128 + int(run.outcome.stopped_by)


def _swap(recipe: Any, parts: Sequence[str]) -> Any:
    """The recipe with `loss:NAME` or `backbone:NAME` put in place."""
    from penchant.reward_models.backbones import BACKBONES
    from penchant.reward_models.losses import LOSSES

    tables: dict[str, dict[str, Any]] = {"loss": LOSSES, "backbone": BACKBONES}
    chosen = {}
    for part in parts:
        kind, _, name = part.partition(":")
        word = name.replace("-", "_")
        if word not in tables[kind]:
            raise RecipeError(f"there is no {kind} '{name}'.", remedy=nearest(word, list(tables[kind])))
        chosen[kind] = tables[kind][word]()
    return replace(recipe, **chosen)
