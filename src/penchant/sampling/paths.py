"""Rollouts of denoising models: paths with recorded stochastic steps, or final latents alone.

    plan = likelihood.plan(seed=0, collection=3)
    rollouts = draw_paths(model, prompts, seeds, likelihood, plan=plan)

A path begins at the noise of its seed and walks the model's own schedule (`ode.path`). Steps that the plan names are
drawn from the likelihood's Gaussian, all others follow the ODE. Every step is one model call for the whole batch, of
twice the rows with classifier-free guidance.

Noise is counted by (seed, prompt, step), so a sample does not depend on what shares its batch, but for the rounding of
another batch shape. Candidates of a group that begin at the same noise (DanceGRPO) also share what lies before the
first stochastic step (Flow-GRPO-Fast): that part of the path is walked once for all of them.

Behaviour log-probs come from the very lines that score in training. Draw under the autocast of training, or the two
differ by a rounding of half precision.

Shape legend: N samples of one batch, T recorded steps, `...` a latent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError, RecipeError
from penchant.likelihoods import gaussian
from penchant.likelihoods.denoising_path import NEXT, NEXT_TIME, STATE, TIME, DenoisingPath, Plan
from penchant.likelihoods.randomness import generator
from penchant.models.blank import blank
from penchant.sampling.guided import GuidedSampler
from penchant.sampling.ode import start_noise
from penchant.sampling.solver import Solver, rows_at
from penchant.types import Rollout

LATENTS = "latents"
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Walked:
    """Where a batch ended, and its recorded steps: states, next states [N, T, ...], times and log-probs [N, T]."""

    latents_N: Tensor
    record: Tensors
    log_prob_NT: Float[Tensor, "N T"]


@dataclass(frozen=True, kw_only=True)
class Walker:
    """A policy on its way from noise to data, as a plan says.

    Attributes:
        model: the policy, a `Denoiser`.
        likelihood: its steps, and the guidance that is part of it.
        plan: which steps are stochastic, and which of those are recorded.
    """

    model: Any
    likelihood: DenoisingPath
    plan: Plan

    def solver(self) -> Solver:
        """What walks the steps without noise."""
        return Solver(model=self.model, steps=self.likelihood.steps, guidance=self.likelihood.guidance)

    def before(self) -> range:
        """The steps that lie before all noise."""
        return range(min(self.plan.noisy, default=self.likelihood.steps))

    @torch.no_grad()
    def prefix(self, start_N: Tensor, condition: Tensors, micro: Tensors) -> Tensor:
        """Latents [N, ...] before the first stochastic step.

        Raises:
            RecipeError, ModelError: as `ode.path`.
        """
        solver, latents_N = self.solver(), gaussian.at_least_float32(start_N)
        times = solver.times()
        for i in self.before():
            time_N, next_time_N = rows_at(times[i], latents_N), rows_at(times[i + 1], latents_N)
            latents_N = solver.step(latents_N, time_N, next_time_N, condition, micro)
        return latents_N

    @torch.no_grad()
    def walk(self, latents_N: Tensor, condition: Tensors, micro: Tensors, noise: Callable[[int], Tensor]) -> Walked:
        """From `prefix` to data.

        Args:
            latents_N: latents before the first stochastic step [N, ...].
            condition: prompt tensors [N, ...].
            micro: micro-conditioning [N, ...].
            noise: standard normal noise [N, ...] of a step.
        """
        solver, recorded = self.solver(), []
        times = solver.times()
        for i in range(len(self.before()), self.likelihood.steps):
            time_N, next_time_N = rows_at(times[i], latents_N), rows_at(times[i + 1], latents_N)
            if i not in self.plan.noisy:
                latents_N = solver.step(latents_N, time_N, next_time_N, condition, micro)
                continue
            kernel = self.likelihood.kernel(self.model, latents_N, time_N, next_time_N, condition, micro)
            next_N = kernel.mean + gaussian.across(kernel.std, kernel.mean) * noise(i).to(kernel.mean)
            if i in self.plan.trained:
                log_prob_N = self.likelihood.transition.log_prob(next_N, kernel.mean, kernel.std)
                recorded.append((latents_N, next_N, time_N, next_time_N, log_prob_N))
            latents_N = next_N
        if not recorded:
            raise RecipeError("the plan records no step.", field="plan", remedy="use likelihood.plan(...).")
        state, next_, time, next_time, log_prob_NT = (torch.stack(part, 1) for part in zip(*recorded, strict=True))
        record = {STATE: state, NEXT: next_, TIME: time, NEXT_TIME: next_time}
        return Walked(latents_N=latents_N, record=record, log_prob_NT=log_prob_NT)


def draw_paths(
    model: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    likelihood: DenoisingPath,
    *,
    plan: Plan,
    start_seeds: Sequence[int] | None = None,
    batch_size: int = 16,
) -> list[Rollout]:
    """One rollout a (prompt, seed), with its path and the log-probs at which it was drawn.

    Args:
        model: a loaded `ImageModel` or `VideoModel`.
        prompts: N texts; those of a group side by side, so that they may share a prefix.
        seeds: N seeds of the noise of the steps.
        likelihood: what the rollouts will be trained with.
        plan: `likelihood.plan(seed=..., collection=...)`, the same for all rollouts that meet in a batch.
        start_seeds: seeds of the noise that paths begin with, `seeds` if None; the same one for a whole group makes its
            samples branch from one path.
        batch_size: samples drawn at a time.

    Returns:
        Rollouts whose candidates hold, on the CPU, "state" and "next" [T, ...], "time" and "next_time" [T], "latents"
        (the final ones) and the model's micro-conditioning.

    Raises:
        ModelError: the likelihood's step is not defined on the model's path, or the model was distilled to be told its
            guidance and the likelihood guides it once more.
        RecipeError: the counts differ, or the plan records nothing.
    """
    starts = seeds if start_seeds is None else start_seeds
    if not len(prompts) == len(seeds) == len(starts):
        raise RecipeError(f"{len(prompts)} prompts came with {len(seeds)} seeds, {len(starts)} starts.", field="seeds")
    if likelihood.guidance != 1.0 and _distilled(model):
        raise ModelError("was distilled to be told its guidance.", field="guidance", remedy="set guidance to 1.0.")
    likelihood.transition.check(model)
    walker, look = Walker(model=model, likelihood=likelihood, plan=plan), blank(model)
    rollouts: list[Rollout] = []
    with model.evaluating():
        for first in range(0, len(prompts), batch_size):
            rows = slice(first, first + batch_size)
            rollouts += _batch(walker, prompts[rows], seeds[rows], starts[rows], look)
    return rollouts


def _distilled(model: Any) -> bool:
    return any(part.config.get("guidance_embeds", False) for part in model.denoisers().values())


def _batch(
    walker: Walker, prompts: Sequence[str], seeds: Sequence[int], starts: Sequence[int], look: Tensors
) -> list[Rollout]:
    model, shape, N = walker.model, look[LATENTS].shape[1:], len(prompts)
    # Rows that begin alike are alike until the first noise.
    pairs = list(zip(prompts, starts, strict=True))
    distinct = list(dict.fromkeys(pairs))
    origin_N = torch.tensor([distinct.index(pair) for pair in pairs])
    condition = model.encode_prompts([prompt for prompt, _ in distinct])
    micro = {name: value.expand(N, *value.shape[1:]) for name, value in look.items() if name != LATENTS}
    begun = walker.prefix(
        start_noise(shape, [start for _, start in distinct]).to(look[LATENTS].device),
        condition,
        {name: value[: len(distinct)] for name, value in micro.items()},
    )
    walked = walker.walk(
        begun[origin_N.to(begun.device)],
        {name: value[origin_N.to(value.device)] for name, value in condition.items()},
        micro,
        lambda i: torch.stack([_noise(seed, prompt, i, shape) for seed, prompt in zip(seeds, prompts, strict=True)]),
    )
    samples = model.decode_latents(walked.latents_N)
    held = {**walked.record, LATENTS: walked.latents_N, **micro}
    return [
        Rollout(
            sample=samples[n],
            candidate={name: value[n].cpu() for name, value in held.items()},
            behavior_T=walked.log_prob_NT[n].cpu(),
        )
        for n in range(N)
    ]


def _noise(seed: int, prompt: str, step: int, shape: Sequence[int]) -> Tensor:
    draws = generator(int(seed), 0, prompt, f"path noise {step}")
    return torch.from_numpy(draws.standard_normal(tuple(shape), dtype=np.float32))


def draw_latents(
    model: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float = 1.0,
    solver: Literal["ode", "pipeline"] = "ode",
    batch_size: int = 16,
) -> list[Rollout]:
    """One rollout a (prompt, seed) for likelihoods that need no path: DiffusionNFT, AWM, online DPO on a bound.

    Args:
        model: a loaded `ImageModel` or `VideoModel`.
        prompts: N texts.
        seeds: N seeds of the noise that samples begin with.
        steps: steps of the solver.
        guidance: scale of classifier-free guidance, 1.0 for none.
        solver: "ode" is ours (Euler on a flow, DDIM elsewhere); "pipeline" the one in the model's own folder.
        batch_size: samples drawn at a time.

    Returns:
        Rollouts whose candidates hold, on the CPU, "latents" [...] and the model's micro-conditioning; without
        behaviour log-probs, of which a bound has none.
    """
    if len(prompts) != len(seeds):
        raise RecipeError(f"{len(prompts)} prompts came with {len(seeds)} seeds.", field="seeds")
    micro = {name: value[0].cpu() for name, value in blank(model).items() if name != LATENTS}
    ours = GuidedSampler(model=model, steps=steps, guidance=guidance, steering=None)
    rollouts: list[Rollout] = []
    for first in range(0, len(prompts), batch_size):
        some, keys = list(prompts[first : first + batch_size]), list(seeds[first : first + batch_size])
        with model.evaluating():
            if solver == "ode":
                latents_N = ours.latents(some, keys)
            else:
                latents_N = model.drawn_latents(some, seeds=keys, steps=steps, guidance=guidance)
        samples = model.decode_latents(latents_N)
        rows = zip(samples, latents_N.float().cpu(), strict=True)
        rollouts += [Rollout(sample=sample, candidate={LATENTS: latents, **micro}) for sample, latents in rows]
    return rollouts
