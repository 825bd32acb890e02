"""Stochastic denoising steps: the Gaussian from which the next, less noisy latent is drawn.

    x_s = a x0 + s e  ->  x_s' ~ N(mean(x_s, prediction), std^2),   s' < s

| step       | noise                     | of                                                             |
|------------|---------------------------|----------------------------------------------------------------|
| `FlowSDE`  | 0.7 sqrt(s / (1 - s))     | Flow-GRPO (Liu et al., arXiv 2505.05470)                       |
| `DanceSDE` | 0.25, constant            | DanceGRPO (Xue et al., arXiv 2505.07818)                       |
| `CPS`      | s' sin(0.8 pi / 2)        | Coefficients-Preserving Sampling (arXiv 2509.05952)            |
| `DDIM`     | posterior deviation * eta | DDIM (Song et al., arXiv 2010.02502, eq. 12), DDPO at eta = 1  |

The first two are Euler-Maruyama on dx = [v - (sigma^2 / 2) score] dt + sigma dw, whose marginals are those of the
flow's ODE, and need a flow; `as_flow.AsFlow` makes one of any path. The last two put the data and noise of a prediction
together with less of that noise and some fresh one, and work on any path.

A log-prob is the *mean* over all dimensions of the latent, not their sum, and so is a KL: a ratio of two policies is
then of the order of 1 + 1e-4, and clip ranges of the papers mean what they say. Coefficients are taken in float64,
latents in at least float32.

Where we differ:

1. `DDIM` takes its variance from the two noise levels, (s'/s)^2 (s^2 - (a/a')^2 s'^2); with a^2 + s^2 = 1 that is the
   paper's (1 - abar') / (1 - abar) * (1 - abar / abar').
2. Flow-GRPO's code divides its KL by 2 sigma^2, not by the step's variance 2 sigma^2 (s - s'). The exact KL is the
   default; `FlowSDE(kl="code")` is theirs, and with it their beta.

Shape legend: N rows, `...` the shape of a latent.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError, RecipeError
from penchant.likelihoods import gaussian
from penchant.likelihoods.gaussian import across, at_least_float32

DATA = -1
"""The time of data itself on a discrete schedule, whose timestep 0 still holds some noise. A flow's is 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """Between which two noise levels each of N rows steps: coefficients of data (a) and noise (s), float64 [N]."""

    a_N: Tensor
    s_N: Tensor
    next_a_N: Tensor
    next_s_N: Tensor

    @classmethod
    def between(cls, model: Any, time_N: Tensor, next_time_N: Tensor) -> Step:
        """From times in the model's own convention: sigma of a flow, timesteps of a schedule (`DATA` for data)."""
        a_N, s_N = _coefficients(model, time_N)
        next_a_N, next_s_N = _coefficients(model, next_time_N)
        return cls(a_N=a_N, s_N=s_N, next_a_N=next_a_N, next_s_N=next_s_N)

    @property
    def length_N(self) -> Tensor:
        """s - s', positive: the -dt of a flow."""
        return self.s_N - self.next_s_N


def _coefficients(model: Any, time_N: Tensor) -> tuple[Tensor, Tensor]:
    if model.alphas_cumprod is None:
        return gaussian.flow_coefficients(time_N.double())
    a_N, s_N = gaussian.ddpm_coefficients(model.alphas_cumprod.double().to(time_N.device), time_N.clamp(min=0))
    data_N = time_N < 0
    return torch.where(data_N, 1.0, a_N), torch.where(data_N, 0.0, s_N)


def noiseless(step: Step, prediction_N: Tensor, noisy_N: Tensor, quantity: gaussian.Quantity) -> Tensor:
    """The next latents [N, ...] along the ODE, a' x0 + s' e: Euler on a flow, DDIM at eta = 0 elsewhere."""
    x0_N, noise_N = gaussian.to_data_and_noise(prediction_N, noisy_N, step.a_N, step.s_N, quantity)
    return gaussian.add_noise(x0_N, noise_N, step.next_a_N, step.next_s_N)


