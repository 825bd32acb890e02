"""Rollouts of denoising models: what is recorded, what is shared, and where the samples of a stochastic path lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import penchant
from penchant.errors import ModelError, RecipeError
from penchant.likelihoods import CPS, DDIM, AsFlow, DanceSDE, DenoisingPath, FlowSDE, Transition, gaussian
from penchant.likelihoods.denoising_path import Plan
from penchant.likelihoods.transitions import DATA, Step, noiseless
from penchant.sampling.guided import GuidedSampler
from penchant.sampling.ode import integrate, path
from penchant.sampling.paths import Walker, draw_latents, draw_paths
from penchant.testing import build
from penchant.types import CandidateBatch, Denoiser, Rollout

MODELS: dict[str, Transition] = {
    "stable-diffusion": DDIM(),
    "stable-diffusion-xl": CPS(),
    "stable-diffusion-3": FlowSDE(),
    "flux": CPS(),
    "wan": DanceSDE(),
}
PROMPTS, SEEDS = ("a red cat", "a red cat", "two dogs", "two dogs"), (0, 1, 2, 3)


class Shelf:
    def __init__(self, root: Path) -> None:
        self.root, self.loaded = root, {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.loaded:
            options = {"resolution": 32} if name == "flux" else {}
            self.loaded[name] = penchant.load(str(build(name, self.root / name)), **options)
        return self.loaded[name]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("models"))


def path_of(name: str, **options: Any) -> DenoisingPath:
    return DenoisingPath(**{"transition": MODELS[name], "steps": 4, **options})


def drawn(model: Any, likelihood: DenoisingPath, **options: Any) -> list[Rollout]:
    plan = options.pop("plan", likelihood.plan(seed=0, collection=0))
    prompts, seeds = options.pop("prompts", PROMPTS), options.pop("seeds", SEEDS)
    return draw_paths(model, prompts, seeds, likelihood, plan=plan, **options)


def as_batch(model: Any, rollouts: Sequence[Rollout]) -> CandidateBatch:
    """Two groups of two."""
    held = {name: torch.stack([r.candidate[name] for r in rollouts]) for name in rollouts[0].candidate}
    return CandidateBatch(
        group_ids=("g0", "g1"),
        sample_ids=(("s0", "s1"), ("s2", "s3")),
        prompts=PROMPTS[::2],
        candidates={name: value.unflatten(0, (2, 2)) for name, value in held.items()},
        condition=model.encode_prompts(list(PROMPTS[::2])),
        scores_BK=torch.zeros(2, 2),
        mask_BK=torch.ones(2, 2, dtype=torch.bool),
    )


def scored(model: Any, likelihood: DenoisingPath, rollouts: Sequence[Rollout]) -> Tensor:
    data = as_batch(model, rollouts)
    return likelihood.log_prob(model, data, likelihood.draw(data, seed=0, epoch=0)).step_BKT.flatten(0, 1)


def behavior(rollouts: Sequence[Rollout]) -> Tensor:
    return torch.stack([r.behavior_T for r in rollouts])  # type: ignore[misc]


# --- what training gets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_with_unchanged_weights_every_ratio_is_one(models: Shelf, name: str, guidance: float) -> None:
    if name == "flux" and guidance != 1:
        pytest.skip("distilled")
    model, likelihood = models[name], path_of(name, guidance=guidance)
    rollouts = drawn(model, likelihood)
    assert behavior(rollouts).shape == (4, 3)
    ratio = (scored(model, likelihood, rollouts) - behavior(rollouts)).exp()
    assert_close(ratio, torch.ones(4, 3), rtol=0, atol=3e-6)


@pytest.mark.parametrize("name", MODELS)
def test_what_a_rollout_holds(models: Shelf, name: str) -> None:
    model = models[name]
    (rollout, *_) = drawn(model, path_of(name))
    held, shape = rollout.candidate, rollout.candidate["latents"].shape
    assert held["state"].shape == held["next"].shape == (3, *shape)
    assert torch.equal(held["state"][1:], held["next"][:-1])
    assert torch.equal(held["time"][1:], held["next_time"][:-1])
    assert (held["time"] > held["next_time"]).all()
    assert held["time"].dtype == (torch.float32 if model.prediction == "velocity" else torch.int64)
    assert ("time_ids" in held) == (name == "stable-diffusion-xl")
    assert set(held) - {"time_ids"} == {"state", "next", "time", "next_time", "latents"}
    assert type(rollout.sample) is type(model.decode_latents(held["latents"][None])[0])
    assert all(value.device.type == "cpu" for value in held.values())


def test_the_last_step_follows_the_ode_to_data(models: Shelf) -> None:
    for name, end in (("stable-diffusion", DATA), ("stable-diffusion-3", 0.0)):
        model, likelihood = models[name], path_of(name)
        rollouts = drawn(model, likelihood)
        x, time = (torch.stack([r.candidate[n][-1] for r in rollouts]) for n in ("next", "next_time"))
        with torch.no_grad():
            answer = model.denoise(x, time, model.encode_prompts(list(PROMPTS)), {})
        step = Step.between(model, time, torch.full_like(time, end))
        final = torch.stack([r.candidate["latents"] for r in rollouts])
        assert_close(noiseless(step, answer, x, model.prediction), final, rtol=1e-4, atol=1e-5)


def test_a_last_step_with_noise_is_trained_when_asked(models: Shelf) -> None:
    model, likelihood = models["stable-diffusion-3"], path_of("stable-diffusion-3", skip_last=False)
    rollouts = drawn(model, likelihood)
    assert torch.equal(rollouts[0].candidate["next"][-1], rollouts[0].candidate["latents"])
    assert rollouts[0].candidate["next_time"][-1] == 0
    assert_close(scored(model, likelihood, rollouts), behavior(rollouts), rtol=0, atol=3e-6)


def test_an_untrained_policy_may_have_a_changed_ratio(models: Shelf, tmp_path: Path) -> None:
    """The test above can fail: another policy gives other log-probs."""
    likelihood = path_of("stable-diffusion-3")
    rollouts = drawn(models["stable-diffusion-3"], likelihood)
    other = penchant.load(str(build("stable-diffusion-3", tmp_path / "other", seed=1)))
    assert (scored(other, likelihood, rollouts) - behavior(rollouts)).abs().min() > 1e-4


# --- windows, fractions and shared beginnings -----------------------------------------------------------------------


def test_outside_its_window_a_path_is_the_ode_s(models: Shelf) -> None:
    model, likelihood = models["stable-diffusion-3"], path_of("stable-diffusion-3", steps=6, window=2)
    rollouts = drawn(model, likelihood, plan=likelihood.plan_at(2))
    walker = Walker(model=model, likelihood=likelihood, plan=Plan(noisy=(), trained=()))
    times, condition = walker.solver().times(), model.encode_prompts(list(PROMPTS))
    assert_close(torch.stack([r.candidate["time"] for r in rollouts]), times[2:4].expand(4, 2))

    def ode(x: Tensor, first: int, last: int) -> Tensor:
        for i in range(first, last):
            with torch.no_grad():
                answer = model.denoise(x, times[i].expand(4), condition, {})
            x = x + (times[i + 1] - times[i]) * answer
        return x

    start = torch.cat([torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(s)) for s in SEEDS])
    state, end, final = (torch.stack([r.candidate[name] for r in rollouts]) for name in ("state", "next", "latents"))
    assert_close(state[:, 0], ode(start, 0, 2), rtol=1e-4, atol=1e-5)
    assert_close(final, ode(end[:, -1], 4, 6), rtol=1e-4, atol=1e-5)
    assert (end[:, 0] - ode(state[:, 0], 2, 3)).abs().mean() > 0.1


def test_a_fraction_of_steps_is_recorded_and_all_have_noise(models: Shelf) -> None:
    model, whole = models["stable-diffusion-3"], path_of("stable-diffusion-3", steps=6)
    some = path_of("stable-diffusion-3", steps=6, fraction=0.4)
    plan = some.plan(seed=0, collection=1)
    assert len(plan.trained) == 2
    few, all_ = drawn(model, some, plan=plan), drawn(model, whole)
    for a, b in zip(few, all_, strict=True):
        assert torch.equal(a.candidate["latents"], b.candidate["latents"])
        assert torch.equal(a.candidate["state"], b.candidate["state"][list(plan.trained)])
        assert torch.equal(a.behavior_T, b.behavior_T[list(plan.trained)])  # type: ignore[arg-type,index]
    assert_close(scored(model, some, few), behavior(few), rtol=0, atol=3e-6)


def test_a_group_that_begins_alike_branches_at_the_window_and_its_prefix_is_walked_once(models: Shelf) -> None:
    model, likelihood = models["stable-diffusion-3"], path_of("stable-diffusion-3", steps=6, window=2)
    calls, plain = [], model.denoise
    model.denoise = lambda noisy, *rest: (calls.append(len(noisy)), plain(noisy, *rest))[1]
    try:
        shared = drawn(model, likelihood, plan=likelihood.plan_at(2), start_seeds=(7, 7, 8, 8))
    finally:
        del model.denoise
    assert calls == [2, 2, 4, 4, 4, 4]
    state = torch.stack([r.candidate["state"] for r in shared])
    assert torch.equal(state[0, 0], state[1, 0])
    assert torch.equal(state[2, 0], state[3, 0])
    assert not torch.equal(state[0, 0], state[2, 0])
    assert not torch.equal(state[0, 1], state[1, 1])
    assert_close(scored(model, likelihood, shared), behavior(shared), rtol=0, atol=3e-6)
    # A beginning is the prompt's own, though the noise is the same.
    alike = drawn(model, likelihood, plan=likelihood.plan_at(2), start_seeds=(7,) * 4)
    assert not torch.equal(alike[0].candidate["state"][0], alike[2].candidate["state"][0])


@pytest.mark.parametrize("name", ["stable-diffusion", "wan"])
def test_a_sample_does_not_depend_on_its_batch(models: Shelf, name: str) -> None:
    model, likelihood = models[name], path_of(name, guidance=2.0)
    together, alone = drawn(model, likelihood), drawn(model, likelihood, batch_size=1)
    backwards = drawn(model, likelihood, prompts=PROMPTS[::-1], seeds=SEEDS[::-1])[::-1]
    for a, b, c in zip(together, alone, backwards, strict=True):
        for name_ in a.candidate:
            assert_close(a.candidate[name_], b.candidate[name_], rtol=1e-3, atol=1e-4)
            assert_close(a.candidate[name_], c.candidate[name_], rtol=1e-3, atol=1e-4)


def test_noise_is_the_seed_s_and_the_prompt_s(models: Shelf) -> None:
    model, likelihood = models["stable-diffusion-3"], path_of("stable-diffusion-3")
    a, b, c, d = drawn(model, likelihood, seeds=(0, 1, 0, 0), start_seeds=(5,) * 4, prompts=("x", "x", "x", "y"))
    fresh = [r.candidate["next"][0] - r.candidate["state"][0] for r in (a, b, c, d)]
    assert torch.equal(fresh[0], fresh[2])
    assert (fresh[0] - fresh[1]).abs().mean() > 0.1
    assert (fresh[0] - fresh[3]).abs().mean() > 0.1


# --- where samples lie ----------------------------------------------------------------------------------------------

MEAN, DEVIATION = torch.tensor([0.5, -1.0, 0.0]), 0.5


class Gaussian(Denoiser):
    """The perfect denoiser of N(MEAN, DEVIATION^2)."""

    def __init__(self, kind: Any) -> None:
        self.prediction, self.shift = kind, 1.0
        self.alphas_cumprod = None if kind == "velocity" else gaussian.alphas_cumprod().float()

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        if self.alphas_cumprod is None:
            a, s = gaussian.flow_coefficients(time_N)
        else:
            a, s = gaussian.ddpm_coefficients(self.alphas_cumprod, time_N)
        x0 = MEAN + (a * DEVIATION**2 / (a**2 * DEVIATION**2 + s**2))[:, None] * (noisy_N - a[:, None] * MEAN)
        return gaussian.target(self.prediction, x0, (noisy_N - a[:, None] * x0) / s[:, None], a, s)

    def unconditional(self) -> Mapping[str, Tensor]:
        return {}


@pytest.mark.parametrize(
    ("transition", "kind", "steps"),
    [
        (FlowSDE(), "velocity", 200),
        (DanceSDE(eta=0.8), "velocity", 200),
        (DDIM(), "velocity", 300),
        (DDIM(), "v_prediction", 500),
        (DDIM(eta=0.5), "epsilon", 500),
        (AsFlow(), "v_prediction", 500),
        (AsFlow(step=DanceSDE(eta=0.8)), "epsilon", 500),
    ],
)
def test_a_stochastic_path_has_the_marginals_of_the_ode(transition: Transition, kind: str, steps: int) -> None:
    model, generator, count = Gaussian(kind), torch.Generator().manual_seed(0), 10_000
    likelihood = DenoisingPath(transition=transition, steps=steps)
    walker = Walker(model=model, likelihood=likelihood, plan=likelihood.plan(seed=0, collection=0))
    noise, first = torch.randn(count, 3, generator=generator), path(model, steps)[0]
    # Schedules that do not reach pure noise begin with some data.
    start = first.a * MEAN + (first.a**2 * DEVIATION**2 + first.s**2) ** 0.5 * noise
    walked = walker.walk(start, {}, {}, lambda i: torch.randn(count, 3, generator=generator))
    ode = integrate(model, start, {}, steps=steps)
    # Four standard errors of 10 000 samples, and for deviations 0.2 to 0.4 % of what finite steps leave.
    for latents in (walked.latents_N, ode):
        assert_close(latents.mean(0), MEAN, rtol=0, atol=0.02)
        assert_close(latents.std(0), torch.full((3,), DEVIATION), rtol=0.032, atol=0)
    # And it is another path: what it ends with is little told by where it began.
    correlation = torch.corrcoef(torch.stack([walked.latents_N[:, 0], ode[:, 0]]))[0, 1]
    assert correlation < 0.9
    middle, place = walked.record["state"][:, steps // 2], path(model, steps)[steps // 2]
    spread = torch.tensor([(place.a**2 * DEVIATION**2 + place.s**2) ** 0.5])
    assert_close(middle.std(0), spread.expand(3), rtol=0.032, atol=0)


def test_without_noise_a_walk_is_the_ode() -> None:
    for kind in ("velocity", "epsilon"):
        model, likelihood = Gaussian(kind), DenoisingPath(transition=CPS(noise=1e-9), steps=7)
        walker = Walker(model=model, likelihood=likelihood, plan=likelihood.plan(seed=0, collection=0))
        start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
        walked = walker.walk(start, {}, {}, lambda i: torch.randn(5, 3))
        assert_close(walked.latents_N, integrate(model, start, {}, steps=7), rtol=1e-5, atol=1e-5)


class Leaning(Gaussian):
    """The perfect denoiser, whose prediction is moved by what it learns."""

    def __init__(self, kind: Any) -> None:
        super().__init__(kind)
        self.lean = torch.zeros(3, requires_grad=True)

    def denoise(self, noisy_N: Tensor, *rest: Any) -> Tensor:
        return super().denoise(noisy_N, *rest) + self.lean


@pytest.mark.parametrize(
    ("transition", "kind", "rate"),
    [
        (FlowSDE(), "velocity", 0.3),
        (DanceSDE(), "velocity", 0.3),
        # Without the scale of a density the slopes are smaller.
        (CPS(), "velocity", 1.0),
        (DDIM(), "v_prediction", 0.3),
        (AsFlow(), "v_prediction", 0.3),
    ],
)
def test_steps_weighed_by_advantages_lead_to_the_reward(transition: Transition, kind: str, rate: float) -> None:
    """REINFORCE on recorded paths: the reward, the first coordinate, rises and nothing else moves as far."""
    model, likelihood = Leaning(kind), DenoisingPath(transition=transition, steps=8)
    optimiser, means = torch.optim.SGD([model.lean], lr=rate), []
    generator = torch.Generator().manual_seed(0)
    walker = Walker(model=model, likelihood=likelihood, plan=likelihood.plan(seed=0, collection=0))
    for _ in range(40):
        walked = walker.walk(
            torch.randn(64, 3, generator=generator), {}, {}, lambda i: torch.randn(64, 3, generator=generator)
        )
        reward = walked.latents_N[:, 0]
        advantage = (reward - reward.mean()) / reward.std()
        data = CandidateBatch(
            group_ids=("g",),
            sample_ids=(tuple("" for _ in range(64)),),
            prompts=("",),
            candidates={name: value[None] for name, value in walked.record.items()},
            condition={},
            scores_BK=reward[None],
            mask_BK=torch.ones(1, 64, dtype=torch.bool),
        )
        found = likelihood.log_prob(model, data, likelihood.draw(data, seed=0, epoch=0))
        assert_close(found.step_BKT[0].detach(), walked.log_prob_NT, rtol=0, atol=1e-5)
        optimiser.zero_grad()
        (-(found.per_step()[0] * advantage[:, None]).mean()).backward()
        optimiser.step()
        means.append(walked.latents_N.mean(0))
    moved = torch.stack(means[-5:]).mean(0) - torch.stack(means[:5]).mean(0)
    assert moved[0] > 0.2
    assert moved[0] > 2 * moved[1:].abs().max()


# --- final latents alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stable-diffusion-xl", "wan"])
def test_latents_are_those_of_the_solver_that_was_asked_for(models: Shelf, name: str) -> None:
    model = models[name]
    ours = draw_latents(model, PROMPTS, SEEDS, steps=3, guidance=2.0)
    expected = GuidedSampler(model=model, steps=3, guidance=2.0, steering=None).latents(PROMPTS, SEEDS)
    stock = draw_latents(model, PROMPTS, SEEDS, steps=3, guidance=2.0, solver="pipeline")
    samples = model.generate(PROMPTS, seeds=SEEDS, steps=3, guidance=2.0)
    for n in range(4):
        assert torch.equal(ours[n].candidate["latents"], expected[n])
        assert ours[n].behavior_T is None
        assert ("time_ids" in ours[n].candidate) == (name == "stable-diffusion-xl")
        if name == "wan":
            assert (stock[n].sample.frames == samples[n].frames).all()
        else:
            assert stock[n].sample.tobytes() == samples[n].tobytes()


def test_latents_are_what_a_bound_trains_on(models: Shelf) -> None:
    model = models["stable-diffusion-xl"]
    data = as_batch(model, draw_latents(model, PROMPTS, SEEDS, steps=2))
    likelihood = penchant.Diffusion()
    found = likelihood.log_prob(model, data, likelihood.draw(data, seed=0, epoch=0))
    assert found.total().isfinite().all()


def test_the_shipped_model_walks_a_path() -> None:
    model = penchant.load("zoo:emoji")
    likelihood = DenoisingPath(transition=DDIM(), steps=6, guidance=3.0)
    prompts = ("a red heart", "a red heart", "a dog", "a dog")
    rollouts = drawn(model, likelihood, prompts=prompts)
    assert behavior(rollouts).isfinite().all()
    held = {n: torch.stack([r.candidate[n] for r in rollouts]).unflatten(0, (2, 2)) for n in rollouts[0].candidate}
    data = CandidateBatch(
        group_ids=("a", "b"),
        sample_ids=(("", ""), ("", "")),
        prompts=prompts[::2],
        candidates=held,
        condition=model.encode_prompts(list(prompts[::2])),
        scores_BK=torch.zeros(2, 2),
        mask_BK=torch.ones(2, 2, dtype=torch.bool),
    )
    again = likelihood.log_prob(model, data, likelihood.draw(data, seed=0, epoch=0)).step_BKT.flatten(0, 1)
    assert_close(again, behavior(rollouts), rtol=0, atol=3e-5)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_drawn_is_refused(models: Shelf) -> None:
    model = models["stable-diffusion-3"]
    with pytest.raises(RecipeError, match="seeds"):
        drawn(model, path_of("stable-diffusion-3"), seeds=(0,))
    with pytest.raises(RecipeError, match="seeds"):
        draw_latents(model, PROMPTS, (0,), steps=2)
    with pytest.raises(RecipeError, match="records no step"):
        drawn(model, path_of("stable-diffusion-3"), plan=Plan(noisy=(0,), trained=()))
    with pytest.raises(ModelError, match="distilled"):
        drawn(models["flux"], path_of("flux", guidance=3.0))
    with pytest.raises(ModelError, match="DDIM"):
        drawn(models["stable-diffusion"], path_of("stable-diffusion-3"))
