"""The one training loop. It knows no method: draw, score, objective, step.

Everything random is counted by (seed, step or epoch, group), and the reference is built before training changes
anything, so a run that was killed and resumed ends with the same bits as one that never stopped.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from penchant.errors import CheckpointError, RecipeError
from penchant.recipe import Training
from penchant.train import checkpoint
from penchant.train.guards import FiniteGuard, StopRequest
from penchant.train.meters import Averages, Meter, MetricsFile
from penchant.train.optimisation import Ema, learning_rate, optimiser
from penchant.train.order import visits


class Data(Protocol):
    """Where the loop gets its groups: a fixed set of feedback, or rollouts of the policy itself."""

    def __len__(self) -> int:
        """Number of groups of an epoch."""

    def before_step(self, step: int, model: Any) -> None:
        """Called before every step; rollouts sample and judge new groups here, a fixed set does nothing."""

    def metrics(self) -> Mapping[str, float]:
        """What there is to tell of the groups of the step beside what the objective tells; a fixed set has nothing."""

    def state(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """What a checkpoint must keep to go on exactly: tensors, and JSON."""

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""

    def batch(self, indices: Sequence[int]) -> Any:
        """The groups at `indices`, encoded: a `CandidateBatch`, or anything else with `to` and `group_ids` that the
        scoring reads."""


class Settings(Protocol):
    """What the loop reads of a recipe."""

    @property
    def train(self) -> Training:
        """How to optimise."""

    @property
    def seed(self) -> int:
        """Key of every draw."""


class Trainee(Protocol):
    """What trains: a policy, or a reward network."""

    module: Any

    @property
    def device(self) -> torch.device:
        """Where it is."""

    def trainable_parameters(self) -> list[Any]:
        """The weights that train."""


class Scoring(Protocol):
    """From a batch to gradients: `Scorer` for policies."""

    def train_mode(self) -> None:
        """Called once before the first step."""

    def backward(self, batches: Sequence[tuple[int, Any]], *, share: float, averages: Averages) -> None:
        """Adds the gradient of (epoch, batch)es that are `share` of a step, and their metrics to `averages`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended: at which step, whether a signal stopped it, and what it cost."""

    step: int
    stopped_by: int | None
    seconds: float
    cpu_seconds: float
    pairs_per_second: float
    peak_bytes: float
    skipped: int


class Loop:
    """One run: `recipe` says how, `scorer` trains `model` in place, `folder` keeps checkpoints and metrics."""

    def __init__(
        self, recipe: Settings, model: Trainee, scorer: Scoring, data: Data, folder: Path, accelerator: Any
    ) -> None:
        self.recipe, self.model, self.scorer = recipe, model, scorer
        self.data, self.folder, self.accelerator = data, folder, accelerator
        self.parameters = list(model.trainable_parameters())
        if not self.parameters:
            raise RecipeError("nothing in the model trains.", field="policy", remedy="give it a LoRA rank, or none.")
        model.module, self.optimiser = accelerator.prepare(model.module, optimiser(self.parameters, recipe.train))
        self.ema = Ema(self.parameters, recipe.train.ema) if recipe.train.ema else None
        self.guard = FiniteGuard(recipe.train.bad_steps, folder)
        self.step, self._saved = 0, -1

    # One optimiser step.

    def take_step(self) -> dict[str, float]:
        """Trains on the groups of the current step; returns their mean metrics."""
        train, accelerator = self.recipe.train, self.accelerator
        self.data.before_step(self.step, self.model)
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step * 1_009 + accelerator.process_index)
        turns = visits(seed=self.recipe.seed, step=self.step, batch_size=train.batch_size, count=len(self.data))
        mine = turns[accelerator.process_index :: accelerator.num_processes]
        size = train.micro_batch or len(mine)
        averages = Averages()
        groups: list[str] = []
        for start in range(0, len(mine), size):
            chunk = mine[start : start + size]
            last = start + size >= len(mine)
            # Gradients are averaged over processes once, at the last micro-batch.
            with nullcontext() if last else accelerator.no_sync(self.model.module):
                share = len(chunk) * accelerator.num_processes / train.batch_size
                batches = self._batches(chunk)
                self.scorer.backward(batches, share=share, averages=averages)
            groups += [name for _, batch in batches for name in batch.group_ids]
        totals = averages.means() | dict(self.data.metrics())
        totals |= self._update(totals["loss"], groups)
        self.step += 1
        return totals

    def _batches(self, turns: Sequence[Any]) -> list[tuple[int, Any]]:
        """The groups of these turns, one batch an epoch (a step may cross into the next one)."""
        by_epoch: dict[int, list[int]] = {}
        for turn in turns:
            by_epoch.setdefault(turn.epoch, []).append(turn.index)
        return [(epoch, self.data.batch(indices).to(self.model.device)) for epoch, indices in by_epoch.items()]

    def _update(self, loss: float, groups: Sequence[str]) -> dict[str, float]:
        train = self.recipe.train
        norm = self.accelerator.clip_grad_norm_(self.parameters, train.clip if train.clip is not None else float("inf"))
        rate = learning_rate(train, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        # A half-precision scaler skips infinite gradients by itself, and that is not a fault; a broken loss is one.
        scaled = self.accelerator.scaler is not None
        seen = 0.0 if scaled else float(norm)
        if self.guard.admits(loss=loss, norm=seen, step=self.step, groups=groups) or scaled:
            self.optimiser.step()
            if self.ema is not None:
                self.ema.update()
        self.optimiser.zero_grad(set_to_none=True)
        return {"grad_norm": float(norm), "lr": rate}

    # The run.

    def run(self, stop: StopRequest, say: Callable[[str], None]) -> Outcome:
        """Trains to the recipe's last step, or until `stop` is asked for."""
        train, main = self.recipe.train, self.accelerator.is_main_process
        self.scorer.train_mode()
        started, cpu, first = time.monotonic(), time.process_time(), self.step
        metrics = MetricsFile(self.folder / "metrics.jsonl", step=self.step) if main else None
        meter = Meter(train.steps, self.step, train.batch_size)
        told = 0.0
        while self.step < train.steps and stop.signal is None:
            values = self.take_step()
            meter.update(values)
            if metrics is not None and (self.step % train.log_every == 0 or self.step == train.steps):
                metrics.write(self.step, {**values, "groups_per_second": meter.rate(self.step)})
                self.accelerator.log(values, step=self.step)
            if main and (time.monotonic() - told > 2 or self.step == train.steps):
                say(meter.line(self.step))
                told = time.monotonic()
            if train.save_every and self.step % train.save_every == 0 and self.step < train.steps:
                self.save()
        if metrics is not None:
            metrics.close()
        if stop.signal is not None and self.step < train.steps:
            self.save()
        seconds = time.monotonic() - started
        return Outcome(
            step=self.step,
            stopped_by=stop.signal if self.step < train.steps else None,
            seconds=seconds,
            cpu_seconds=time.process_time() - cpu,
            pairs_per_second=(self.step - first) * train.batch_size / max(seconds, 1e-9),
            peak_bytes=float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
            skipped=self.guard.skipped,
        )

    # Saving and resuming.

    def save(self) -> None:
        """Publishes a checkpoint of the current step, once."""
        if self._saved == self.step:
            return
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            tensors = {f"parameter.{i}": p for i, p in enumerate(self.parameters)}
            guard = {"skipped": self.guard.skipped, "in_a_row": self.guard.in_a_row}
            state: dict[str, Any] = {"slots": {}, "guard": guard, "names": len(self.parameters)}
            for i, parameter in enumerate(self.parameters):
                for name, value in self._slots(parameter).items():
                    if isinstance(value, Tensor):
                        tensors[f"optimiser.{i}.{name}"] = value
                    else:
                        state["slots"][f"{i}.{name}"] = value
            kept, state["data"] = self.data.state()
            tensors |= {f"data.{name}": value for name, value in kept.items()}
            if self.ema is not None:
                tensors |= {f"ema.{i}": t for i, t in enumerate(self.ema.shadow)}
                state["ema_updates"] = self.ema.updates
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
            found = checkpoint.Checkpoint(step=self.step, tensors=tensors, state=state)
            checkpoint.save(self.folder / "checkpoints", found, keep=self.recipe.train.keep)
        self._saved = self.step
        self.accelerator.wait_for_everyone()

    def _slots(self, parameter: Tensor) -> Mapping[str, Any]:
        return self.optimiser.state.get(parameter, {})

    @torch.no_grad()
    def resume(self, say: Callable[[str], None]) -> bool:
        """Continues from the newest whole checkpoint; False if there is none."""
        found = checkpoint.load_latest(self.folder / "checkpoints")
        if found is None:
            return False
        saved, damaged = found
        for sentence in damaged:
            say(f"damaged checkpoint passed over: {sentence}")
        if saved.state["names"] != len(self.parameters):
            raise CheckpointError(
                f"has {saved.state['names']} tensors and the policy trains {len(self.parameters)}.",
                file=self.folder,
                remedy="resume with the recipe that was saved beside it.",
            )
        for i, parameter in enumerate(self.parameters):
            parameter.copy_(saved.tensors[f"parameter.{i}"])
            self.optimiser.state[parameter] = self._restored(i, parameter, saved)
            if self.ema is not None:
                self.ema.shadow[i].copy_(saved.tensors[f"ema.{i}"])
        if self.ema is not None:
            self.ema.updates = int(saved.state["ema_updates"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved.state["scaler"])
        kept = {k.removeprefix("data."): v for k, v in saved.tensors.items() if k.startswith("data.")}
        self.data.restore(kept, saved.state["data"])
        self.guard.skipped, self.guard.in_a_row = (int(saved.state["guard"][k]) for k in ("skipped", "in_a_row"))
        self.step = self._saved = saved.step
        say(f"resumed at step {self.step}")
        return True

    def _restored(self, i: int, parameter: Tensor, saved: checkpoint.Checkpoint) -> dict[str, Any]:
        prefix = f"optimiser.{i}."
        slots: dict[str, Any] = {}
        for name, value in saved.tensors.items():
            if name.startswith(prefix):
                # AdamW keeps its step count on the CPU unless it is fused on a GPU; both take it there.
                slots[name[len(prefix) :]] = value.to(parameter.device)
        for name, value in saved.state["slots"].items():
            index, _, slot = name.partition(".")
            if int(index) == i:
                slots[slot] = value
        return slots