class Transition(ABC):
    """How a stochastic step goes; frozen options.

    Attributes:
        flows_only: it is defined on the straight paths of flows alone.
        noisy_at_data: a step that ends at data still adds noise, so that it can have a log-prob.
    """

    flows_only: ClassVar[bool]
    noisy_at_data: ClassVar[bool]
    cite: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def strength(self) -> float:
        """How much noise; with 0 the step is the ODE's and has no density."""

    @abstractmethod
    def std(self, step: Step) -> Float[Tensor, " N"]:
        """Standard deviation of the step, the same for every dimension."""

    @abstractmethod
    def mean(self, step: Step, prediction_N: Tensor, noisy_N: Tensor, quantity: gaussian.Quantity) -> Tensor:
        """Mean of the next latents [N, ...], differentiable in the prediction."""

    def log_prob(self, next_N: Tensor, mean_N: Tensor, std_N: Tensor) -> Float[Tensor, " N"]:
        """Log-density of the next latents, the mean over all dimensions of a latent."""
        std = across(std_N, mean_N)
        z_N = (at_least_float32(next_N) - mean_N) / std
        density_N = -0.5 * z_N.square() - std.log() - 0.5 * math.log(2 * math.pi)
        return density_N.flatten(1).mean(-1)

    def kl_std(self, step: Step) -> Float[Tensor, " N"]:
        """The deviation by which the distance of two means becomes a KL: the step's own."""
        return self.std(step)

    def check(self, model: Any) -> None:
        """Refuses a model on whose path the step is not defined.

        Raises:
            ModelError: it is no flow, and the step wants one.
        """
        if self.flows_only and model.prediction != "velocity":
            raise ModelError(
                f"{type(self).__name__} walks flows, and the model predicts {model.prediction}.",
                field="transition",
                remedy=f"use AsFlow(step={type(self).__name__}()), DDIM() or CPS().",
            )


def gaussian_kl(mean: Tensor, other: Tensor, std: Tensor, *, batch_dims: int = 1) -> Tensor:
    """KL of two Gaussians of equal deviation, the mean over dimensions: mean((m - m')^2) / (2 std^2)."""
    return gaussian.mean_error(mean, other, batch_dims=batch_dims) / (2 * std.square())


@final
@dataclass(frozen=True, kw_only=True)
class FlowSDE(Transition):
    """Flow-GRPO's step: sigma = noise * sqrt(s / (1 - s)).

        mean = x (1 - sigma^2 / (2 s) d) - v (1 + sigma^2 (1 - s) / (2 s)) d,   std = sigma sqrt(d),   d = s - s'

    At pure noise sigma would be infinite; there 1 - s' stands for 1 - s, as in the code.

    Args:
        noise: strength a of the noise.
        kl: "exact", or "code": over 2 sigma^2 instead of 2 sigma^2 d, as flow_grpo's code has it.
    """

    flows_only: ClassVar[bool] = True
    noisy_at_data: ClassVar[bool] = True
    cite: ClassVar[tuple[str, ...]] = ("liu2025flowgrpo",)

    noise: float = 0.7
    kl: Literal["exact", "code"] = "exact"

    def __post_init__(self) -> None:
        _check(self.noise, "noise", most=None)
        if self.kl not in ("exact", "code"):
            raise RecipeError(f"no KL is called '{self.kl}'.", field="kl", remedy="use exact or code.")

    @property
    def strength(self) -> float:
        """a."""
        return self.noise

    def _sigma(self, step: Step) -> Tensor:
        room_N = 1 - torch.where(step.s_N == 1, step.next_s_N, step.s_N)
        return self.noise * (step.s_N / room_N).sqrt()

    def std(self, step: Step) -> Float[Tensor, " N"]:
        """sigma sqrt(s - s')."""
        return self._sigma(step) * step.length_N.sqrt()

    def mean(self, step: Step, prediction_N: Tensor, noisy_N: Tensor, quantity: gaussian.Quantity) -> Tensor:
        """Euler-Maruyama's."""
        return _sde_mean(step, self._sigma(step), prediction_N, noisy_N)

    def kl_std(self, step: Step) -> Float[Tensor, " N"]:
        """The step's own, or sigma."""
        return self.std(step) if self.kl == "exact" else self._sigma(step)


@final
@dataclass(frozen=True, kw_only=True)
class DanceSDE(Transition):
    """DanceGRPO's step: the same sigma at every time.

        mean = x - v d + eta^2 / 2 * score * d,   score = -(x - (1 - s) x0) / s^2,   std = eta sqrt(d),   d = s - s'

    Args:
        eta: sigma.
    """

    flows_only: ClassVar[bool] = True
    noisy_at_data: ClassVar[bool] = True
    cite: ClassVar[tuple[str, ...]] = ("xue2025dancegrpo",)

    eta: float = 0.25

    def __post_init__(self) -> None:
        _check(self.eta, "eta", most=None)

    @property
    def strength(self) -> float:
        """eta."""
        return self.eta

    def std(self, step: Step) -> Float[Tensor, " N"]:
        """eta sqrt(s - s')."""
        return self.eta * step.length_N.sqrt()

    def mean(self, step: Step, prediction_N: Tensor, noisy_N: Tensor, quantity: gaussian.Quantity) -> Tensor:
        """Euler-Maruyama's."""
        return _sde_mean(step, torch.full_like(step.s_N, self.eta), prediction_N, noisy_N)


