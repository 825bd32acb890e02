"""Recipes: a run is a function that returns one. The plain name is the embedded scale, which runs on a laptop."""

from __future__ import annotations

from collections.abc import Callable

from penchant.errors import RecipeError, nearest
from penchant.recipe import Recipe
from penchant.recipes import diffusion_dpo, flow_dpo, mapo, rankdpo, sft
from penchant.recipes.bibliography import bibliography, keys
from penchant.synthesis.spec import Synthesis

__all__ = ["RECIPES", "SYNTHESES", "bibliography", "find", "find_synthesis", "keys"]

RECIPES: dict[str, Callable[[], Recipe]] = {
    "diffusion-dpo": diffusion_dpo.embedded,
    "mapo": mapo.embedded,
    "rankdpo": rankdpo.rankdpo,
    "sft": sft.embedded,
    "sd15-diffusion-dpo": diffusion_dpo.sd15,
    "sdxl-diffusion-dpo": diffusion_dpo.sdxl,
    "sdxl-mapo": mapo.sdxl,
    "sdxl-rankdpo": rankdpo.sdxl,
    "sd3-flow-dpo": flow_dpo.sd3,
    "sd3-rankdpo": rankdpo.sd3,
}

# What `penchant synthesize` makes.
SYNTHESES: dict[str, Callable[[], Synthesis]] = {
    "synpic": rankdpo.synpic,
    "sdxl-synpic": rankdpo.sdxl_synpic,
}


def find(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        RecipeError: there is none; the nearest name is given.
    """
    if name in SYNTHESES:
        raise RecipeError(f"'{name}' makes data.", field="recipe", remedy=f"penchant synthesize {name}")
    if name not in RECIPES:
        raise RecipeError(f"there is no recipe '{name}'.", field="recipe", remedy=nearest(name, list(RECIPES)))
    return RECIPES[name]()


def find_synthesis(name: str) -> Synthesis:
    """The data set recipe of that name.

    Raises:
        RecipeError: there is none; the nearest name is given.
    """
    if name in RECIPES:
        raise RecipeError(f"'{name}' trains.", field="recipe", remedy=f"penchant align {name}")
    if name not in SYNTHESES:
        raise RecipeError(f"there is no data set '{name}'.", field="recipe", remedy=nearest(name, list(SYNTHESES)))
    return SYNTHESES[name]()
