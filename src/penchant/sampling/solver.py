"""The guided ODE of a denoiser, one step at a time: differentiable, and with a time for every row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from penchant.likelihoods import _denoising, gaussian, transitions
from penchant.sampling.ode import path


@dataclass(frozen=True, kw_only=True)
class Solver:
    """`ode.integrate` by hand: the same path, for those who stop on it or go back along it.

    Attributes:
        model: a `Denoiser`.
        steps: steps from noise to data.
        guidance: scale of classifier-free guidance, 1.0 for none.
    """

    model: Any
    steps: int
    guidance: float

    def times(self) -> Tensor:
        """Where the path stands before each step and at its end [steps + 1], in the model's convention.

        Raises:
            RecipeError, ModelError: as `ode.path`.
        """
        times = [place.time for place in path(self.model, self.steps)]
        if self.model.alphas_cumprod is None:
            return torch.tensor(times, dtype=torch.float32)
        return torch.tensor([*times[:-1], transitions.DATA], dtype=torch.int64)

    def predict(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], micro: Mapping[str, Tensor]
    ) -> Tensor:
        """The guided prediction [N, ...], in at least float32."""
        return _denoising.guided(self.model, noisy_N, time_N, condition, micro, guidance=self.guidance)

    def step(
        self,
        noisy_N: Tensor,
        time_N: Tensor,
        next_time_N: Tensor,
        condition: Mapping[str, Tensor],
        micro: Mapping[str, Tensor],
    ) -> Tensor:
        """Latents [N, ...] at the next time; data itself where that is the path's end."""
        wide_N = gaussian.at_least_float32(noisy_N)
        prediction_N = self.predict(wide_N, time_N, condition, micro)
        between = transitions.Step.between(self.model, time_N, next_time_N)
        return transitions.noiseless(between, prediction_N, wide_N, self.model.prediction)


def rows_at(time: Tensor, like: Tensor) -> Tensor:
    """One time [] for every row of `like` [N, ...], on its device."""
    return time.to(like.device).expand(len(like))
