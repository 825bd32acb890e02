"""Flow-NRG: a reward on noised latents steers sampling (VideoAlign, arXiv 2501.13918, eq. 11).

Samples are drawn from p(x_t | y) * exp(r(x_t, y, t))^w in place of p(x_t | y). That adds w * grad r to the score, so it
takes w * s * grad r from the noise that a model implies, whatever it predicts:

    velocity     v~   = v   - w * t / (1 - t) * grad r         the paper's, on a straight path
    epsilon      eps~ = eps - w * sqrt(1 - abar) * grad r
    any other    y~   = y   - w * s * (dy / d eps) * grad r    `penchant.likelihoods.gaussian.noise_slope`

The reward has named dimensions, and the user weighs them at every run: r = sum of weight_k * r_k. What the model
predicts comes with classifier-free guidance applied; the reward comes after it.

Where we differ:

1. Pure noise (t = 1) is skipped, as in the paper. `interval` and `relative_clip` are ours: near noise t / (1 - t) grows
   without bound, and a reward that was trained on pairs with the same noise has gradients that do not fall there.
2. The paper's scale of 100 belongs to its own reward. Ours begins at 1, which is Bayes' rule for a reward whose values
   are logits.

Shape legend: N rows that stand at the same time, D dimensions, `...` the shape of a latent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError, RecipeError, nearest
from penchant.likelihoods import gaussian

# Less signal than this is none: solvers that cannot bear t = 1 begin at 0.999999.
PURE_NOISE = 1e-4


class LatentReward(Protocol):
    """A reward that reads noised latents.

    Attributes:
        dimensions: names of the columns of `score`.
        name: changes when the scores do.
    """

    dimensions: tuple[str, ...]
    name: str

    def score(self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor]) -> Float[Tensor, "N D"]:
        """Rewards, larger = better, differentiable in the latents.

        Args:
            noisy_N: latents [N, ...] at a * x0 + s * eps, as `Denoiser.denoise` takes them.
            time_N: the time [N], in the generator's own convention, as `Denoiser.denoise` takes it.
            condition: the prompts' tensors [N, ...], as the generator encodes them.
        """


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where on the path all N rows stand.

    Attributes:
        time: the model's own time: an integer timestep (diffusion) or sigma (flow).
        a: coefficient of the data.
        s: coefficient of the noise.
    """

    time: float
    a: float
    s: float

    @property
    def level(self) -> float:
        """The noise level in [0, 1], s / (a + s): the flow time of the same signal-to-noise ratio."""
        return self.s / (self.a + self.s)

    def coefficients(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(a, s) as tensors without dimensions, in at least float32, on the device of `like`."""
        wide = gaussian.at_least_float32(like)
        return wide.new_tensor(self.a), wide.new_tensor(self.s)

    def times(self, like: Tensor) -> Tensor:
        """The time of each row [N] of `like`: integers for a timestep, float32 for a sigma."""
        return torch.full((len(like),), self.time, device=like.device)


@dataclass(frozen=True, kw_only=True)
class RewardGuidance:
    """How strongly which dimensions of a reward steer.

    Attributes:
        weights: weight of each dimension of the reward; one that is not named weighs nothing.
        scale: the w of the paper, 0 for no guidance.
        interval: first and last noise level at which it acts.
        relative_clip: the push is at most this fraction of the prediction's norm, sample by sample; None for no limit.
    """

    weights: Mapping[str, float]
    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    relative_clip: float | None = None

    def __post_init__(self) -> None:
        if not self.weights:
            raise RecipeError("no dimension has a weight.", field="weights", remedy='give one, e.g. {"VQ": 1.0}.')
        values = {**self.weights, "scale": self.scale}
        if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
            raise RecipeError(f"{values[wrong[0]]} is no weight.", field=wrong[0], remedy="give a finite number.")
        if not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise RecipeError(
                f"{self.interval} is no interval of noise levels.", field="interval", remedy="use (0.0, 1.0) for all."
            )
        if self.relative_clip is not None and self.relative_clip <= 0:
            raise RecipeError(
                f"a push clipped to {self.relative_clip} is none.",
                field="relative_clip",
                remedy="use a positive fraction, or None for no limit.",
            )

    def acts(self, at: Position) -> bool:
        """Whether anything is pushed there; where nothing is, the reward is not asked."""
        inside = self.interval[0] <= at.level <= self.interval[1]
        return bool(self.scale and any(self.weights.values()) and at.a > PURE_NOISE and inside)

    def steered(
        self,
        prediction_N: Tensor,
        noisy_N: Tensor,
        at: Position,
        *,
        quantity: gaussian.Quantity,
        reward: LatentReward,
        condition: Mapping[str, Tensor],
    ) -> Tensor:
        """The prediction [N, ...] that also follows the reward; the same tensor where guidance does not act.

        Raises:
            RecipeError: a weight names no dimension of the reward.
            ModelError: the reward's gradient is not finite.
        """
        if not self.acts(at):
            return prediction_N
        gradient_N = self.gradient(noisy_N, at.times(noisy_N), reward=reward, condition=condition)
        a, s = at.coefficients(noisy_N)
        push_N = self.scale * s * gaussian.noise_slope(quantity, a, s) * gradient_N
        if self.relative_clip is not None:
            push_N = _clipped(push_N, self.relative_clip * _norm(prediction_N))
        return (prediction_N - push_N).to(prediction_N.dtype)

    def gradient(
        self, noisy_N: Tensor, time_N: Tensor, *, reward: LatentReward, condition: Mapping[str, Tensor]
    ) -> Tensor:
        """d (sum of weight_k * r_k) / d latents [N, ...], in at least float32. Raises as `steered`."""
        for name in self.weights:
            if name not in reward.dimensions:
                raise RecipeError(
                    f"the reward has no dimension '{name}'.",
                    field="weights",
                    remedy=nearest(name, list(reward.dimensions)),
                )
        # Pipelines sample without gradients; these are the reward's own.
        with torch.enable_grad():
            latents_N = gaussian.at_least_float32(noisy_N.detach()).requires_grad_()
            scores_ND = reward.score(latents_N, time_N, condition)
            weights_D = scores_ND.new_tensor([self.weights.get(name, 0.0) for name in reward.dimensions])
            (gradient_N,) = torch.autograd.grad((scores_ND * weights_D).sum(), latents_N)
        if not gradient_N.isfinite().all():
            raise ModelError(
                f"the reward's gradient is not finite at time {float(time_N[0]):g}.",
                remedy="narrow the guidance interval.",
            )
        return gradient_N


def _norm(value_N: Tensor) -> Tensor:
    """Euclidean norm of each row [N, 1, ...]."""
    rows_N = gaussian.at_least_float32(value_N).flatten(1).norm(dim=1)
    return rows_N.reshape(-1, *[1] * (value_N.dim() - 1))


def _clipped(value_N: Tensor, limit_N: Tensor) -> Tensor:
    """Rows made shorter where they are longer than their limit."""
    length_N = _norm(value_N)
    return torch.where(length_N > limit_N, value_N * limit_N / length_N, value_N)
