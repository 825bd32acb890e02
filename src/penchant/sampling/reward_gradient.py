"""Rewards that can be differentiated: ReFL (arXiv 2304.05977, algorithm 1) and DRaFT (2309.17400).

A judge of the house gives numbers; a reward here gives gradients as well, and the policy follows them back through the
last steps of its own sampling. No likelihood and no feedback take part, so these are no objectives.

    ReFL      walk to a random late step without gradient, take one with it -> x0, loss = weight * relu(margin - r)
    DRaFT-K   walk the whole path, the last K steps with gradient -> x0, loss = -r
    DRaFT-LV  walk the whole path without gradient -> x0, noise it n times to the last step's level, take that step
              with gradient -> loss = -mean r

Where we differ:

1. ReFL's paper adds the pretraining loss; its public code (ImageReward) does not, and neither do we.
2. ReFL's step is drawn for each prompt, not for each batch, so that it does not depend on what shares the batch.
3. DRaFT-LV is written from the paper's description, without code to compare with: the loss is the mean over the noised
   copies alone.

Memory is that of K calls of the denoiser and one decoder; give the policy LoRA and gradient checkpointing.

Shape legend: N prompts of one batch, D dimensions of a reward, `...` the shape of a latent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import RecipeError, nearest
from penchant.likelihoods import gaussian, transitions
from penchant.likelihoods.randomness import generator
from penchant.sampling.guidance import LatentReward
from penchant.sampling.solver import Solver, rows_at

Tensors = Mapping[str, Tensor]


class SampleReward(Protocol):
    """Scores final latents, larger = better, differentiably."""

    def score(self, latents_N: Tensor, prompts: Sequence[str], condition: Tensors) -> Float[Tensor, " N"]:
        """One number a sample.

        Args:
            latents_N: data latents [N, ...], as `Denoiser.denoise` takes them.
            prompts: N texts.
            condition: their tensors [N, ...], as the generator encodes them.
        """


@final
@dataclass(frozen=True, kw_only=True)
class OnLatents:
    """A `LatentReward` at time 0: no decoder is needed.

    Attributes:
        reward: the reward.
        weights: weight of each of its dimensions; one that is not named weighs nothing.
        flow: whether its generator is a flow, whose data stand at sigma 0 and not at timestep 0.
    """

    reward: LatentReward
    weights: Mapping[str, float]
    flow: bool

    def __post_init__(self) -> None:
        for name in self.weights:
            if name not in self.reward.dimensions:
                remedy = nearest(name, list(self.reward.dimensions))
                raise RecipeError(f"the reward has no dimension '{name}'.", field="weights", remedy=remedy)

    def score(self, latents_N: Tensor, prompts: Sequence[str], condition: Tensors) -> Float[Tensor, " N"]:
        """sum of weight_k r_k."""
        kind = torch.float32 if self.flow else torch.int64
        time_N = torch.zeros(len(latents_N), dtype=kind, device=latents_N.device)
        scores_ND = self.reward.score(latents_N, time_N, condition)
        return scores_ND @ scores_ND.new_tensor([self.weights.get(name, 0.0) for name in self.reward.dimensions])


@final
@dataclass(frozen=True, kw_only=True)
class OnPixels:
    """A reward that looks at decoded samples.

    Attributes:
        model: the generator, whose decoder is gone back through.
        look: (prompts, pixels [N, 3, ..., H, W] in [0, 1]) -> rewards [N], differentiable in the pixels.
    """

    model: Any
    look: Callable[[Sequence[str], Tensor], Float[Tensor, " N"]]

    def score(self, latents_N: Tensor, prompts: Sequence[str], condition: Tensors) -> Float[Tensor, " N"]:
        """The reward of the decoded samples, not clipped to what a file can hold, where gradients would end."""
        return self.look(prompts, self.model.decoded_pixels(latents_N) / 2 + 0.5)


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """N prompts of one batch with what a path of each begins with.

    Attributes:
        prompts: texts.
        condition: their tensors [N, ...].
        micro: micro-conditioning [N, ...].
        noise_N: standard normal latents [N, ...].
        keys: what counted draws of each prompt are keyed by: (seed, epoch, id).
    """

    prompts: Sequence[str]
    condition: Tensors
    micro: Tensors
    noise_N: Tensor
    keys: Sequence[tuple[int, int, str]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Followed:
    """The loss of every prompt, with gradient, and the reward it comes from, without."""

    loss_N: Float[Tensor, " N"]
    reward_N: Float[Tensor, " N"]


class RewardGradient(ABC):
    """From prompts to a loss that is differentiable in the policy; frozen options."""

    @abstractmethod
    def follow(self, model: Any, reward: SampleReward, asked: Asked) -> Followed:
        """Samples, scores, and keeps the graph of the last steps."""


@final
@dataclass(frozen=True, kw_only=True)
class ReFL(RewardGradient):
    """One step with gradient from a random late place of the path to data at once.

    Args:
        steps: of the whole path.
        stops: first and last step from which data are predicted, counted from 0.
        margin: rewards above it have no gradient.
        weight: on the loss.
        guidance: scale of classifier-free guidance.
    """

    steps: int = 40
    stops: tuple[int, int] = (30, 39)
    margin: float = 2.0
    weight: float = 1e-3
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.stops[0] <= self.stops[1] < self.steps:
            raise RecipeError(f"{self.stops} lie not on {self.steps} steps.", field="stops", remedy="count from 0.")

    def stop(self, key: tuple[int, int, str]) -> int:
        """The step from which a prompt's data are predicted."""
        seed, epoch, id = key
        return int(generator(seed, epoch, id, "refl stop").integers(self.stops[0], self.stops[1] + 1))

    def follow(self, model: Any, reward: SampleReward, asked: Asked) -> Followed:
        """weight * relu(margin - r)."""
        solver = Solver(model=model, steps=self.steps, guidance=self.guidance)
        times, stop_N = solver.times(), torch.tensor([self.stop(key) for key in asked.keys])
        latents_N = stopped_N = gaussian.at_least_float32(asked.noise_N)
        with torch.no_grad():
            for i in range(int(stop_N.max()) + 1):
                here_N = gaussian.across((stop_N == i).to(latents_N.device), latents_N).bool()
                stopped_N = torch.where(here_N, latents_N, stopped_N)
                if i < int(stop_N.max()):
                    latents_N = _walk(solver, times, range(i, i + 1), latents_N, asked)
        time_N, data_N = times[stop_N].to(stopped_N.device), rows_at(times[-1], stopped_N)
        x0_N = solver.step(stopped_N, time_N, data_N, asked.condition, asked.micro)
        reward_N = reward.score(x0_N, asked.prompts, asked.condition)
        return Followed(loss_N=self.weight * (self.margin - reward_N).relu(), reward_N=reward_N.detach())


