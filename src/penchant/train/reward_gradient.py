"""What the one loop needs to train a policy by a reward's own gradient (`penchant.sampling.reward_gradient`).

    data = Prompts(model, texts)
    scorer = RewardScorer(seed=recipe.seed, model=model, method=DRaFT(), reward=reward, accelerator=accelerator)
    Loop(recipe, model, scorer, data, folder, accelerator).run(stop, say)

There is no feedback: a group is a prompt, and every epoch samples it anew. All draws are counted by (seed, epoch,
prompt), so that a resumed run ends with the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from penchant.errors import RecipeError
from penchant.feedback.groups import Prompt
from penchant.likelihoods.randomness import generator
from penchant.models.blank import blank
from penchant.sampling.reward_gradient import Asked, RewardGradient, SampleReward
from penchant.train.meters import Averages

LATENTS = "latents"
# Encoded at a time.
_CHUNK = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptBatch:
    """N prompts with their tensors [N, ...]; a prompt is its own group id."""

    group_ids: tuple[str, ...]
    condition: Mapping[str, Tensor]

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`."""
        return replace(self, condition={name: value.to(device) for name, value in self.condition.items()})


class Prompts:
    """The loop's data: a fixed set of prompts, encoded once."""

    def __init__(self, model: Any, prompts: Sequence[str]) -> None:
        """Encodes the prompts.

        Raises:
            RecipeError: there is none, or one stands twice and would draw the same samples twice.
        """
        if not prompts or len(set(prompts)) != len(prompts):
            raise RecipeError("prompts must be given, each once.", field="prompts", remedy="leave out what repeats.")
        self.prompts = tuple(prompts)
        self._rows: list[Mapping[str, Tensor]] = []
        for first in range(0, len(prompts), _CHUNK):
            self._rows += model.encode_asked([Prompt(text=text) for text in prompts[first : first + _CHUNK]])

    def __len__(self) -> int:
        return len(self.prompts)

    def before_step(self, step: int, model: Any) -> None:
        """Samples are drawn where they are scored."""

    def metrics(self) -> Mapping[str, float]:
        """Nothing: the scorer tells it all."""
        return {}

    def batch(self, indices: Sequence[int]) -> PromptBatch:
        """The prompts at `indices`."""
        rows = [self._rows[i] for i in indices]
        return PromptBatch(
            group_ids=tuple(self.prompts[i] for i in indices),
            condition={name: torch.stack([row[name] for row in rows]) for name in rows[0]},
        )

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Nothing: which prompts a step sees follows from the step."""
        return {}, {}

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Nothing was kept."""


@dataclass(frozen=True, kw_only=True)
class RewardScorer:
    """From prompts to gradients: the policy samples, the reward scores, and its gradient goes back.

    Attributes:
        seed: key of every draw.
        model: the policy, an `ImageModel` or `VideoModel`.
        method: how its gradient is followed back: `ReFL`, `DRaFT`, `DRaFTLV`.
        reward: what is maximised; its own weights must not train.
        accelerator: accelerate's.
    """

    seed: int
    model: Any
    method: RewardGradient
    reward: SampleReward
    accelerator: Any

    def train_mode(self) -> None:
        """Dropout, if the denoiser has any, belongs to training; some denoisers checkpoint in this mode only."""
        self.model.module.train()

    def backward(self, batches: Sequence[tuple[int, PromptBatch]], *, share: float, averages: Averages) -> None:
        """Adds the gradient of `share` times the mean loss of (epoch, batch)es, and their metrics to `averages`."""
        count = sum(len(batch.group_ids) for _, batch in batches)
        for i, (epoch, batch) in enumerate(batches):
            size, last = len(batch.group_ids), i == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model.module):
                with self.accelerator.autocast():
                    found = self.method.follow(self.model, self.reward, self._asked(epoch, batch))
                loss = found.loss_N.float().mean()
                self.accelerator.backward(loss * share * size / count)
            averages.add({"loss": float(loss.detach()), "reward": float(found.reward_N.mean())}, size)

    def _asked(self, epoch: int, batch: PromptBatch) -> Asked:
        size, shape = len(batch.group_ids), tuple(self._blank[LATENTS].shape[1:])
        starts = [generator(self.seed, epoch, id, "path start") for id in batch.group_ids]
        noise = np.stack([draws.standard_normal(shape, dtype=np.float32) for draws in starts])
        return Asked(
            prompts=batch.group_ids,
            condition=batch.condition,
            micro={n: v.expand(size, *v.shape[1:]) for n, v in self._blank.items() if n != LATENTS},
            noise_N=torch.from_numpy(noise).to(self.model.device),
            keys=[(self.seed, epoch, id) for id in batch.group_ids],
        )

    @cached_property
    def _blank(self) -> dict[str, Tensor]:
        return blank(self.model)
