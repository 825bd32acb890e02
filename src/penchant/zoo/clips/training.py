"""The one training loop of the clip makers: AdamW under a warmed-up cosine, averaged parameters, resumable exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

# Draws the batch of one step from its own generator, so that a resumed run goes on as if it had never stopped.
LossOf = Callable[[torch.Generator], Tensor]
_SAVE_EVERY, _SAY_EVERY = 250, 50


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Optimiser steps, peak learning rate, steps of warm-up and decay of the average of one training."""

    steps: int
    lr: float
    warmup: int = 100
    ema: float = 0.995
    batch: int = 32
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then a cosine to zero."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))


class Run:
    """The state of one training: parameters, averages, optimiser; written to one file and read back."""

    def __init__(self, parameters: Sequence[Tensor], schedule: Schedule, file: Path) -> None:
        self.parameters, self.schedule, self.file = list(parameters), schedule, file
        self.optimiser = torch.optim.AdamW(self.parameters, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
        self.average = [p.detach().clone() for p in self.parameters]
        self.step = 0
        if file.exists():
            self._load()

    def train(self, loss_of: LossOf) -> float:
        """Steps to the end of the schedule, leaves the averaged parameters in place; returns seconds of this call."""
        started, first = time.time(), self.step
        while self.step < self.schedule.steps:
            generator = torch.Generator().manual_seed(self.schedule.seed * 1_000_003 + self.step)
            loss = loss_of(generator)
            self._update(loss)
            if self.step % _SAY_EVERY == 0:
                pace = (self.step - first) / (time.time() - started)
                said = (
                    f"{self.file.stem} step {self.step}/{self.schedule.steps} loss {loss.item():.4f} {pace:.2f} steps/s"
                )
                print(said, flush=True)
            if self.step % _SAVE_EVERY == 0 or self.step == self.schedule.steps:
                self._save()
        with torch.no_grad():
            for parameter, mean in zip(self.parameters, self.average, strict=True):
                parameter.copy_(mean)
        return time.time() - started

    def _update(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        self.optimiser.step()
        self.step += 1
        # Warmed up, so that the first steps do not linger.
        decay = min(self.schedule.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)

    def _save(self) -> None:
        from safetensors.torch import save_file

        state: dict[str, Tensor] = {"step": torch.tensor(self.step)}
        for i, parameter in enumerate(self.parameters):
            slots = self.optimiser.state[parameter]
            state |= {f"p.{i}": parameter.detach(), f"average.{i}": self.average[i]}
            state |= {f"m.{i}": slots["exp_avg"], f"v.{i}": slots["exp_avg_sq"], f"t.{i}": slots["step"]}
        partial = self.file.with_suffix(".partial")
        save_file({k: v.contiguous() for k, v in state.items()}, partial)
        partial.replace(self.file)

    @torch.no_grad()
    def _load(self) -> None:
        from safetensors.torch import load_file

        state = load_file(self.file)
        self.step = int(state["step"])
        for i, parameter in enumerate(self.parameters):
            parameter.copy_(state[f"p.{i}"])
            self.average[i].copy_(state[f"average.{i}"])
            slots = {"exp_avg": state[f"m.{i}"], "exp_avg_sq": state[f"v.{i}"], "step": state[f"t.{i}"]}
            self.optimiser.state[parameter] = slots
