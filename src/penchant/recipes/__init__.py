"""Recipes: a run is a function that returns one. The plain name is the embedded scale, which runs on a laptop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penchant.errors import RecipeError, nearest
from penchant.iterations.spec import Iterations
from penchant.recipe import Recipe
from penchant.recipes import (
    diffusion_dpo,
    dto,
    flow_dpo,
    flow_grpo,
    flow_nrg,
    flow_rwr,
    grpo,
    irepo,
    mapo,
    music_scale,
    musicrl,
    rankdpo,
    sft,
    text,
    tune_rewards,
    videoreward,
    wan,
)
from penchant.reward_training.spec import RewardRecipe
from penchant.synthesis.spec import Synthesis
from penchant.thoughts import Construction
from penchant.zoo.thinker.thoughts import thinker_thoughts

__all__ = [
    "CONSTRUCTIONS",
    "ITERATIONS",
    "RECIPES",
    "REWARDS",
    "SYNTHESES",
    "find",
    "find_any",
    "find_construction",
    "find_iterations",
    "find_reward",
    "find_synthesis",
]

RECIPES: dict[str, Callable[[], Recipe]] = {
    "diffusion-dpo": diffusion_dpo.embedded,
    "mapo": mapo.embedded,
    "rankdpo": rankdpo.rankdpo,
    "sft": sft.embedded,
    "flow-dpo": flow_dpo.embedded,
    "flow-rwr": flow_rwr.embedded,
    "dpo": text.dpo,
    "simpo": text.simpo,
    "rankdpo-text": text.rankdpo,
    "dto": dto.embedded,
    "musicrl-r": musicrl.r,
    "musicrl-u": musicrl.u,
    "musicrl-ru": musicrl.ru,
    "music-dpo": musicrl.dpo,
    "grpo": grpo.embedded,
    "ddpo": flow_grpo.ddpo,
    "flow-grpo": flow_grpo.embedded,
    "sd15-diffusion-dpo": diffusion_dpo.sd15,
    "sdxl-diffusion-dpo": diffusion_dpo.sdxl,
    "sdxl-mapo": mapo.sdxl,
    "sdxl-rankdpo": rankdpo.sdxl,
    "sd3-flow-dpo": flow_dpo.sd3,
    "wan-flow-dpo": wan.flow_dpo,
    "wan-flow-rwr": wan.flow_rwr,
    "sd3-rankdpo": rankdpo.sd3,
    "stable-audio-dpo": music_scale.stable_audio_dpo,
    "llm-dpo": text.zephyr,
    "r1-distill-dto": dto.r1_distill,
    "musicgen-rl": musicrl.musicgen,
    "sd3-flow-grpo": flow_grpo.sd3,
    "wan-flow-grpo": flow_grpo.wan,
    "llm-grpo": grpo.deepseekmath,
}

# What `penchant synthesize` makes.
SYNTHESES: dict[str, Callable[[], Synthesis]] = {
    "synpic": rankdpo.synpic,
    "sdxl-synpic": rankdpo.sdxl_synpic,
}

# What `penchant think` makes: feedback for DTO.
CONSTRUCTIONS: dict[str, Callable[[], Construction]] = {
    "thinker-thoughts": thinker_thoughts,
    "r1-distill-thoughts": dto.r1_thoughts,
}

# What `penchant iterate` runs.
ITERATIONS: dict[str, Callable[[], Iterations]] = {
    "irepo": irepo.embedded,
    "llm-irepo": irepo.phi2,
    "llm-irepo-mistral": irepo.mistral,
}

# What `penchant train-reward` trains.
REWARDS: dict[str, Callable[[], RewardRecipe]] = {
    "videoreward": videoreward.embedded,
    "videoreward-judge": videoreward.judge,
    "qwen2vl-videoreward": videoreward.qwen2vl,
    "flow-nrg": flow_nrg.embedded,
    "wan-flow-nrg": flow_nrg.wan,
    "tune-adherence": tune_rewards.adherence,
    "tune-quality": tune_rewards.quality,
    "tune-preference": tune_rewards.preference,
    "tune-preference-full": tune_rewards.full_preference,
    "tune-judge": tune_rewards.judge,
}

_VERBS: dict[str, dict[str, Callable[[], Any]]] = {
    "align": RECIPES,
    "synthesize": SYNTHESES,
    "think": CONSTRUCTIONS,
    "iterate": ITERATIONS,
    "train-reward": REWARDS,
}


def find(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        RecipeError: there is none; the nearest name is given, or the verb of one that is no recipe to align.
    """
    return _found(name, "align")


def find_any(name: str) -> Any:
    """The recipe of that name, of whichever verb. Raises RecipeError as `find`."""
    verb = next((verb for verb, table in _VERBS.items() if name in table), "align")
    return _found(name, verb)


def find_synthesis(name: str) -> Synthesis:
    """The data set recipe of that name. Raises RecipeError as `find`."""
    return _found(name, "synthesize")


def find_construction(name: str) -> Construction:
    """The construction of trajectories of that name. Raises RecipeError as `find`."""
    return _found(name, "think")


def find_iterations(name: str) -> Iterations:
    """The rounds of that name. Raises RecipeError as `find`."""
    return _found(name, "iterate")


def find_reward(name: str) -> RewardRecipe:
    """The reward model's recipe of that name. Raises RecipeError as `find`."""
    return _found(name, "train-reward")


def _found(name: str, verb: str) -> Any:
    if name in _VERBS[verb]:
        return _VERBS[verb][name]()
    for other, table in _VERBS.items():
        if name in table:
            raise RecipeError(f"'{name}' is not for {verb}.", field="recipe", remedy=f"penchant {other} {name}")
    raise RecipeError(f"there is no recipe '{name}'.", field="recipe", remedy=nearest(name, list(_VERBS[verb])))
