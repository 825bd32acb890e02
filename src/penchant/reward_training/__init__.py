"""How reward models are made: a `RewardRecipe`, from annotated pairs to a folder that `penchant.judges` loads."""

from penchant.reward_training.spec import Annotations, RewardRecipe

__all__ = ["Annotations", "RewardRecipe"]
