"""ReFL and DRaFT: which steps have a gradient, what is lost, and that the one loop carries them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.testing import assert_close

import penchant
from penchant.errors import RecipeError
from penchant.likelihoods import gaussian
from penchant.models import Policy
from penchant.recipe import Training
from penchant.sampling.ode import integrate
from penchant.sampling.reward_gradient import Asked, DRaFT, DRaFTLV, OnLatents, OnPixels, ReFL, RewardGradient
from penchant.testing import build
from penchant.train.guards import StopRequest
from penchant.train.loop import Loop
from penchant.train.meters import Averages
from penchant.train.reward_gradient import Prompts, RewardScorer
from penchant.types import Denoiser

PROMPTS = ("a cat", "a dog", "rain")


class Scaled(Denoiser):
    """prediction = w x_t + time; remembers which calls had a gradient."""

    def __init__(self, kind: Any, weight: float = 0.3) -> None:
        self.prediction, self.shift = kind, 3.0
        self.alphas_cumprod = None if kind == "velocity" else gaussian.alphas_cumprod()
        self.weight = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
        self.calls: list[bool] = []

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        self.calls.append(torch.is_grad_enabled())
        scale = 1 if self.prediction == "velocity" else 1000
        return self.weight * noisy_N + (time_N.double() / scale)[:, None]

    def unconditional(self) -> Mapping[str, Tensor]:
        return {}


class Height:
    """r = mean of the latents."""

    def score(self, latents_N: Tensor, prompts: Sequence[str], condition: Mapping[str, Tensor]) -> Tensor:
        return latents_N.flatten(1).mean(1)


def asked(count: int = 3, *, seed: int = 0) -> Asked:
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    keys = [(seed, 0, prompt) for prompt in PROMPTS[:count]]
    return Asked(prompts=PROMPTS[:count], condition={}, micro={}, noise_N=noise[:count], keys=keys)


def slope(method: RewardGradient, model: Scaled) -> Tensor:
    return torch.autograd.grad(method.follow(model, Height(), asked()).loss_N.mean(), model.weight)[0]


@pytest.mark.parametrize("kind", ["velocity", "epsilon", "v_prediction"])
def test_draft_maximises_the_reward_of_the_very_sample(kind: str) -> None:
    model = Scaled(kind)
    found = DRaFT(steps=6, last=2).follow(model, Height(), asked())
    expected = integrate(model, asked().noise_N, {}, steps=6).mean(1)
    assert_close(found.loss_N, -expected, rtol=1e-6, atol=1e-6)
    assert_close(found.reward_N, expected, rtol=1e-6, atol=1e-6)
    assert not found.reward_N.requires_grad
    assert model.calls[:6] == [False] * 4 + [True] * 2


def test_draft_through_all_steps_is_the_derivative_of_the_reward() -> None:
    found = slope(DRaFT(steps=6, last=6), Scaled("velocity"))
    ends = [DRaFT(steps=6).follow(Scaled("velocity", 0.3 + d), Height(), asked()).loss_N.mean() for d in (-1e-5, 1e-5)]
    assert_close(found, ((ends[1] - ends[0]) / 2e-5).detach(), rtol=1e-5, atol=1e-8)
    assert (slope(DRaFT(steps=6, last=1), Scaled("velocity")) - found).abs() > 0.01


def test_lv_steps_from_noised_copies_of_the_sample() -> None:
    model = Scaled("velocity")
    found = DRaFTLV(steps=5, copies=3).follow(model, Height(), asked())
    assert model.calls == [False] * 5 + [True] * 3
    x0 = integrate(Scaled("velocity"), asked().noise_N, {}, steps=5)
    t = gaussian.flow_sigmas(5, 3.0)[-1].item()
    # With much noise averaged out: x0^ = (1 - t w) ((1 - t) x0 + t e) - t^2.
    many = DRaFTLV(steps=5, copies=400).follow(model, Height(), asked()).reward_N
    assert_close(many, ((1 - t * 0.3) * (1 - t) * x0 - t * t).mean(1).detach(), rtol=0, atol=0.05)
    one, other = (DRaFTLV(steps=5, copies=1).follow(model, Height(), asked(seed=s)).reward_N for s in (0, 1))
    assert not torch.allclose(one, other)
    assert_close(found.loss_N, -found.reward_N)


def test_refl_predicts_data_at_once_from_each_prompt_s_own_step() -> None:
    method, model = ReFL(steps=8, stops=(3, 6), margin=5.0, weight=0.1), Scaled("velocity")
    stops = [method.stop(key) for key in asked().keys]
    assert len(set(stops)) > 1
    found = method.follow(model, Height(), asked())
    assert model.calls == [False] * max(stops) + [True]
    times = [*gaussian.flow_sigmas(8, 3.0).float().tolist(), 0.0]
    for n, stop in enumerate(stops):
        x = asked().noise_N[n]
        for i in range(stop):
            x = x + (times[i + 1] - times[i]) * (0.3 * x + times[i])
        reward = (x - times[stop] * (0.3 * x + times[stop])).mean()
        assert_close(found.reward_N[n], reward, rtol=1e-6, atol=1e-6)
        assert_close(found.loss_N[n], 0.1 * (5.0 - reward), rtol=1e-6, atol=1e-6)
    alone = method.follow(model, Height(), asked(1))
    assert_close(alone.loss_N[0], found.loss_N[0])


def test_refl_leaves_alone_what_is_above_the_margin_and_stops_everywhere_in_its_range() -> None:
    assert slope(ReFL(steps=8, stops=(3, 6), margin=-50.0), Scaled("velocity")) == 0
    assert slope(ReFL(steps=8, stops=(3, 6), margin=50.0), Scaled("velocity")) != 0
    stops = [ReFL().stop((0, epoch, "x")) for epoch in range(300)]
    assert set(stops) == set(range(30, 40))


def test_guidance_is_followed_too() -> None:
    class Guided(Scaled):
        def denoise(self, noisy_N: Tensor, time_N: Tensor, condition: Any, candidates: Any) -> Tensor:
            self.calls.append(torch.is_grad_enabled())
            return self.weight * noisy_N + condition["prompt"]

        def unconditional(self) -> Mapping[str, Tensor]:
            return {"prompt": torch.full((1, 1), 0.5, dtype=torch.float64)}

    given = Asked(**{**vars(asked()), "condition": {"prompt": torch.ones(3, 1, dtype=torch.float64)}})
    found = DRaFT(steps=4, guidance=3.0).follow(Guided("velocity"), Height(), given)
    expected = integrate(Guided("velocity"), given.noise_N, given.condition, steps=4, guidance=3.0)
    assert_close(found.reward_N, expected.mean(1), rtol=1e-6, atol=1e-6)


@dataclass
class TwoSided:
    dimensions: tuple[str, ...] = ("up", "down")
    name: str = "two-sided"

    def score(self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        assert (time_N == 0).all()
        up_N = noisy_N.flatten(1).mean(1)
        return torch.stack([up_N, -up_N], 1)


def test_a_reward_on_latents_is_asked_at_data() -> None:
    reward = OnLatents(reward=TwoSided(), weights={"down": 2.0}, flow=True)
    x = asked().noise_N
    assert_close(reward.score(x, PROMPTS, {}), -2 * x.mean(1))
    with pytest.raises(RecipeError, match="no dimension"):
        OnLatents(reward=TwoSided(), weights={"sideways": 1.0}, flow=True)


@pytest.mark.parametrize(
    "make", [lambda: ReFL(steps=30), lambda: DRaFT(last=0), lambda: DRaFT(steps=2, last=3), lambda: DRaFTLV(copies=0)]
)
def test_options_that_cannot_work(make: Any) -> None:
    with pytest.raises(RecipeError):
        make()


# --- through a decoder, in the loop ---------------------------------------------------------------------------------


def red(prompts: Sequence[str], pixels: Tensor) -> Tensor:
    """How red, on the average over place and time."""
    levels = pixels.flatten(2).mean(2)
    return levels[:, 0] - levels[:, 1:].mean(1)


@pytest.mark.parametrize("name", ["stable-diffusion-3", "wan"])
def test_gradients_go_through_the_decoder(name: str, tmp_path: Path) -> None:
    model = penchant.load(str(build(name, tmp_path / name)))
    latents = Prompts(model, PROMPTS).batch([0]).condition
    from penchant.models.blank import blank

    x = blank(model)["latents"].requires_grad_()
    (reward,) = OnPixels(model=model, look=red).score(x, PROMPTS[:1], latents)
    (gradient,) = torch.autograd.grad(reward, x)
    assert gradient.abs().max() > 0
    step = 1e-2 * gradient / gradient.norm()
    with torch.no_grad():
        up, down = (OnPixels(model=model, look=red).score(x + d, PROMPTS[:1], {}) for d in (step, -step))
    assert_close(up - down, 2e-2 * gradient.norm()[None], rtol=2e-2, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.decoded_pixels(x).dtype == torch.float32


def test_the_shipped_scorer_leads_the_shipped_model(tmp_path: Path) -> None:
    """The gradient of a judge of ours, through decoder and sampler: the judge scores finished pictures higher."""
    from penchant.judges import load

    model, judge, captions = penchant.load("zoo:emoji"), load("zoo:emoji/labeller"), ["red apple", "dog face", "taco"]

    def score() -> float:
        pictures = model.generate(captions, seeds=[0, 1, 2], steps=4, guidance=1.0)
        assert_close(
            judge.look(captions, torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in pictures]) / 255),
            torch.from_numpy(judge.score(captions, pictures)[:, 0]),
            rtol=0,
            atol=2e-3,
        )
        return float(judge.score(captions, pictures).mean())

    before, reward = score(), OnPixels(model=model, look=judge.look)
    data = Prompts(model, captions)
    scorer = RewardScorer(seed=0, model=model, method=DRaFT(steps=4), reward=reward, accelerator=Accelerator(cpu=True))
    recipe = SimpleNamespace(train=Training(steps=8, batch_size=3, lr=1e-4, weight_decay=0.0), seed=0)
    run = Loop(recipe, model, scorer, data, tmp_path, scorer.accelerator)
    for _ in range(8):
        run.take_step()
    assert score() > before + 0.01


def loop(tmp_path: Path, method: RewardGradient, *, folder: str, lora: int = 4, **train: Any) -> tuple[Loop, Any]:
    built = tmp_path / "sd3"
    if not built.exists():
        build("stable-diffusion-3", built)
    model = penchant.load(Policy(path=str(built), lora=lora))
    options = {"steps": 8, "batch_size": 3, "lr": 1e-2, "weight_decay": 0.0} | train
    recipe = SimpleNamespace(train=Training(**options), seed=0)
    accelerator = Accelerator(cpu=True)
    reward = OnPixels(model=model, look=red)
    scorer = RewardScorer(seed=0, model=model, method=method, reward=reward, accelerator=accelerator)
    (tmp_path / folder).mkdir(exist_ok=True)
    return Loop(recipe, model, scorer, Prompts(model, PROMPTS), tmp_path / folder, accelerator), model


@pytest.mark.parametrize(
    "method",
    [DRaFT(steps=4), DRaFTLV(steps=4), ReFL(steps=4, stops=(2, 3), weight=1.0)],
    ids=lambda m: type(m).__name__,
)
def test_the_loop_raises_the_reward(method: RewardGradient, tmp_path: Path) -> None:
    run, model = loop(tmp_path, method, folder="run", lora=0, lr=1e-2)

    @torch.no_grad()
    def reward() -> float:
        data = run.data.batch(range(3))
        return float(run.scorer.method.follow(model, run.scorer.reward, run.scorer._asked(9, data)).reward_N.mean())

    # The draws are the same before and after; a random decoder with group norms leaves little room.
    before = reward()
    for _ in range(6):
        run.take_step()
    assert reward() > before + 0.005


def test_micro_batches_add_up(tmp_path: Path) -> None:
    gradients = []
    for size in (3, 1):
        run, model = loop(tmp_path, DRaFT(steps=3), folder=f"micro-{size}")
        data, scorer, averages = run.data, run.scorer, Averages()
        for first in range(0, 3, size):
            scorer.backward([(0, data.batch(range(first, first + size)))], share=size / 3, averages=averages)
        gradients.append(torch.cat([p.grad.flatten() for p in model.trainable_parameters()]))
    assert gradients[0].abs().max() > 0
    assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-7)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, model = loop(tmp_path, DRaFT(steps=3), folder="whole", steps=4)
    whole.run(StopRequest(), lambda _: None)
    half, _ = loop(tmp_path, DRaFT(steps=3), folder="half", steps=4)
    for _ in range(2):
        half.take_step()
    half.save()
    again, other = loop(tmp_path, DRaFT(steps=3), folder="half", steps=4)
    assert again.resume(lambda _: None)
    again.run(StopRequest(), lambda _: None)
    for a, b in zip(model.trainable_parameters(), other.trainable_parameters(), strict=True):
        assert torch.equal(a, b)


def test_prompts_are_asked_once(tmp_path: Path) -> None:
    model = penchant.load(str(build("stable-diffusion-3", tmp_path / "sd3")))
    with pytest.raises(RecipeError, match="once"):
        Prompts(model, ("a", "a"))
    with pytest.raises(RecipeError, match="once"):
        Prompts(model, ())
    assert len(Prompts(model, PROMPTS)) == 3
