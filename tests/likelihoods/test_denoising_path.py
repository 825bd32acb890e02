"""Stochastic steps and the likelihood of a recorded path: one test for each sentence one would say about them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from tiny_denoisers import SHAPE, batch, linear
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from penchant.errors import ModelError, RecipeError
from penchant.likelihoods import CPS, DDIM, AsFlow, DanceSDE, DenoisingPath, FlowSDE, Transition, gaussian
from penchant.likelihoods.transitions import DATA, Step, gaussian_kl, noiseless
from penchant.types import CandidateBatch, LogProbs

KINDS = ("epsilon", "v_prediction", "sample", "velocity")
STEPS: tuple[tuple[Transition, str], ...] = (
    (FlowSDE(), "velocity"),
    (DanceSDE(), "velocity"),
    (CPS(), "velocity"),
    (CPS(), "v_prediction"),
    (DDIM(), "epsilon"),
    (DDIM(eta=0.5), "sample"),
    (DDIM(), "velocity"),
    (AsFlow(), "epsilon"),
    (AsFlow(step=DanceSDE()), "v_prediction"),
    (AsFlow(), "velocity"),
)
steps = pytest.mark.parametrize(("transition", "kind"), STEPS)
TIMES = {True: ([1.0, 0.7, 0.4], [0.8, 0.5, 0.1]), False: ([999, 500, 120], [800, 300, 40])}


@dataclass
class Schedule:
    alphas_cumprod: Tensor | None


def schedule_of(kind: str) -> Any:
    return Schedule(None if kind == "velocity" else gaussian.alphas_cumprod())


def three_steps(kind: str) -> Step:
    now, then = TIMES[kind == "velocity"]
    return Step.between(schedule_of(kind), torch.tensor(now), torch.tensor(then))


def f64(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def recorded(
    kind: str, *, K: int = 2, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float32
) -> CandidateBatch:
    """Three groups with K candidates that went three steps each, anywhere."""
    data, (now, then) = batch(K=K, shape=shape, dtype=dtype), TIMES[kind == "velocity"]
    of_time = dtype if kind == "velocity" else torch.int64
    path = {
        "state": noise(3, K, 3, *shape, seed=11, dtype=dtype),
        "next": noise(3, K, 3, *shape, seed=12, dtype=dtype),
        "time": torch.tensor(now, dtype=of_time).expand(3, K, 3),
        "next_time": torch.tensor(then, dtype=of_time).expand(3, K, 3),
    }
    return replace(data, candidates={**data.candidates, **path})


def scored(likelihood: DenoisingPath, model: Any, data: CandidateBatch, **options: Any) -> LogProbs:
    return likelihood.log_prob(model, data, likelihood.draw(data, seed=0, epoch=0), **options)


# --- one step -------------------------------------------------------------------------------------------------------


@steps
def test_a_log_prob_is_the_mean_over_dimensions_of_the_normal_density(transition: Transition, kind: str) -> None:
    step, x, prediction, next_ = three_steps(kind), *(noise(3, *SHAPE, seed=s) for s in range(3))
    mean, std = transition.mean(step, prediction, x, kind), transition.std(step)  # type: ignore[arg-type]
    density = Normal(mean, std.reshape(3, 1, 1, 1)).log_prob(next_).mean((1, 2, 3))
    if isinstance(transition, CPS):
        density = -(next_ - mean).square().mean((1, 2, 3))
    assert_close(transition.log_prob(next_, mean, std), density, rtol=1e-12, atol=0)


def test_flow_grpo_step_by_hand() -> None:
    for s, after, room in ((0.7, 0.5, 0.3), (1.0, 0.8, 0.2)):
        step = Step.between(Schedule(None), f64(s), f64(after))
        x, v, dt = 0.3, -1.2, after - s
        sigma = 0.7 * math.sqrt(s / room)
        mean = x * (1 + sigma**2 / (2 * s) * dt) + v * (1 + sigma**2 * (1 - s) / (2 * s)) * dt
        ours = FlowSDE().mean(step, f64(v), f64(x), "velocity")
        assert_close(ours.item(), mean, rtol=1e-12, atol=0)
        assert_close(FlowSDE().std(step).item(), sigma * math.sqrt(-dt), rtol=1e-12, atol=0)


def test_dance_grpo_step_by_hand() -> None:
    step = Step.between(Schedule(None), f64(0.7), f64(0.5))
    x, v, s, dt = 0.3, -1.2, 0.7, -0.2
    x0 = x - s * v
    score = -(x - (1 - s) * x0) / s**2
    mean = x + dt * v + dt * (-(0.25**2) / 2) * score
    ours = DanceSDE().mean(step, f64(v), f64(x), "velocity")
    assert_close(ours.item(), mean, rtol=1e-12, atol=0)
    assert_close(DanceSDE().std(step).item(), 0.25 * math.sqrt(0.2), rtol=1e-12, atol=0)


def test_cps_step_by_hand() -> None:
    step = Step.between(Schedule(None), f64(0.7), f64(0.5))
    x, v = 0.3, -1.2
    x0, x1, std = x - 0.7 * v, x + 0.3 * v, 0.5 * math.sin(0.8 * math.pi / 2)
    ours = CPS().mean(step, f64(v), f64(x), "velocity")
    assert_close(ours.item(), x0 * 0.5 + x1 * math.sqrt(0.25 - std**2), rtol=1e-12, atol=0)
    assert_close(CPS().std(step).item(), std, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sde", [FlowSDE(), FlowSDE(kl="code"), DanceSDE()])
def test_as_flow_is_the_flow_s_step_between_rescaled_latents(sde: Transition, kind: Any) -> None:
    step, x, next_ = three_steps(kind), noise(3, *SHAPE), noise(3, *SHAPE, seed=2)
    x0, (now, then) = noise(3, *SHAPE, seed=1), (step.a_N + step.s_N, step.next_a_N + step.next_s_N)
    eps = (x - gaussian.across(step.a_N, x) * x0) / gaussian.across(step.s_N, x)
    flow = Step.between(Schedule(None), step.s_N / now, step.next_s_N / then)
    of_now, of_then = (gaussian.across(scale, x) for scale in (now, then))
    expected = sde.mean(flow, eps - x0, x / of_now, "velocity"), sde.std(flow)
    ours = AsFlow(step=sde)
    found = ours.mean(step, gaussian.target(kind, x0, eps, step.a_N, step.s_N), x, kind), ours.std(step)
    assert_close(found[0] / of_then, expected[0])
    assert_close(found[1] / then, expected[1])
    # The density is that of the flow but for the scale of a dimension, which no ratio of policies sees.
    assert_close(ours.log_prob(next_, *found), sde.log_prob(next_ / of_then, *expected) - then.log())
    assert_close(ours.kl_std(step) / then, sde.kl_std(flow))


def test_as_flow_takes_what_is_all_but_pure_noise_for_pure_noise() -> None:
    """diffusers' Euler scheduler keeps alphas_cumprod[-1] = 2^-24 where the terminal SNR is to be zero."""
    x, prediction, found = noise(1, *SHAPE), noise(1, *SHAPE, seed=1), []
    for last in (0.0, 2.0**-24):
        step = Step.between(
            Schedule(torch.tensor([0.5, 0.01, last], dtype=torch.float64)), torch.tensor([2]), torch.tensor([1])
        )
        found.append((AsFlow().mean(step, prediction, x, "v_prediction"), AsFlow().std(step)))
    assert_close(found[1], found[0], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_is_the_scheduler_s(kind: str, eta: float) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=kind,
        clip_sample=False,
        set_alpha_to_one=False,
    )
    scheduler.set_timesteps(20)
    x, prediction, z = (noise(1, *SHAPE, seed=s, dtype=torch.float32) for s in range(3))
    model, ours = Schedule(scheduler.alphas_cumprod), DDIM(eta=eta)
    for time in (951, 401, 51):
        step = Step.between(model, torch.tensor([time]), torch.tensor([time - 50]))
        next_ = ours.mean(step, prediction, x, kind) + ours.std(step).float().reshape(1, 1, 1, 1) * z  # type: ignore[arg-type]
        theirs = scheduler.step(prediction, time, x, eta=eta, variance_noise=z).prev_sample
        assert_close(next_, theirs, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("transition", "kind"),
    [
        (FlowSDE(noise=1e-7), "velocity"),
        (DanceSDE(eta=1e-7), "velocity"),
        (CPS(noise=0), "velocity"),
        (CPS(noise=0), "epsilon"),
        *((DDIM(eta=0), kind) for kind in KINDS),
        *((AsFlow(step=FlowSDE(noise=1e-7)), kind) for kind in KINDS),
    ],
)
def test_without_noise_a_step_is_the_ode_s(transition: Transition, kind: Any) -> None:
    step, x, prediction = three_steps(kind), noise(3, *SHAPE), noise(3, *SHAPE, seed=1)
    ode = noiseless(step, prediction, x, kind)
    assert_close(transition.mean(step, prediction, x, kind), ode, rtol=1e-9, atol=1e-9)
    assert transition.std(step).abs().max() < 1e-6
    if kind == "velocity":
        now, then = (torch.tensor(t).double().reshape(3, 1, 1, 1) for t in TIMES[True])
        assert_close(ode, x + (then - now) * prediction, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("transition", [CPS(), CPS(noise=1), DDIM(), DDIM(eta=0.3)])
@pytest.mark.parametrize("kind", ["epsilon", "velocity"])
def test_the_next_latents_stand_where_the_schedule_wants_them(transition: Transition, kind: Any) -> None:
    """With a perfect prediction the mean holds a' of the data, and all its noise together has deviation s'."""
    step, x0, eps = three_steps(kind), torch.ones(3, 1).double(), torch.full((3, 1), 10.0).double()
    x = gaussian.add_noise(x0, eps, step.a_N, step.s_N)
    answer = gaussian.target(kind, x0, eps, step.a_N, step.s_N)
    left = (transition.mean(step, answer, x, kind)[:, 0] - step.next_a_N) / 10
    assert_close(left.square() + transition.std(step).square(), step.next_s_N.square())


def test_at_data_nothing_is_left_of_noise_but_what_an_sde_draws() -> None:
    data = Step.between(Schedule(gaussian.alphas_cumprod()), torch.tensor([20]), torch.tensor([DATA]))
    assert (data.next_a_N.item(), data.next_s_N.item()) == (1, 0)
    for transition in (DDIM(), CPS()):
        assert transition.std(data).item() == 0
        assert not transition.noisy_at_data
    flow = Step.between(Schedule(None), torch.tensor([0.2]), torch.tensor([0.0]))
    for sde in (FlowSDE(), DanceSDE()):
        assert sde.std(flow).item() > 0
        assert sde.noisy_at_data


# --- the KL of a step -----------------------------------------------------------------------------------------------


@steps
def test_the_kl_of_a_step_is_that_of_two_normals(transition: Transition, kind: str) -> None:
    step, mean, other = three_steps(kind), noise(3, *SHAPE), noise(3, *SHAPE, seed=1)
    std = transition.std(step).reshape(3, 1, 1, 1)
    exact = kl_divergence(Normal(mean, std), Normal(other, std)).mean((1, 2, 3))
    assert_close(gaussian_kl(mean, other, transition.kl_std(step)), exact)


def test_flow_grpo_s_kl_in_velocities() -> None:
    """d/2 (sigma (1-s) / (2 s) + 1 / sigma)^2 |v - v'|^2, as in the paper, and what its code makes of it."""
    s, after = 0.7, 0.5
    step = Step.between(Schedule(None), f64(s), f64(after))
    x, v, w = (noise(1, 5, seed=i) for i in range(3))
    sigma, d = 0.7 * math.sqrt(s / (1 - s)), s - after
    paper = d / 2 * (sigma * (1 - s) / (2 * s) + 1 / sigma) ** 2 * (v - w).square().mean(1)
    exact, code = FlowSDE(), FlowSDE(kl="code")
    means = [exact.mean(step, velocity, x, "velocity") for velocity in (v, w)]
    assert_close(gaussian_kl(*means, exact.kl_std(step)), paper)
    assert_close(gaussian_kl(*means, code.kl_std(step)), paper * d)
    assert_close(code.std(step), exact.std(step))


# --- a path ---------------------------------------------------------------------------------------------------------


@steps
@pytest.mark.parametrize("guidance", [1.0, 4.5])
def test_every_recorded_step_is_scored_where_it_was_taken(transition: Transition, kind: str, guidance: float) -> None:
    data, model = recorded(kind, dtype=torch.float64), linear(kind, dtype=torch.float64)
    found = scored(DenoisingPath(transition=transition, guidance=guidance), model, data)
    assert found.density == "path"
    assert found.step_BKT.shape == (3, 2, 3)
    assert_close(found.total(), found.step_BKT.sum(-1))
    held, empty = data.candidates, model.unconditional()["prompt"]
    for b, k, t in ((0, 1, 0), (2, 0, 2)):
        x, time, micro = held["state"][b, k, t][None], held["time"][b, k, t][None], {"micro": held["micro"][b, k][None]}
        answer = model.denoise(x, time, {"prompt": data.condition["prompt"][b][None]}, micro)
        if guidance != 1:
            without = model.denoise(x, time, {"prompt": empty}, micro)
            answer = without + guidance * (answer - without)
        step = Step.between(model, time, held["next_time"][b, k, t][None])
        mean = transition.mean(step, answer, x, kind)  # type: ignore[arg-type]
        expected = transition.log_prob(held["next"][b, k, t][None], mean, transition.std(step))[0]
        assert_close(found.step_BKT[b, k, t], expected)


def test_guidance_costs_one_call_of_twice_the_rows() -> None:
    data, model = recorded("velocity"), linear("velocity")
    calls, plain = [], model.denoise
    model.denoise = lambda noisy, *rest: (calls.append(len(noisy)), plain(noisy, *rest))[1]  # type: ignore[method-assign]
    scored(DenoisingPath(), model, data)
    scored(DenoisingPath(guidance=2.0), model, data)
    assert calls == [18, 36]


def test_nothing_is_drawn_and_the_draw_depends_on_nothing() -> None:
    draw = DenoisingPath().draw(recorded("velocity"), seed=3, epoch=4)
    assert draw.key_B == ("",) * 3
    assert draw.time_BKT is None
    assert draw.noise_BKT is None


@steps
def test_a_missing_candidate_is_zero_costs_no_forward_and_poisons_nothing(transition: Transition, kind: str) -> None:
    likelihood, model = DenoisingPath(transition=transition), linear(kind, grad=True)
    full, mask = recorded(kind, K=3), torch.tensor([[True, False, True], [True, True, False], [False, False, False]])
    holes = {n: full.candidates[n].clone() for n in ("state", "next")}
    for value in holes.values():
        value[~mask] = torch.nan
    data = replace(full, mask_BK=mask, candidates={**full.candidates, **holes})
    found = scored(likelihood, model, data, keep_output=True)
    assert model.rows == 3 * int(mask.sum())
    assert (found.step_BKT[~mask] == 0).all()
    assert_close(found.step_BKT[mask], scored(likelihood, model, full).step_BKT[mask])
    other = scored(likelihood, linear(kind, seed=1), data, keep_output=True)
    kl = likelihood.divergence(found, other)
    assert (kl[~mask] == 0).all()
    assert (kl[mask] > 0).all()
    (found.total().sum() + kl.sum()).backward()
    assert model.weights.grad is not None
    assert model.weights.grad.isfinite().all()


@steps
def test_one_candidate_at_a_time_is_the_same(transition: Transition, kind: str) -> None:
    likelihood, data, model = DenoisingPath(transition=transition), recorded(kind, K=3), linear(kind)
    draw = likelihood.draw(data, seed=0, epoch=0)
    whole = likelihood.log_prob(model, data, draw)
    for k in range(3):
        one = likelihood.log_prob(model, data.only_candidate(k), draw.only_candidate(k))
        assert_close(one.step_BKT[:, 0], whole.step_BKT[:, k])


@steps
def test_gradcheck(transition: Transition, kind: str) -> None:
    likelihood, data = DenoisingPath(transition=transition, guidance=1.5), recorded(kind, dtype=torch.float64)
    model, other = (linear(kind, seed=s, dtype=torch.float64) for s in (0, 1))
    reference = scored(likelihood, other, data, keep_output=True)

    def both(weights: Tensor) -> tuple[Tensor, Tensor]:
        model.weights = weights
        policy = scored(likelihood, model, data, keep_output=True)
        return policy.step_BKT, likelihood.divergence(policy, reference)

    assert torch.autograd.gradcheck(both, (model.weights.clone().requires_grad_(),))


def test_divergence_is_the_kl_by_step_and_wants_kept_outputs() -> None:
    likelihood, data = DenoisingPath(), recorded("velocity", dtype=torch.float64)
    policy, reference = (
        scored(likelihood, linear("velocity", seed=s, dtype=torch.float64), data, keep_output=True) for s in (0, 1)
    )
    assert policy.output is not None
    assert reference.output is not None
    std = policy.output.std.reshape(3, 2, 3, 1, 1, 1)
    exact = kl_divergence(Normal(policy.output.mean, std), Normal(reference.output.mean, std)).mean((3, 4, 5))
    assert_close(likelihood.divergence(policy, reference), exact)
    assert (likelihood.divergence(policy, policy) == 0).all()
    with pytest.raises(ValueError, match="keep_output"):
        likelihood.divergence(policy, replace(reference, output=None))


def test_half_precision_forward_float32_density() -> None:
    data, likelihood, model = recorded("velocity", shape=(4, 16, 16)), DenoisingPath(), linear("velocity")
    exact = scored(likelihood, model, data).step_BKT
    plain, seen = model.denoise, []
    model.denoise = lambda noisy, *rest: (seen.append(noisy.dtype), plain(noisy, *rest).bfloat16())[1]  # type: ignore[method-assign]
    halved = {name: data.candidates[name].bfloat16() for name in ("state", "next")}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = scored(likelihood, model, data, keep_output=True)
        scored(likelihood, model, replace(data, candidates={**data.candidates, **halved}))
    assert half.step_BKT.dtype == torch.float32
    assert half.output is not None
    assert half.output.mean.dtype == torch.float32
    assert_close(half.step_BKT, exact, rtol=1e-3, atol=1e-3)
    assert seen == [torch.float32, torch.float32]


def test_video_latents_of_any_rank() -> None:
    data = recorded("velocity", shape=(2, 3, 4, 5))
    found = scored(DenoisingPath(transition=CPS()), linear("velocity"), data, keep_output=True)
    assert found.output is not None
    assert found.output.mean.shape == (3, 2, 3, 2, 3, 4, 5)
    assert found.output.std.shape == (3, 2, 3)


# --- which steps ----------------------------------------------------------------------------------------------------


def test_all_steps_but_the_last_are_trained() -> None:
    assert DenoisingPath(steps=10).plan(seed=0, collection=0).trained == tuple(range(9))
    assert DenoisingPath(steps=10, skip_last=False).plan(seed=0, collection=0).noisy == tuple(range(10))


def test_a_window_is_a_counted_place_in_the_first_part_of_the_path() -> None:
    likelihood = DenoisingPath(steps=10, window=3)
    plans = [likelihood.plan(seed=0, collection=n) for n in range(200)]
    assert {p.noisy[0] for p in plans} == set(range(5))
    assert all(p.noisy == p.trained == tuple(range(p.noisy[0], p.noisy[0] + 3)) for p in plans)
    assert plans == [likelihood.plan(seed=0, collection=n) for n in range(200)]
    assert plans != [likelihood.plan(seed=1, collection=n) for n in range(200)]
    late = DenoisingPath(steps=4, window=3, window_range=1.0)
    assert {late.plan(seed=0, collection=n).noisy for n in range(50)} == {(0, 1, 2)}
    assert likelihood.plan_at(6).noisy == likelihood.plan_at(99).noisy == (6, 7, 8)


def test_a_fraction_trains_some_of_the_stochastic_steps() -> None:
    likelihood = DenoisingPath(steps=16, fraction=0.6)
    plans = [likelihood.plan(seed=0, collection=n) for n in range(100)]
    assert all(p.noisy == tuple(range(15)) and len(p.trained) == 9 for p in plans)
    assert all(list(p.trained) == sorted(set(p.trained)) for p in plans)
    assert {i for p in plans for i in p.trained} == set(range(15))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": 1}, "none has noise"),
        ({"steps": 5, "window": 5}, "does not fit"),
        ({"window": 0}, "does not fit"),
        ({"window": 2, "fraction": 0.5}, "trained whole"),
        ({"fraction": 0.0}, "shares"),
        ({"window_range": 1.5}, "shares"),
        ({"transition": DDIM(eta=0)}, "no density"),
        ({"transition": DDIM(), "skip_last": False}, "no noise"),
        ({"transition": CPS(), "skip_last": False}, "no noise"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(RecipeError, match=word):
        DenoisingPath(**options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FlowSDE(noise=-1),
        lambda: FlowSDE(kl="other"),  # type: ignore[arg-type]
        lambda: DanceSDE(eta=math.inf),
        lambda: CPS(noise=1.2),
        lambda: DDIM(eta=2),
        lambda: AsFlow(step=CPS()),
    ],
)
def test_no_strength_of_noise(make: Any) -> None:
    with pytest.raises(RecipeError):
        make()


def test_what_cannot_be_scored_is_refused() -> None:
    for sde in (FlowSDE(), DanceSDE()):
        with pytest.raises(ModelError, match="DDIM"):
            scored(DenoisingPath(transition=sde), linear("epsilon"), recorded("epsilon"))
    with pytest.raises(RecipeError, match="no recorded path"):
        scored(DenoisingPath(), linear("velocity"), batch())
    variances = linear("velocity")
    variances.denoise = lambda noisy, *_: torch.cat([noisy, noisy], 1)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="variances"):
        scored(DenoisingPath(), variances, recorded("velocity"))
