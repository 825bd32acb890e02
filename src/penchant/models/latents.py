"""Between a VAE's latents and the latents a denoiser is trained on, with randomness that is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from penchant.likelihoods import generator


def posterior_noise(shape: tuple[int, ...], *, seed: int, name: str) -> Tensor:
    """Standard normal float32 values [*shape], a function of (seed, name) alone."""
    return torch.from_numpy(generator(seed, 0, name, "posterior").standard_normal(shape, dtype=np.float32))


def normalise(latents: Tensor, config: Any) -> Tensor:
    """(z - shift) * scale of a VAE's configuration; some VAEs give a mean and a deviation per channel instead."""
    mean, std = _statistics(latents, config)
    return (latents - mean) * (config.scaling_factor / std)


def denormalise(latents: Tensor, config: Any) -> Tensor:
    """The inverse of `normalise`, in the order of operations of the pipelines."""
    mean, std = _statistics(latents, config)
    return latents * std / config.scaling_factor + mean


def _statistics(latents: Tensor, config: Any) -> tuple[Any, Any]:
    means, stds = config.get("latents_mean"), config.get("latents_std")
    if means is not None and stds is not None:
        spread = (1, -1) + (1,) * (latents.ndim - 2)
        return latents.new_tensor(means).view(spread), latents.new_tensor(stds).view(spread)
    return config.get("shift_factor") or 0.0, 1.0