@final
@dataclass(frozen=True, kw_only=True)
class CPS(Transition):
    """A step that keeps the noise level where the schedule wants it, however much of the noise is fresh.

        std = s' sin(noise pi / 2),   mean = a' x0 + sqrt(s'^2 - std^2) e

    Its log-prob is -mean((x' - mean)^2), without the scale of a density, as in the paper's code: steps then weigh alike
    at every noise level.

    Args:
        noise: 0 for the ODE, 1 for noise that is all fresh.
    """

    flows_only: ClassVar[bool] = False
    noisy_at_data: ClassVar[bool] = False
    cite: ClassVar[tuple[str, ...]] = ("wang2025cps",)

    noise: float = 0.8

    def __post_init__(self) -> None:
        _check(self.noise, "noise", most=1)

    @property
    def strength(self) -> float:
        """The share of fresh noise."""
        return self.noise

    def std(self, step: Step) -> Float[Tensor, " N"]:
        """s' sin(noise pi / 2)."""
        return step.next_s_N * math.sin(self.noise * math.pi / 2)

    def mean(self, step: Step, prediction_N: Tensor, noisy_N: Tensor, quantity: gaussian.Quantity) -> Tensor:
        """Data, and what stays of the noise."""
        return _mixed_mean(step, self.std(step), prediction_N, noisy_N, quantity)

    def log_prob(self, next_N: Tensor, mean_N: Tensor, std_N: Tensor) -> Float[Tensor, " N"]:
        """-mean((x' - mean)^2)."""
        return -gaussian.mean_error(next_N, mean_N)


@final
@dataclass(frozen=True, kw_only=True)
class DDIM(Transition):
    """DDIM with noise, DDPO's step at eta = 1 (there it is DDPM's posterior).

        std = eta s'/s sqrt(s^2 - (a/a')^2 s'^2),   mean = a' x0 + sqrt(s'^2 - std^2) e

    Args:
        eta: 0 for the ODE, 1 for ancestral sampling.
    """

    flows_only: ClassVar[bool] = False
    noisy_at_data: ClassVar[bool] = False
    cite: ClassVar[tuple[str, ...]] = ("black2024ddpo",)

    eta: float = 1.0

    def __post_init__(self) -> None:
        _check(self.eta, "eta", most=1)

    @property
    def strength(self) -> float:
        """eta."""
        return self.eta

    def std(self, step: Step) -> Float[Tensor, " N"]:
        """eta times the deviation of x' given x and x0."""
        kept_N = (step.a_N / step.next_a_N * step.next_s_N).square()
        return self.eta * step.next_s_N / step.s_N * (step.s_N.square() - kept_N).clamp(min=0).sqrt()

    def mean(self, step: Step, prediction_N: Tensor, noisy_N: Tensor, quantity: gaussian.Quantity) -> Tensor:
        """Data, and what stays of the noise."""
        return _mixed_mean(step, self.std(step), prediction_N, noisy_N, quantity)


def _sde_mean(step: Step, sigma_N: Tensor, velocity_N: Tensor, noisy_N: Tensor) -> Tensor:
    """x - [v - sigma^2 / 2 * score] d, with score = -(x + (1 - s) v) / s."""
    x_N, v_N = at_least_float32(noisy_N), at_least_float32(velocity_N)
    pull_N = sigma_N.square() / (2 * step.s_N)
    of_x_N, of_v_N = 1 - pull_N * step.length_N, -(1 + pull_N * (1 - step.s_N)) * step.length_N
    return across(of_x_N, x_N) * x_N + across(of_v_N, x_N) * v_N


def _mixed_mean(
    step: Step, std_N: Tensor, prediction_N: Tensor, noisy_N: Tensor, quantity: gaussian.Quantity
) -> Tensor:
    """a' x0 + sqrt(s'^2 - std^2) e."""
    wide_N = at_least_float32(noisy_N)
    x0_N, noise_N = gaussian.to_data_and_noise(at_least_float32(prediction_N), wide_N, step.a_N, step.s_N, quantity)
    left_N = (step.next_s_N.square() - std_N.square()).clamp(min=0).sqrt()
    return gaussian.add_noise(x0_N, noise_N, step.next_a_N, left_N)


def _check(value: float, name: str, *, most: float | None) -> None:
    if not (0 <= value < math.inf and (most is None or value <= most)):
        where = "0 or more" if most is None else f"from 0 to {most}"
        raise RecipeError(f"{value} is no strength of noise.", field=name, remedy=f"use a number {where}.")
