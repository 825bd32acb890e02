"""A stock pipeline of diffusers, steered by a reward without being changed.

    with steered(pipeline, Steering(reward=reward, guidance=RewardGuidance(weights={"VQ": 0.5, "MQ": 0.5}))):
        frames = pipeline("a red kite over the sea").frames

What a pipeline hands to `scheduler.step` is the prediction after classifier-free guidance, with the latents that it was
made at: the place where the reward comes in. Solver, schedule and `callback_on_step_end` stay as they are.

Each scheduler says in which coordinates its latents stand:

| schedulers                          | latents        | prediction                                        |
|-------------------------------------|----------------|---------------------------------------------------|
| FlowMatchEuler                      | (1-t) x0 + t e | e - x0; with `invert_sigmas` (Mochi) the negative |
| UniPC, DPMSolver with flow sigmas   | (1-t) x0 + t e | e - x0                                            |
| UniPC, DPMSolver, DEIS              | a x0 + s e     | `prediction_type`                                 |
| DDIM, PNDM, CogVideoX's DDIM        | a x0 + s e     | `prediction_type`                                 |
| Euler                               | x0 + sigma e   | `prediction_type`                                 |
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from penchant.errors import ModelError
from penchant.likelihoods import gaussian
from penchant.sampling.guidance import LatentReward, Position
from penchant.sampling.ode import Steering

# From a pipeline's latents to those of our models, differentiably: packed tokens to [N, C, ...] and the like.
Layout = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Stand:
    """Where a scheduler stands, and how its numbers become ours.

    Attributes:
        at: the position on a path of ours.
        quantity: what the prediction is.
        scale: latents over this are a * x0 + s * eps.
        sign: of the prediction; -1 for a model that predicts data - noise.
    """

    at: Position
    quantity: gaussian.Quantity
    scale: float = 1.0
    sign: float = 1.0


def _flow(scheduler: Any, timestep: Any) -> Stand:
    sigma = _sigma(scheduler, timestep)
    if scheduler.config.get("invert_sigmas", False):
        return Stand(at=_straight(1 - sigma), quantity="velocity", sign=-1.0)
    return Stand(at=_straight(sigma), quantity="velocity")


def _straight(sigma: float) -> Position:
    return Position(time=sigma, a=1 - sigma, s=sigma)


def _multistep(scheduler: Any, timestep: Any) -> Stand:
    if scheduler.config.prediction_type == "flow_prediction":
        return Stand(at=_straight(_sigma(scheduler, timestep)), quantity="velocity")
    exploding = _exploding(scheduler, timestep)
    return Stand(at=exploding.at, quantity=exploding.quantity)


def _preserving(scheduler: Any, timestep: Any) -> Stand:
    power = float(scheduler.alphas_cumprod[int(timestep)])
    at = Position(time=int(timestep), a=math.sqrt(power), s=math.sqrt(1 - power))
    return Stand(at=at, quantity=scheduler.config.prediction_type)


def _exploding(scheduler: Any, timestep: Any) -> Stand:
    sigma = _sigma(scheduler, timestep)
    scale = math.sqrt(1 + sigma**2)
    at = Position(time=round(float(timestep)), a=1 / scale, s=sigma / scale)
    return Stand(at=at, quantity=scheduler.config.prediction_type, scale=scale)


def _sigma(scheduler: Any, timestep: Any) -> float:
    """The noise of the current step; a scheduler finds its index at its first step, as here."""
    if scheduler.step_index is None:
        scheduler._init_step_index(timestep)
    return float(scheduler.sigmas[scheduler.step_index])


STANDS: dict[str, Callable[[Any, Any], Stand]] = {
    "FlowMatchEulerDiscreteScheduler": _flow,
    "UniPCMultistepScheduler": _multistep,
    "DPMSolverMultistepScheduler": _multistep,
    "DEISMultistepScheduler": _multistep,
    "DDIMScheduler": _preserving,
    "PNDMScheduler": _preserving,
    "CogVideoXDDIMScheduler": _preserving,
    "EulerDiscreteScheduler": _exploding,
}


@contextmanager
def steered(
    pipeline: Any,
    steering: Steering,
    *,
    condition: Mapping[str, Tensor] | None = None,
    layout: Layout | None = None,
) -> Iterator[None]:
    """While it lasts, every step of the pipeline's scheduler is steered. At scale 0 the pipeline gives its own bits.

    Args:
        pipeline: any pipeline whose scheduler is in `STANDS`.
        steering: the reward and how strongly which of its dimensions act.
        condition: what the reward reads of the prompts, [N, ...] in the order of the prompts; `model.encode_prompts` of
            the generator's adapter. Several samples a prompt are taken as the pipelines draw them, side by side.
        layout: how the pipeline's latents become what the reward reads, where the two differ: `layout_of`.

    Raises:
        ModelError: the scheduler is unknown, or condition and samples do not fit.
    """
    scheduler = pipeline.scheduler
    kind = type(scheduler).__name__
    if kind not in STANDS:
        raise ModelError(
            f"how {kind} holds its latents is not known.", field="scheduler", remedy=f"use {', '.join(STANDS)}."
        )
    original, names = scheduler.step, inspect.signature(scheduler.step)

    # Pipelines ask for the signature of `step` before they call it.
    @functools.wraps(original)
    def step(*args: Any, **options: Any) -> Any:
        call = names.bind(*args, **options)
        given = call.arguments
        given["model_output"] = _pushed(
            given["model_output"],
            given["sample"],
            STANDS[kind](scheduler, given["timestep"]),
            steering=steering,
            condition=condition or {},
            layout=layout,
        )
        return original(*call.args, **call.kwargs)

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step


def _pushed(
    prediction_N: Tensor,
    latents_N: Tensor,
    stand: Stand,
    *,
    steering: Steering,
    condition: Mapping[str, Tensor],
    layout: Layout | None,
) -> Tensor:
    if not steering.guidance.acts(stand.at):
        return prediction_N
    reward = steering.reward if layout is None else _Laid(steering.reward, layout)
    pushed_N = steering.guidance.steered(
        stand.sign * prediction_N,
        latents_N / stand.scale,
        stand.at,
        quantity=stand.quantity,
        reward=reward,
        condition={name: _rows(name, value, len(latents_N)) for name, value in condition.items()},
    )
    return stand.sign * pushed_N


class _Laid:
    """A reward that reads a pipeline's latents through a layout; its gradient stands in the pipeline's."""

    def __init__(self, reward: LatentReward, layout: Layout) -> None:
        self.reward, self.layout = reward, layout
        self.dimensions, self.name = reward.dimensions, reward.name

    def score(self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        return self.reward.score(self.layout(noisy_N), time_N, condition)


def _rows(name: str, value: Tensor, count: int) -> Tensor:
    if count % len(value):
        raise ModelError(
            f"{len(value)} prompts cannot share {count} samples evenly.",
            field=name,
            remedy="give the condition of exactly the prompts that the pipeline is called with.",
        )
    return value.repeat_interleave(count // len(value), dim=0)


def layout_of(model: Any) -> Layout | None:
    """How the latents of a loaded model's own pipeline become the [N, C, ...] of its adapter; None where they are."""
    from penchant.models import flux, ltx
    from penchant.models.blank import blank

    kind = type(model).__name__
    if kind == "CogVideoX":
        return lambda latents: latents.transpose(1, 2)
    if kind not in ("Flux", "LTX"):
        return None
    size = blank(model)["latents"].shape[2:]
    if kind == "Flux":
        return lambda tokens: flux.unpack(tokens, *size)
    pipeline = model.pipeline
    patches = pipeline.transformer_temporal_patch_size, pipeline.transformer_spatial_patch_size
    frames, high, wide = size
    return lambda tokens: ltx.unpack(tokens, (frames, high, wide), *patches)
