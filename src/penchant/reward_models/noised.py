"""A trained reward on noised latents, bound to the generator that it steers."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError
from penchant.models.blank import blank
from penchant.reward_models.folders import read_config, restore
from penchant.reward_models.latent import CONDITION, MICRO, LatentSpec
from penchant.reward_models.network import RewardNetwork


@final
class NoisedReward:
    """What `penchant.sampling.guidance.LatentReward` asks for, from the folder that `penchant train-reward` wrote.

    Scores are raw: a difference of two is the logit of a preference, so a guidance scale of 1 is Bayes' rule.

    Attributes:
        dimensions: names of the columns of `score`.
        name: changes when the scores do.
    """

    def __init__(self, network: RewardNetwork, model: Any, *, name: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.dimensions = tuple(dimension.name for dimension in network.dimensions)
        self.name = name
        self._micro = {MICRO + key: value for key, value in blank(model).items() if key != "latents"}

    @classmethod
    def load(cls, folder: str | Path, model: Any) -> Self:
        """The reward in `folder`, on the latents of a loaded generator and on its device.

        Raises:
            ModelError: the folder holds no reward on latents, or one of another generator.
        """
        folder = Path(folder)
        about = read_config(folder)
        if not isinstance(about.backbone, LatentSpec):
            raise ModelError(
                f"holds a {type(about.backbone).__name__}, which looks at finished samples.",
                file=folder,
                remedy="give the model of `penchant train-reward flow-nrg`, which looks at noised latents.",
            )
        with torch.random.fork_rng(devices=[]):
            network = RewardNetwork(about.backbone.attached(model), about.dimensions, about.pooling)
        restore(network, folder)
        digest = blake2b(digest_size=8)
        for part in ("config.json", "model.safetensors"):
            digest.update((folder / part).read_bytes())
        return cls(network.to(model.device), model, name=digest.hexdigest())

    def score(self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor]) -> Float[Tensor, "N D"]:
        """Raw scores of latents noised to `time_N`, differentiable in the latents."""
        count = len(noisy_N)
        micro = {name: value.expand(count, *value.shape[1:]) for name, value in self._micro.items()}
        rows = {CONDITION + name: value for name, value in condition.items()}
        return self.network({"latents": noisy_N, "time": time_N, **rows, **micro})
