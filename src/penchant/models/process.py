"""What a scheduler's configuration says about the process a model was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from penchant.errors import ModelError

Prediction = Literal["epsilon", "v_prediction", "sample", "velocity"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Process:
    """`prediction`, `alphas_cumprod` [T] and `shift` of `penchant.types.Denoiser`."""

    prediction: Prediction
    alphas_cumprod: Tensor | None = None
    shift: float = 1.0


def diffusion_process(scheduler: Any) -> Process:
    """The discrete variance-preserving process behind any of the usual samplers.

    Raises:
        ModelError: the scheduler has no alpha-bar table or an unknown prediction type.
    """
    prediction = scheduler.config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(f"unknown prediction type '{prediction}'.", field="prediction_type")
    table = getattr(scheduler, "alphas_cumprod", None)
    if table is None:
        raise ModelError(
            f"{type(scheduler).__name__} keeps no alpha-bar table.",
            field="scheduler",
            remedy="put a DDIM or DDPM scheduler with the training betas into the folder.",
        )
    return Process(prediction=prediction, alphas_cumprod=table.detach().clone().float())


def flow_process(scheduler: Any, *, tokens: int) -> Process:
    """Straight paths with the model's timestep shift k: sigma' = k sigma / (1 + (k - 1) sigma).

    A shift that depends on the number of image tokens, e^mu / (e^mu + 1/sigma - 1), is the same formula with k = e^mu
    (k = mu where the configuration says "linear"), so one resolution has one shift.
    """
    config = scheduler.config
    if not config.get("use_dynamic_shifting", False):
        return Process(prediction="velocity", shift=float(config.get("shift", 1.0)))
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    mu = low + (high - low) * (tokens - few) / (many - few)
    shift = mu if config.get("time_shift_type", "exponential") == "linear" else math.exp(mu)
    return Process(prediction="velocity", shift=float(shift))
