"""A trained reward model as a judge: every dimension in the units that its recipe asked for (`RewardRecipe.units`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float

from penchant.errors import ModelError, nearest
from penchant.judges.base import Judge

OVERALL = "overall"


@final
class RewardModel(Judge):
    """Normalised scores of (prompt, clip, picture or text) in the dimensions that the model was trained for.

    What `penchant train-reward` writes: `model` in its run folder (see `penchant.reward_models`).
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        """Loads the folder, on the GPU if there is one.

        Raises:
            ModelError: a part of it is missing, or of another model.
        """
        import torch

        from penchant.reward_models.folders import load

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network, self.about = load(folder, device=device)
        self.name, self.version = name, _version(folder)
        self.dimensions = tuple(dimension.name for dimension in self.about.dimensions)

    def score(self, prompts: Sequence[str], samples: Sequence[Any]) -> Float[np.ndarray, "N D"]:
        """(raw score - mean) / deviation, one column a dimension."""
        from penchant.reward_models.folders import scores

        return self.about.normalisation(scores(self.network, prompts, samples).double().numpy())


@final
class RewardDimension(Judge):
    """One dimension of a reward model as a judge of its own, or `overall`: the mean of all (VideoAlign's aggregate)."""

    def __init__(self, model: RewardModel, dimension: str) -> None:
        if dimension not in (*model.dimensions, OVERALL):
            known = (*model.dimensions, OVERALL)
            raise ModelError(f"{model.name} knows no '{dimension}'.", remedy=nearest(dimension, known))
        self.model, self.name, self.version = model, f"{model.name}:{dimension}", model.version
        self.dimensions = (dimension,)

    def score(self, prompts: Sequence[str], samples: Sequence[Any]) -> Float[np.ndarray, "N 1"]:
        """The dimension's normalised score, or the mean of all dimensions'."""
        (name,), score_ND = self.dimensions, self.model.score(prompts, samples)
        # A dimension of that name is itself, not the mean.
        if name in self.model.dimensions:
            return score_ND[:, [self.model.dimensions.index(name)]]
        return score_ND.mean(1, keepdims=True)


def load_reward_model(folder: Path, *, name: str, dimension: str | None = None) -> Judge:
    """The model in `folder`, or one dimension of it; the network of an unchanged folder is loaded once.

    Raises:
        ModelError: as `RewardModel`, or it has no such dimension.
    """
    model = _shared(folder.resolve(), _version(folder), name)
    return model if dimension is None else RewardDimension(model, dimension)


# As many as stand side by side in a report, so that a server does not fill its memory.
@lru_cache(maxsize=4)
def _shared(folder: Path, version: str, name: str) -> RewardModel:
    return RewardModel(folder, name=name)


def _version(folder: Path) -> str:
    """A digest of weights and constants: it changes when scores do."""
    sha = hashlib.sha256()
    for part in ("config.json", "model.safetensors"):
        try:
            sha.update((folder / part).read_bytes())
        except OSError as error:
            raise ModelError("cannot be read.", file=folder / part, remedy="copy the folder again.") from error
    return sha.hexdigest()[:12]
