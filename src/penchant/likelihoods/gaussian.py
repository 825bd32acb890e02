"""Gaussian corruption: schedules, the conversions between what denoisers predict, and the error they are judged by.

Both families corrupt data x0 with noise eps as

    x_t = a * x0 + s * eps
    DDPM: a = sqrt(alphas_cumprod), s = sqrt(1 - alphas_cumprod)        flow: a = 1 - t, s = t

and everything a denoiser may predict is y = p * x0 + q * eps:

    sample (1, 0)    epsilon (0, 1)    v_prediction (-s, a)    velocity (-1, 1)    score (0, -1/s)

so that one 2x2 system converts any prediction into any other. Time runs from data (t = 0) to noise (t = 1).

Shape legend: N rows, `...` the shape of a latent.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Quantity = Literal["epsilon", "v_prediction", "sample", "velocity", "score"]
BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision becomes float32; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()


def mean_error(prediction: Tensor, target: Tensor, *, batch_dims: int = 1) -> Tensor:
    """Mean squared error over all dimensions but the first `batch_dims`, in float32 whatever the autocast.

    At beta 5000 a mean taken in bfloat16 is off by up to one logit, so the operands are widened before the difference.
    """
    error = (at_least_float32(prediction) - at_least_float32(target)).square()
    return error.flatten(batch_dims).mean(-1) if error.dim() > batch_dims else error


# --- discrete schedules ---------------------------------------------------------------------------------------------


def alphas_cumprod(
    schedule: BetaSchedule = "scaled_linear",
    *,
    steps: int = 1000,
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
) -> Float[Tensor, " steps"]:
    """Cumulative signal power of a discrete schedule, in float64.

    The defaults are Stable Diffusion's. `squaredcos_cap_v2` (Nichol and Dhariwal, arXiv 2102.09672, eq. 17, with betas
    capped at 0.999) ignores the two betas.
    """
    if schedule == "linear":
        betas = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
    elif schedule == "scaled_linear":
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64).square()
    elif schedule == "squaredcos_cap_v2":
        u = torch.arange(steps + 1, dtype=torch.float64) / steps
        power = torch.cos((u + 0.008) / 1.008 * math.pi / 2).square()
        betas = (1 - power[1:] / power[:-1]).clamp(max=0.999)
    else:
        raise ValueError(f"unknown schedule '{schedule}'; known: linear, scaled_linear, squaredcos_cap_v2.")
    return (1 - betas).cumprod(0)


def zero_terminal_snr(alphas_cumprod: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    """The schedule shifted and scaled so that the last step is pure noise (Lin et al., 2305.08891, algorithm 1)."""
    signal = at_least_float32(alphas_cumprod).sqrt()
    first, last = signal[0], signal[-1]
    return ((signal - last) * first / (first - last)).square()


# --- the two families of coefficients -------------------------------------------------------------------------------


def ddpm_coefficients(alphas_cumprod: Float[Tensor, " steps"], time_N: Tensor) -> tuple[Tensor, Tensor]:
    """(a, s) of integer timesteps: sqrt(alphas_cumprod) and sqrt(1 - alphas_cumprod)."""
    power = alphas_cumprod[time_N]
    return power.sqrt(), (1 - power).sqrt()


def flow_coefficients(time_N: Tensor) -> tuple[Tensor, Tensor]:
    """(a, s) of a straight path: 1 - t and t."""
    return 1 - time_N, time_N


def across(coefficient_N: Tensor, like: Tensor) -> Tensor:
    """Coefficients [N] in the type of `like`, shaped to multiply rows [N, ...]."""
    return coefficient_N.to(like).reshape(coefficient_N.shape + (1,) * (like.dim() - coefficient_N.dim()))


def add_noise(x0: Tensor, noise: Tensor, a_N: Tensor, s_N: Tensor) -> Tensor:
    """x_t = a * x0 + s * eps."""
    return across(a_N, x0) * x0 + across(s_N, x0) * noise


def _pq(quantity: Quantity, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    known = {
        "sample": lambda: (one, zero),
        "epsilon": lambda: (zero, one),
        "v_prediction": lambda: (-s, a),
        "velocity": lambda: (-one, one),
        "score": lambda: (zero, -1 / s),
    }
    if quantity not in known:
        raise ValueError(f"unknown quantity '{quantity}'; known: {', '.join(known)}.")
    return known[quantity]()


def target(quantity: Quantity, x0: Tensor, noise: Tensor, a_N: Tensor, s_N: Tensor) -> Tensor:
    """What a perfect denoiser of this kind answers: p * x0 + q * eps."""
    p, q = _pq(quantity, across(a_N, x0), across(s_N, x0))
    return p * x0 + q * noise


def to_data_and_noise(
    prediction: Tensor, noisy: Tensor, a_N: Tensor, s_N: Tensor, quantity: Quantity
) -> tuple[Tensor, Tensor]:
    """(x0, eps) that a prediction at `noisy` implies.

    Solves a * x0 + s * eps = x_t, p * x0 + q * eps = y. The determinant a*q - s*p is a for epsilon and s for sample, so
    epsilon says nothing about x0 at pure noise and sample nothing about eps at pure data: both divide by zero there.
    """
    a, s = across(a_N, noisy), across(s_N, noisy)
    p, q = _pq(quantity, a, s)
    determinant = a * q - s * p
    return (q * noisy - s * prediction) / determinant, (a * prediction - p * noisy) / determinant


def convert(prediction: Tensor, noisy: Tensor, a_N: Tensor, s_N: Tensor, *, source: Quantity, to: Quantity) -> Tensor:
    """A prediction of kind `source` at `noisy` as a prediction of kind `to`."""
    if source == to:
        return prediction
    x0, noise = to_data_and_noise(prediction, noisy, a_N, s_N, source)
    return target(to, x0, noise, a_N, s_N)


def noise_slope(quantity: Quantity, a_N: Tensor, s_N: Tensor) -> Tensor:
    """How a prediction answers when the noise it implies grows by one and x_t stays: dy / d eps = q - p * s / a.

    1 for epsilon, 1 / (1 - t) for a flow's velocity, 1 / a for v_prediction, -s / a for sample. It turns a change of
    the score into one of the prediction, and is infinite at pure noise for all but epsilon.
    """
    if quantity == "epsilon":
        return torch.ones_like(a_N)
    p, q = _pq(quantity, a_N, s_N)
    return q - p * s_N / a_N


# --- flow time ------------------------------------------------------------------------------------------------------


def shift_time(time: Tensor, shift: float) -> Tensor:
    """t' = k t / (1 + (k - 1) t): k > 1 spends more of the path near noise (Esser et al., arXiv 2403.03206, eq. 23)."""
    return shift * time / (1 + (shift - 1) * time)


def dynamic_shift(
    tokens: int,
    *,
    form: Literal["exponential", "linear"] = "exponential",
    base_tokens: int = 256,
    max_tokens: int = 4096,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
) -> float:
    """The shift k for a latent of `tokens` tokens: mu is linear in the tokens, k = exp(mu) or mu.

    The defaults are FLUX's; LTX uses 0.95 at 1024 tokens and 2.05 at 4096.

        >>> round(dynamic_shift(4096), 4)
        3.1582
    """
    mu = base_shift + (max_shift - base_shift) * (tokens - base_tokens) / (max_tokens - base_tokens)
    return math.exp(mu) if form == "exponential" else mu


def flow_sigmas(steps: int, shift: float = 1.0) -> Float[Tensor, " steps"]:
    """Times of a flow schedule from noise (1) down to the last step before data, in float64; a sampler appends 0.

    Our own, because a scheduler that stores its smallest sigma after the shift shifts the tail of the path twice.
    """
    grid = torch.arange(steps, 0, -1, dtype=torch.float64) / steps
    return shift_time(grid, shift)