@final
@dataclass(frozen=True, kw_only=True)
class DRaFT(RewardGradient):
    """The reward's gradient through the last steps of the path; VADER truncates in the same way.

    Args:
        steps: of the whole path.
        last: K, how many of them have a gradient.
        guidance: scale of classifier-free guidance.
    """

    steps: int = 50
    last: int = 1
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.last <= self.steps:
            raise RecipeError(f"{self.last} of {self.steps} steps.", field="last", remedy="use 1 to all of them.")

    def follow(self, model: Any, reward: SampleReward, asked: Asked) -> Followed:
        """-r."""
        solver = Solver(model=model, steps=self.steps, guidance=self.guidance)
        times, first = solver.times(), self.steps - self.last
        with torch.no_grad():
            latents_N = _walk(solver, times, range(first), asked.noise_N, asked)
        x0_N = _walk(solver, times, range(first, self.steps), latents_N, asked)
        reward_N = reward.score(x0_N, asked.prompts, asked.condition)
        return Followed(loss_N=-reward_N, reward_N=reward_N.detach())


@final
@dataclass(frozen=True, kw_only=True)
class DRaFTLV(RewardGradient):
    """DRaFT-1 of lower variance: the last step is taken from several noised copies of the sample.

    Args:
        steps: of the whole path.
        copies: n, noised copies a sample.
        guidance: scale of classifier-free guidance.
    """

    steps: int = 50
    copies: int = 2
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise RecipeError("no copy has no gradient.", field="copies", remedy="use 2.")

    def follow(self, model: Any, reward: SampleReward, asked: Asked) -> Followed:
        """-mean r over the copies."""
        solver = Solver(model=model, steps=self.steps, guidance=self.guidance)
        times = solver.times()
        with torch.no_grad():
            data_N = _walk(solver, times, range(self.steps), asked.noise_N, asked)
        time_N, end_N = rows_at(times[-2], data_N), rows_at(times[-1], data_N)
        level = transitions.Step.between(model, time_N, end_N)
        rewards = []
        for copy in range(self.copies):
            fresh_N = torch.stack([_fresh(key, copy, data_N.shape[1:]) for key in asked.keys]).to(data_N)
            noisy_N = gaussian.add_noise(data_N, fresh_N, level.a_N, level.s_N)
            x0_N = solver.step(noisy_N, time_N, end_N, asked.condition, asked.micro)
            rewards.append(reward.score(x0_N, asked.prompts, asked.condition))
        reward_N = torch.stack(rewards).mean(0)
        return Followed(loss_N=-reward_N, reward_N=reward_N.detach())


def _walk(solver: Solver, times: Tensor, span: range, latents_N: Tensor, asked: Asked) -> Tensor:
    for i in span:
        time_N, next_time_N = rows_at(times[i], latents_N), rows_at(times[i + 1], latents_N)
        latents_N = solver.step(latents_N, time_N, next_time_N, asked.condition, asked.micro)
    return latents_N


def _fresh(key: tuple[int, int, str], copy: int, shape: Sequence[int]) -> Tensor:
    seed, epoch, id = key
    draws = generator(seed, epoch, id, f"draft copy {copy}")
    return torch.from_numpy(draws.standard_normal(tuple(shape), dtype=np.float32))
