"""The likelihood of a recorded denoising path: its Gaussian steps (DDPO, arXiv 2305.13301; Flow-GRPO, 2505.05470).

    log p(x_s' | x_s, c) = mean over dims of log N(x_s'; mean(x_s, prediction), std^2)      for each step s -> s'

A rollout (`penchant.sampling.paths`) records the states of its stochastic steps; here the same steps are scored under
any weights. With unchanged weights that is what the rollout itself recorded, up to the rounding of another batch shape.

Where we differ:

1. The last step, onto data, follows the ODE (`skip_last`). Flow-GRPO and DanceGRPO leave it out of training too, but
   draw noise there, which judges then see and nothing learns from.
2. The time grid is that of our solver (`penchant.sampling.ode`): "trailing" timesteps on a diffusion model, where
   DDPO's code has "leading" ones.
3. What is trained is drawn for a whole collection, so that all its rows go through the model together; DanceGRPO
   draws a share of steps for each sample.

Shape legend: B groups, K candidates, T recorded steps, N rows of one model call, `...` a latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import RecipeError
from penchant.likelihoods import _denoising, gaussian
from penchant.likelihoods.randomness import generator
from penchant.likelihoods.transitions import FlowSDE, Step, Transition, gaussian_kl
from penchant.types import CandidateBatch, Density, Draw, Likelihood, LogProbs

STATE, NEXT, TIME, NEXT_TIME = "state", "next", "time", "next_time"
RECORD = (STATE, NEXT, TIME, NEXT_TIME)
"""What a rollout's candidate holds of its path: [T, ...], [T, ...], [T], [T]."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which steps of a collection are stochastic, and which of those are recorded and trained; both ascending.

    >>> DenoisingPath(steps=5).plan(seed=0, collection=0)
    Plan(noisy=(0, 1, 2, 3), trained=(0, 1, 2, 3))
    """

    noisy: tuple[int, ...]
    trained: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel:
    """The Gaussian of one step: mean [N, ...], deviation [N], and the deviation that a KL is measured by [N]."""

    mean: Tensor
    std: Tensor
    kl_std: Tensor


@dataclass(frozen=True, kw_only=True)
class DenoisingPath(Likelihood):
    """Transitions of a path that the policy itself drew.

    Args:
        transition: the stochastic step: `FlowSDE`, `DanceSDE` (flows; `AsFlow` takes them anywhere), `CPS`, `DDIM` (any
            model).
        steps: denoising steps of the whole path.
        window: how many consecutive steps are stochastic and trained, the others follow the ODE (Flow-GRPO-Fast,
            MixGRPO); None makes all of them stochastic.
        window_range: a window begins in the first `window_range * steps` steps.
        fraction: share of the stochastic steps that is trained (0.6 in DanceGRPO); without a window only.
        guidance: scale of classifier-free guidance inside the policy, 1.0 for none.
        skip_last: the step onto data follows the ODE and is not trained.
    """

    density: ClassVar[Density] = "path"

    transition: Transition = field(default_factory=FlowSDE)
    steps: int = 10
    window: int | None = None
    window_range: float = 0.5
    fraction: float = 1.0
    guidance: float = 1.0
    skip_last: bool = True

    def __post_init__(self) -> None:
        room = self.steps - self.skip_last
        if room < 1:
            raise RecipeError(f"of {self.steps} steps none has noise.", field="steps", remedy="use 2 or more.")
        if self.window is not None and not 1 <= self.window <= room:
            raise RecipeError(
                f"a window of {self.window} does not fit into {room} stochastic steps.",
                field="window",
                remedy=f"use 1 to {room}, or None for all.",
            )
        if not 0 < self.window_range <= 1 or not 0 < self.fraction <= 1:
            raise RecipeError("shares lie in (0, 1].", field="window_range, fraction", remedy="use 1 for all.")
        if self.window is not None and self.fraction != 1:
            raise RecipeError("a window is trained whole.", field="fraction", remedy="set one of window and fraction.")
        if self.transition.strength == 0:
            raise RecipeError("a step without noise has no density.", field="transition", remedy="give it some noise.")
        if not (self.skip_last or self.transition.noisy_at_data):
            raise RecipeError(
                f"{type(self.transition).__name__} has no noise on the last step, and so no density.",
                field="skip_last",
                remedy="set it to True.",
            )

    # Which steps.

    def plan(self, *, seed: int, collection: int) -> Plan:
        """What is stochastic and trained in a collection of rollouts: a pure function of (seed, collection)."""
        draws = generator(seed, collection, "", "path steps")
        if self.window is not None:
            return self.plan_at(int(draws.integers(max(1, int(self.window_range * self.steps)))))
        noisy = tuple(range(self.steps - self.skip_last))
        count = max(1, round(self.fraction * len(noisy)))
        return Plan(noisy=noisy, trained=tuple(sorted(int(i) for i in draws.permutation(len(noisy))[:count])))

    def plan_at(self, start: int) -> Plan:
        """A window that begins at step `start`, or as late as it fits: for schedules of one's own (MixGRPO)."""
        room = self.steps - self.skip_last
        size = self.window or room
        first = max(0, min(start, room - size))
        steps = tuple(range(first, first + size))
        return Plan(noisy=steps, trained=steps)

    # How likely.

    def draw(self, batch: CandidateBatch, *, seed: int, epoch: int) -> Draw:
        """Nothing is drawn: the rollout drew."""
        return Draw(key_B=("",) * batch.shape[0])

    def predict(
        self, model: Any, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], micro: Mapping[str, Tensor]
    ) -> Tensor:
        """The policy's prediction [N, ...] in at least float32: guided, from one model call of N or 2 N rows."""
        return _denoising.guided(model, noisy_N, time_N, condition, micro, guidance=self.guidance)

    def kernel(
        self,
        model: Any,
        noisy_N: Tensor,
        time_N: Tensor,
        next_time_N: Tensor,
        condition: Mapping[str, Tensor],
        micro: Mapping[str, Tensor],
    ) -> Kernel:
        """The Gaussian that the policy draws the next latents from; rollouts and training both come through here.

        Args:
            model: the policy.
            noisy_N: latents [N, ...].
            time_N: their time, in the model's convention.
            next_time_N: the time of the next ones; on a discrete schedule `transitions.DATA` is data.
            condition: prompt tensors [N, ...].
            micro: micro-conditioning [N, ...].

        Raises:
            ModelError: the step is not defined on the model's path.
        """
        transition = self.transition
        transition.check(model)
        step = Step.between(model, time_N, next_time_N)
        wide_N = gaussian.at_least_float32(noisy_N)
        prediction_N = self.predict(model, wide_N, time_N, condition, micro)
        mean_N = transition.mean(step, prediction_N, wide_N, model.prediction)
        return Kernel(mean=mean_N, std=transition.std(step).to(mean_N), kl_std=transition.kl_std(step).to(mean_N))

    def log_prob(self, model: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False) -> LogProbs:
        """Log-prob of every recorded step [B, K, T], differentiable in the model's parameters.

        `keep_output` keeps the `Kernel` of every step, with [B, K, T] in place of N.

        Raises:
            RecipeError: the batch holds no recorded path.
        """
        b, k, t, index_N, shape = _rows(batch)
        held, mask_BKT = batch.candidates, batch.mask_BK[:, :, None].expand(shape)
        kernel = self.kernel(
            model,
            held[STATE][b, k, t],
            held[TIME][b, k, t],
            held[NEXT_TIME][b, k, t],
            {name: value[b] for name, value in batch.condition.items()},
            {n: v[b, k] for n, v in held.items() if n not in (*RECORD, _denoising.LATENTS)},
        )
        step_N = self.transition.log_prob(held[NEXT][b, k, t], kernel.mean, kernel.std)
        return LogProbs(
            step_BKT=_denoising.scatter(step_N, index_N, shape),
            mask_BKT=mask_BKT,
            density="path",
            output=_spread(kernel, index_N, shape) if keep_output else None,
        )

    def divergence(self, policy: LogProbs, reference: LogProbs) -> Float[Tensor, "B K T"]:
        """KL(policy || reference) of every step, the mean over dimensions; zero where masked."""
        if policy.output is None or reference.output is None:
            raise ValueError("both models' outputs are needed: call log_prob(..., keep_output=True).")
        mine, other = policy.output, reference.output
        # Where a candidate is missing the deviation is 0 and the KL no number.
        kl_BKT = gaussian_kl(mine.mean, other.mean, mine.kl_std, batch_dims=3)
        return torch.where(policy.mask_BKT, kl_BKT, 0)


def _rows(batch: CandidateBatch) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[int, int, int]]:
    """(b, k, t) of the N rows whose candidate is present, their place among all, and (B, K, T)."""
    if lacking := [name for name in RECORD if name not in batch.candidates]:
        raise RecipeError(
            f"the batch holds no recorded path (no '{lacking[0]}').",
            field="likelihood",
            remedy="train on rollouts of the policy, or use a bound: Diffusion() or FlowMatching().",
        )
    B, K, T = batch.candidates[TIME].shape
    index_N = batch.mask_BK[:, :, None].expand(B, K, T).reshape(-1).nonzero()[:, 0]
    return index_N // (K * T), index_N // T % K, index_N % T, index_N, (B, K, T)


def _spread(kernel: Kernel, index_N: Tensor, shape: tuple[int, int, int]) -> Kernel:
    return replace(kernel, **{name: _denoising.scatter(v, index_N, shape) for name, v in vars(kernel).items()})
