"""From noise to data along the probability-flow ODE, for any `Denoiser`: Euler on a flow, DDIM on a diffusion model.

Both are one step. A prediction implies data and noise, and the same two make the next, less noisy latent:

    (x0, eps) from the prediction at x_t,    x_t' = a' * x0 + s' * eps

On a straight path that is x + (t' - t) * v (Euler), on a variance-preserving one DDIM without noise (Song et al., arXiv
2010.02502, eq. 12). Our own, because it shows every prediction to whoever wants to steer, and because a scheduler that
stores its smallest sigma after the shift walks the tail of the path twice over.

Shape legend: N samples, `...` the shape of a latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from penchant.errors import ModelError, RecipeError
from penchant.likelihoods import gaussian
from penchant.sampling.guidance import LatentReward, Position, RewardGuidance
from penchant.types import Denoiser

DATA = Position(time=0, a=1.0, s=0.0)


def path(model: Denoiser, steps: int) -> list[Position]:
    """Where a model of `steps` steps stands, from noise to data; the last is data itself.

    Flows walk their shifted times (`gaussian.flow_sigmas`), diffusion models evenly spaced timesteps that begin at the
    last one ("trailing", Lin et al., arXiv 2305.08891).

    Raises:
        RecipeError: no step.
        ModelError: an epsilon model whose schedule ends at pure noise, where noise says nothing about data.
    """
    if steps < 1:
        raise RecipeError(f"{steps} steps lead nowhere.", field="steps", remedy="use 1 or more.")
    if model.alphas_cumprod is None:
        times = gaussian.flow_sigmas(steps, model.shift).tolist()
        return [*(Position(time=t, a=1 - t, s=t) for t in times), DATA]
    count = len(model.alphas_cumprod)
    if steps > count:
        raise RecipeError(f"the model knows {count} steps.", field="steps", remedy=f"use at most {count}.")
    indices = (torch.arange(steps, 0, -1, dtype=torch.float64) * count / steps).round().long() - 1
    a, s = gaussian.ddpm_coefficients(model.alphas_cumprod.double().cpu(), indices)
    if model.prediction == "epsilon" and a[0] == 0:
        raise ModelError("an epsilon model cannot begin at zero signal.", remedy="use a v-prediction model.")
    spots = zip(indices.tolist(), a.tolist(), s.tolist(), strict=True)
    return [*(Position(time=t, a=a_t, s=s_t) for t, a_t, s_t in spots), DATA]


def start_noise(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Standard normal latents [N, *shape], each from its own seed: those a pipeline draws from such generators."""
    rows = [torch.randn(1, *shape, generator=torch.Generator("cpu").manual_seed(int(seed))) for seed in seeds]
    return torch.cat(rows)


@dataclass(frozen=True, kw_only=True)
class Steering:
    """A reward and how strongly it steers."""

    reward: LatentReward
    guidance: RewardGuidance


@torch.no_grad()
def integrate(
    model: Denoiser,
    noise_N: Tensor,
    condition: Mapping[str, Tensor],
    *,
    steps: int,
    guidance: float = 1.0,
    candidates: Mapping[str, Tensor] | None = None,
    steering: Steering | None = None,
) -> Tensor:
    """Latents [N, ...] that the model makes of noise.

    Args:
        model: the generator.
        noise_N: standard normal latents [N, ...].
        condition: prompt tensors, each [N, ...].
        steps: model calls, twice as many with classifier-free guidance.
        guidance: scale of classifier-free guidance, 1.0 for none. The reward steers what comes out of it.
        candidates: micro-conditioning [N, ...], for models that have some.
        steering: the reward that steers, or None.
    """
    micro, quantity = candidates or {}, model.prediction
    empty = {name: _rows(value, len(noise_N)) for name, value in model.unconditional().items()}
    latents_N = gaussian.at_least_float32(noise_N)
    for at, next_ in pairwise(path(model, steps)):
        time_N = at.times(latents_N)
        prediction_N = model.denoise(latents_N, time_N, condition, micro)
        if guidance != 1.0:
            without_N = model.denoise(latents_N, time_N, {**condition, **empty}, micro)
            prediction_N = without_N + guidance * (prediction_N - without_N)
        if steering is not None:
            prediction_N = steering.guidance.steered(
                prediction_N, latents_N, at, quantity=quantity, reward=steering.reward, condition=condition
            )
        a, s = at.coefficients(latents_N)
        x0_N, eps_N = gaussian.to_data_and_noise(prediction_N, latents_N, a, s, quantity)
        latents_N = next_.a * x0_N + next_.s * eps_N
    return latents_N


def _rows(value: Tensor, count: int) -> Tensor:
    return value.expand(count, *value.shape[1:])
