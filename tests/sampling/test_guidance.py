"""Flow-NRG where the truth is known: the guided samples of a Gaussian are those of the tilted Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from penchant.errors import ModelError, RecipeError
from penchant.likelihoods import gaussian
from penchant.sampling.guidance import Position, RewardGuidance
from penchant.sampling.ode import DATA, Steering, integrate, path, start_noise
from penchant.types import Denoiser

MEAN = torch.tensor([0.5, -1.0, 0.0])
DEVIATION = 0.5
DIRECTION = torch.tensor([1.0, 0.0, -2.0])
KINDS: tuple[Any, ...] = ("velocity", "epsilon", "v_prediction", "sample")
kinds = pytest.mark.parametrize("kind", KINDS)


class Gaussian(Denoiser):
    """The perfect denoiser of N(MEAN, DEVIATION^2), whatever it predicts; the prompt moves the mean."""

    def __init__(self, kind: Any) -> None:
        self.prediction, self.shift = kind, 1.0
        self.alphas_cumprod = None if kind == "velocity" else gaussian.alphas_cumprod().float()

    def coefficients(self, time_N: Tensor) -> tuple[Tensor, Tensor]:
        if self.alphas_cumprod is None:
            return gaussian.flow_coefficients(time_N)
        return gaussian.ddpm_coefficients(self.alphas_cumprod, time_N)

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        a, s = (c[:, None] for c in self.coefficients(time_N))
        mean = MEAN + condition.get("prompt", torch.zeros(1, 1))
        x0 = mean + a * DEVIATION**2 / (a**2 * DEVIATION**2 + s**2) * (noisy_N - a * mean)
        return gaussian.target(self.prediction, x0, (noisy_N - a * x0) / s, a[:, 0], s[:, 0])

    def unconditional(self) -> Mapping[str, Tensor]:
        return {"prompt": torch.full((1, 1), 0.3)}


@dataclass
class Linear:
    """r = c . x on data, and on noised latents its exact counterpart log E[exp(r(x0)) | x_t], up to a constant."""

    model: Gaussian
    dimensions: tuple[str, ...] = ("up", "down")
    name: str = "linear"
    asked: list[float] = field(default_factory=list)

    def score(self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        self.asked.append(float(time_N[0]))
        a, s = (c[:, None] for c in self.model.coefficients(time_N))
        slope = a * DEVIATION**2 / (a**2 * DEVIATION**2 + s**2)
        up_N = (slope * noisy_N * DIRECTION).sum(-1)
        return torch.stack([up_N, -up_N], -1)


@dataclass
class Steep:
    """A reward whose gradient is the same everywhere."""

    gradient: Tensor
    dimensions: tuple[str, ...] = ("up",)
    name: str = "steep"

    def score(self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        return (noisy_N * self.gradient).sum(-1, keepdim=True)


def samples(kind: Any, scale: float, *, count: int = 1000, steps: int = 80, **options: Any) -> Tensor:
    model = Gaussian(kind)
    noise = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    guidance = RewardGuidance(weights={"up": 1.0}, scale=scale, **options)
    # A schedule that ends before pure noise begins at the tilted law there.
    first = path(model, steps)[0]
    spread = (first.a**2 * DEVIATION**2 + first.s**2) ** 0.5
    noise = first.a * (MEAN + scale * DEVIATION**2 * DIRECTION) + spread * noise
    return integrate(model, noise, {}, steps=steps, steering=Steering(reward=Linear(model), guidance=guidance))


@kinds
@pytest.mark.parametrize("scale", [-0.5, 1.0])
def test_guided_samples_are_those_of_the_tilted_gaussian(kind: Any, scale: float) -> None:
    """exp(w c.x) moves the mean of a Gaussian by w * variance * c and leaves its deviation."""
    drawn = samples(kind, scale)
    bound = 4 * DEVIATION / len(drawn) ** 0.5
    assert_close(drawn.mean(0), MEAN + scale * DEVIATION**2 * DIRECTION, atol=bound, rtol=0)
    assert_close(drawn.std(0), torch.full((3,), DEVIATION), atol=bound, rtol=0)


@kinds
def test_the_reward_rises_with_the_scale(kind: Any) -> None:
    rewards = [(samples(kind, w, count=64, steps=20) @ DIRECTION).mean().item() for w in (-1.0, -0.3, 0.0, 0.3, 1.0)]
    assert rewards == sorted(rewards)
    assert rewards[-1] - rewards[0] > 1


@kinds
def test_scale_or_weights_of_zero_change_no_bit_and_ask_no_reward(kind: Any) -> None:
    model, noise = Gaussian(kind), start_noise((3,), range(5))
    plain = integrate(model, noise, {}, steps=7)
    for guidance in (RewardGuidance(weights={"up": 1.0}, scale=0.0), RewardGuidance(weights={"up": 0.0})):
        reward = Linear(model)
        steered = integrate(model, noise, {}, steps=7, steering=Steering(reward=reward, guidance=guidance))
        assert torch.equal(steered, plain)
        assert not reward.asked


def test_the_push_is_the_papers() -> None:
    """v~ = v - w t/(1-t) grad r on a flow; eps~ = eps - w sqrt(1 - abar) grad r on noise."""
    x, y = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    reward, guidance = Steep(DIRECTION), RewardGuidance(weights={"up": 0.5}, scale=4.0)
    flow = guidance.steered(y, x, Position(time=0.6, a=0.4, s=0.6), quantity="velocity", reward=reward, condition={})
    assert_close(flow, y - 4 * 0.6 / 0.4 * 0.5 * DIRECTION)
    noise = guidance.steered(y, x, Position(time=700, a=0.8, s=0.6), quantity="epsilon", reward=reward, condition={})
    assert_close(noise, y - 4 * 0.6 * 0.5 * DIRECTION)


@kinds
def test_every_prediction_is_pushed_to_the_same_data(kind: Any) -> None:
    """Guided and then converted is converted and then guided."""
    x, y = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at, guidance = Position(time=0.3, a=0.7, s=0.3), RewardGuidance(weights={"up": 1.0})
    a, s = at.coefficients(x)
    options: dict[str, Any] = {"reward": Steep(DIRECTION.double()), "condition": {}}
    of_noise = guidance.steered(y, x, at, quantity="epsilon", **options)
    other = gaussian.convert(y, x, a, s, source="epsilon", to=kind)
    guided = guidance.steered(other, x, at, quantity=kind, **options)
    assert_close(gaussian.convert(guided, x, a, s, source=kind, to="epsilon"), of_noise)


def test_classifier_free_guidance_comes_first() -> None:
    """v_u + g (v_c - v_u), then - w t/(1-t) grad r, by hand at the second of two steps."""
    model, noise = Gaussian("velocity"), start_noise((3,), range(4))
    prompt = {"prompt": torch.full((4, 1), 2.0)}
    steering = Steering(reward=Steep(DIRECTION), guidance=RewardGuidance(weights={"up": 1.0}, scale=0.7))
    got = integrate(model, noise, prompt, steps=2, guidance=3.0, steering=steering)
    x = noise
    for t, push in ((1.0, 0.0), (0.5, 0.7 * 0.5 / 0.5)):
        time_N = torch.full((4,), t)
        with_, without = (model.denoise(x, time_N, {"prompt": torch.full((4, 1), p)}, {}) for p in (2.0, 0.3))
        x = x - 0.5 * (without + 3.0 * (with_ - without) - push * DIRECTION)
    assert_close(got, x)


def test_pure_noise_is_skipped_and_nothing_else() -> None:
    model, noise = Gaussian("velocity"), start_noise((3,), range(4))
    reward = Linear(model)
    integrate(model, noise, {}, steps=4, steering=Steering(reward=reward, guidance=RewardGuidance(weights={"up": 1.0})))
    assert reward.asked == [0.75, 0.5, 0.25]


@kinds
def test_outside_the_interval_nothing_is_pushed(kind: Any) -> None:
    """The interval is of noise levels, s / (a + s), so that it means the same to every model."""
    model, noise = Gaussian(kind), start_noise((3,), range(4))
    reward, guidance = Linear(model), RewardGuidance(weights={"up": 1.0}, interval=(0.25, 0.6))
    integrate(model, noise, {}, steps=20, steering=Steering(reward=reward, guidance=guidance))
    inside = [at.time for at in path(model, 20) if 0.25 <= at.level <= 0.6]
    assert reward.asked == pytest.approx(inside)
    assert 0 < len(inside) < 20


def test_a_clipped_push_is_a_fraction_of_the_prediction_in_the_same_direction() -> None:
    x, y = torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    at, reward = Position(time=0.5, a=0.5, s=0.5), Steep(1e3 * DIRECTION, dimensions=("up",))
    reward.score = lambda x, t, c: (x * 1e3 * DIRECTION).sum((1, 2))[:, None]  # type: ignore[method-assign]
    options: dict[str, Any] = {"quantity": "velocity", "reward": reward, "condition": {}}
    pushes = [
        RewardGuidance(weights={"up": 1.0}, relative_clip=c).steered(y, x, at, **options) - y for c in (None, 0.1, 1e9)
    ]
    lengths = [push.flatten(1).norm(dim=1) for push in pushes]
    assert_close(lengths[1], 0.1 * y.flatten(1).norm(dim=1))
    assert_close(pushes[1] / lengths[1][:, None, None], pushes[0] / lengths[0][:, None, None], atol=1e-5, rtol=1e-4)
    assert torch.equal(pushes[2], pushes[0])


def test_dimensions_are_weighed_by_name() -> None:
    model, x = Gaussian("velocity"), torch.zeros(2, 3)
    reward, t = Linear(model), torch.full((2,), 0.5)
    up, down, mixed = (
        RewardGuidance(weights=weights).gradient(x, t, reward=reward, condition={})
        for weights in ({"up": 1.0}, {"down": 1.0}, {"down": 2.0, "up": 0.5})
    )
    assert_close(up, -down)
    assert_close(mixed, 1.5 * down)


def test_half_precision_predictions_stay_half() -> None:
    x, y = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    at = Position(time=0.5, a=0.5, s=0.5)
    got = RewardGuidance(weights={"up": 1.0}).steered(
        y, x, at, quantity="velocity", reward=Steep(DIRECTION), condition={}
    )
    assert got.dtype == torch.bfloat16
    assert_close(got, (y - DIRECTION).bfloat16())


# --- the sampler ----------------------------------------------------------------------------------------------------


def test_one_step_on_a_flow_is_eulers() -> None:
    model, noise = Gaussian("velocity"), start_noise((3,), range(4))
    x, times = noise, [1.0, 0.75, 0.5, 0.25, 0.0]
    for t, after in pairwise(times):
        x = x + (after - t) * model.denoise(x, torch.full((4,), t), {}, {})
    assert_close(integrate(model, noise, {}, steps=4), x)


@kinds
def test_unguided_samples_are_those_of_the_data(kind: Any) -> None:
    drawn = samples(kind, 0.0)
    bound = 4 * DEVIATION / len(drawn) ** 0.5
    assert_close(drawn.mean(0), MEAN, atol=bound, rtol=0)
    assert_close(drawn.std(0), torch.full((3,), DEVIATION), atol=bound, rtol=0)


def test_a_shift_spends_more_steps_near_noise() -> None:
    model = Gaussian("velocity")
    model.shift = 3.0
    assert [at.time for at in path(model, 4)] == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])
    assert path(model, 4)[-1] == DATA


def test_timesteps_are_trailing_whole_numbers() -> None:
    times = [at.time for at in path(Gaussian("epsilon"), 4)]
    assert times == [999, 749, 499, 249, 0]
    assert all(isinstance(t, int) for t in times)


def test_a_sample_depends_on_its_own_seed_alone() -> None:
    alone, together = start_noise((2, 3), [7]), start_noise((2, 3), [3, 7, 9])
    assert torch.equal(alone[0], together[1])


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"weights": {}},
        {"weights": {"VQ": float("nan")}},
        {"weights": {"VQ": 1.0}, "scale": float("inf")},
        {"weights": {"VQ": 1.0}, "interval": (0.6, 0.4)},
        {"weights": {"VQ": 1.0}, "interval": (0.0, 1.1)},
        {"weights": {"VQ": 1.0}, "relative_clip": 0.0},
    ],
)
def test_impossible_guidance_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        RewardGuidance(**options)


def test_an_unknown_dimension_is_refused_by_name() -> None:
    model = Gaussian("velocity")
    guidance = RewardGuidance(weights={"upp": 1.0})
    with pytest.raises(RecipeError, match="did you mean 'up'"):
        guidance.gradient(torch.zeros(1, 3), torch.zeros(1), reward=Linear(model), condition={})


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    reward = Steep(torch.tensor([float("nan"), 0.0, 0.0]))
    with pytest.raises(ModelError, match="not finite at time"):
        RewardGuidance(weights={"up": 1.0}).gradient(torch.zeros(1, 3), torch.zeros(1), reward=reward, condition={})


def test_steps_that_lead_nowhere_are_refused() -> None:
    with pytest.raises(RecipeError, match="nowhere"):
        path(Gaussian("velocity"), 0)
    with pytest.raises(RecipeError, match="at most 1000"):
        path(Gaussian("epsilon"), 1001)
    dark = Gaussian("epsilon")
    dark.alphas_cumprod = gaussian.zero_terminal_snr(gaussian.alphas_cumprod())
    with pytest.raises(ModelError, match="zero signal"):
        path(dark, 10)
