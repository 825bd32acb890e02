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


def flow_process(scheduler: Any, *, tokens: int | None = None) -> Process:
    """Straight paths with the model's timestep shift k: sigma' = k sigma / (1 + (k - 1) sigma).

    A shift that depends on the number of image tokens, e^mu / (e^mu + 1/sigma - 1), is the same formula with k = e^mu
    (k = mu where the configuration says "linear"), so one resolution has one shift. Multistep solvers (UniPC, DPM++)
    that walk a flow call the static one `flow_shift`. How a sampler stretches the end of its path (`shift_terminal`) is
    no part of the process.

    Raises:
        ModelError: the scheduler is set for a diffusion model.
    """
    config = scheduler.config
    if config.get("prediction_type", "flow_prediction") != "flow_prediction":
        raise ModelError(
            f"{type(scheduler).__name__} expects a prediction of '{config.prediction_type}' of a flow model.",
            field="prediction_type",
            remedy="put a scheduler with prediction_type='flow_prediction' and use_flow_sigmas=True into the folder.",
        )
    if not config.get("use_dynamic_shifting", False):
        return Process(prediction="velocity", shift=float(config.get("flow_shift", config.get("shift", 1.0))))
    if tokens is None:
        raise ModelError(
            "the scheduler wants a shift that depends on the number of tokens, which this pipeline does not give it.",
            field="use_dynamic_shifting",
            remedy="set it to false and give a static shift.",
        )
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    mu = low + (high - low) * (tokens - few) / (many - few)
    shift = mu if config.get("time_shift_type", "exponential") == "linear" else math.exp(mu)
    return Process(prediction="velocity", shift=float(shift))
