"""Schedules and conversions: what the corruption of data by noise means, in every parameterisation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from penchant.likelihoods import gaussian

KINDS = ("epsilon", "v_prediction", "sample", "velocity", "score")
PATHS = ("ddpm", "flow")
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


def _point(path: str) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 6, 2, 3, 3, generator=g, dtype=torch.float64)
    if path == "flow":
        a, s = gaussian.flow_coefficients(torch.linspace(0.05, 0.95, 6, dtype=torch.float64))
    else:
        a, s = gaussian.ddpm_coefficients(gaussian.alphas_cumprod(), torch.tensor([0, 1, 250, 500, 900, 999]))
    return x0, noise, a, s


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("to", KINDS)
def test_conversions_round_trip(path: str, source: gaussian.Quantity, to: gaussian.Quantity) -> None:
    x0, noise, a, s = _point(path)
    noisy = gaussian.add_noise(x0, noise, a, s)
    prediction = gaussian.target(source, x0, noise, a, s)
    there = gaussian.convert(prediction, noisy, a, s, source=source, to=to)
    assert_close(there, gaussian.target(to, x0, noise, a, s), rtol=1e-9, atol=1e-9)
    assert_close(gaussian.convert(there, noisy, a, s, source=to, to=source), prediction, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_determines_data_and_noise(path: str, kind: gaussian.Quantity) -> None:
    x0, noise, a, s = _point(path)
    answer = gaussian.target(kind, x0, noise, a, s)
    x0_again, noise_again = gaussian.to_data_and_noise(answer, gaussian.add_noise(x0, noise, a, s), a, s, kind)
    assert_close(x0_again, x0, rtol=1e-9, atol=1e-9)
    assert_close(noise_again, noise, rtol=1e-9, atol=1e-9)


def test_targets_by_hand() -> None:
    x0, noise, a, s = (torch.tensor([v], dtype=torch.float64) for v in (2.0, 3.0, 0.6, 0.8))
    by_hand = {"sample": 2.0, "epsilon": 3.0, "v_prediction": 0.6 * 3 - 0.8 * 2, "velocity": 1.0, "score": -3 / 0.8}
    for kind, value in by_hand.items():
        assert_close(gaussian.target(kind, x0, noise, a, s).item(), value)


def test_score_is_the_gradient_of_the_corruption_density() -> None:
    x0, noise, a, s = _point("flow")
    x = gaussian.add_noise(x0, noise, a, s).requires_grad_()
    shape = (-1, 1, 1, 1)
    torch.distributions.Normal(a.reshape(shape) * x0, s.reshape(shape)).log_prob(x).sum().backward()
    assert_close(x.grad, gaussian.target("score", x0, noise, a, s))


def test_velocity_is_the_time_derivative_of_the_flow_path() -> None:
    x0, noise, _, _ = _point("flow")
    t, h = torch.full((6,), 0.3, dtype=torch.float64), 1e-6
    ahead, behind = (gaussian.add_noise(x0, noise, *gaussian.flow_coefficients(t + d)) for d in (h, -h))
    assert_close((ahead - behind) / (2 * h), gaussian.target("velocity", x0, noise, 1 - t, t), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_lose_signal_step_by_step(schedule: gaussian.BetaSchedule) -> None:
    power = gaussian.alphas_cumprod(schedule, beta_start=1e-4, beta_end=0.02)
    assert len(power) == 1000
    assert power.dtype == torch.float64
    assert power[0] > 0.99
    assert 0 < power[-1] < 0.01
    assert (power.diff() < 0).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_those_of_diffusers(schedule: gaussian.BetaSchedule) -> None:
    scheduling = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")
    betas = {"beta_start": 0.00085, "beta_end": 0.012}
    peer = scheduling.DDPMScheduler(beta_schedule=schedule, **betas).alphas_cumprod
    assert_close(gaussian.alphas_cumprod(schedule, **betas).float(), peer, rtol=1e-4, atol=1e-6)
    peer = scheduling.DDPMScheduler(beta_schedule=schedule, rescale_betas_zero_snr=True, **betas).alphas_cumprod
    rescaled = gaussian.zero_terminal_snr(gaussian.alphas_cumprod(schedule, **betas))
    assert_close(rescaled.float(), peer, rtol=1e-3, atol=1e-5)


def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_the_start() -> None:
    power = gaussian.alphas_cumprod()
    rescaled = gaussian.zero_terminal_snr(power)
    assert rescaled[-1] == 0
    assert_close(rescaled[0], power[0])
    assert (rescaled.diff() < 0).all()
    assert_close(rescaled[500].sqrt(), (power[500].sqrt() - power[-1].sqrt()) / (1 - (power[-1] / power[0]).sqrt()))


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown schedule"):
        gaussian.alphas_cumprod("cosine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown quantity"):
        gaussian.target("x0", *(torch.ones(1),) * 4)  # type: ignore[arg-type]


def test_shift_keeps_the_ends_and_moves_the_middle_to_noise() -> None:
    t = torch.tensor([0.0, 0.5, 1.0])
    assert_close(gaussian.shift_time(t, 3.0), torch.tensor([0.0, 0.75, 1.0]))
    assert_close(gaussian.shift_time(t, 1.0), t)
    inverse = gaussian.shift_time(gaussian.shift_time(t, 3.0), 1 / 3)
    assert_close(inverse, t)


def test_dynamic_shift_grows_with_the_image() -> None:
    assert_close(gaussian.dynamic_shift(256), math.exp(0.5))
    assert_close(gaussian.dynamic_shift(4096), math.exp(1.15))
    assert_close(gaussian.dynamic_shift(4096, form="linear"), 1.15)
    ltx = {"base_tokens": 1024, "base_shift": 0.95, "max_shift": 2.05}
    assert_close(gaussian.dynamic_shift(2560, **ltx), math.exp(1.5))  # type: ignore[arg-type]
    mu, t = 0.9, torch.tensor([0.1, 0.6, 0.9])
    assert_close(gaussian.shift_time(t, math.exp(mu)), math.exp(mu) / (math.exp(mu) + (1 / t - 1)))
    assert_close(gaussian.shift_time(t, mu), mu / (mu + (1 / t - 1)))


@pytest.mark.parametrize("shift", [1.0, 3.0, 7.0])
def test_flow_sigmas_shift_once(shift: float) -> None:
    sigmas = gaussian.flow_sigmas(10, shift)
    assert sigmas[0] == 1
    assert (sigmas.diff() < 0).all()
    assert_close(sigmas[-1].item(), shift * 0.1 / (1 + (shift - 1) * 0.1))


@pytest.mark.parametrize("shift", [1.0, 3.0, 7.0])
def test_an_exact_velocity_leads_from_noise_to_data(shift: float) -> None:
    x0, noise, _, _ = _point("flow")
    x, sigmas = noise, torch.cat([gaussian.flow_sigmas(8, shift), torch.zeros(1, dtype=torch.float64)])
    for now, then in itertools.pairwise(sigmas):
        x = x + (then - now) * (noise - x0)
    assert_close(x, x0)


def test_mean_error_is_a_mean_over_dims_in_float32() -> None:
    prediction = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 6.0]]])
    assert_close(gaussian.mean_error(prediction, torch.zeros_like(prediction)), torch.tensor([7.5, 9.0]))
    by_row = gaussian.mean_error(prediction, torch.zeros_like(prediction), batch_dims=2)
    assert_close(by_row, torch.tensor([[2.5, 12.5], [0.0, 18.0]]))
    for dtype, reduced in (
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
    ):
        assert gaussian.mean_error(prediction.to(dtype), prediction.to(dtype)).dtype == reduced
    with torch.autocast("cpu", dtype=torch.bfloat16):
        exact = gaussian.mean_error(torch.full((1, 4096), 0.1), torch.zeros(1, 4096))
        assert exact.dtype == torch.float32
        assert_close(exact.item(), 0.01, rtol=1e-6, atol=0)
