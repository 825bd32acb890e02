"""Optimiser, learning rate and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from penchant.recipe import Training


def optimiser(parameters: Sequence[torch.nn.Parameter], train: Training) -> torch.optim.Optimizer:
    """AdamW (fused), or Adafactor with the fixed step size of the SDXL Diffusion-DPO launcher."""
    if train.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(
            parameters, lr=train.lr, weight_decay=train.weight_decay, scale_parameter=False, relative_step=False
        )
    return torch.optim.AdamW(
        parameters, lr=train.lr, betas=train.betas, eps=train.eps, weight_decay=train.weight_decay, fused=True
    )


def learning_rate(train: Training, step: int) -> float:
    """The rate of step `step` (from 0); no state, so resuming cannot shift it."""
    if step < train.warmup:
        return train.lr * (step + 1) / train.warmup
    done = (step - train.warmup) / max(1, train.steps - train.warmup)
    if train.schedule == "cosine":
        return train.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return train.lr * max(0.0, 1 - done) if train.schedule == "linear" else train.lr


class Ema:
    """Averaged weights, warmed up so that the first steps do not linger (decay min(d, (1 + n) / (10 + n)))."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters, self.decay, self.updates = list(parameters), decay, 0
        self.shadow = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the current weights into the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Puts the average in place of the weights."""
        for parameter, mean in zip(self.parameters, self.shadow, strict=True):
            parameter.copy_(mean)
