"""Recipes: a run is a function that returns one. The plain name is the embedded scale, which runs on a laptop."""

from __future__ import annotations

from collections.abc import Callable

from penchant.errors import RecipeError, nearest
from penchant.recipe import Recipe
from penchant.recipes import diffusion_dpo, flow_dpo, mapo, sft
from penchant.recipes.bibliography import bibliography, keys

__all__ = ["RECIPES", "bibliography", "find", "keys"]

RECIPES: dict[str, Callable[[], Recipe]] = {
    "diffusion-dpo": diffusion_dpo.embedded,
    "mapo": mapo.embedded,
    "sft": sft.embedded,
    "sd15-diffusion-dpo": diffusion_dpo.sd15,
    "sdxl-diffusion-dpo": diffusion_dpo.sdxl,
    "sdxl-mapo": mapo.sdxl,
    "sd3-flow-dpo": flow_dpo.sd3,
}


def find(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        RecipeError: there is none; the nearest name is given.
    """
    if name not in RECIPES:
        raise RecipeError(f"there is no recipe '{name}'.", field="recipe", remedy=nearest(name, list(RECIPES)))
    return RECIPES[name]()
