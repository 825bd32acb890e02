"""The steps of a reward model: draw pairs, score both samples, loss, step.

Everything random is counted by (seed, epoch, pair), so a run that was killed and resumed ends with the same bits as one
that never stopped.

Shapes: B pairs of a micro-batch, D dimensions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from penchant.errors import CheckpointError
from penchant.reward_models.losses import Comparisons
from penchant.reward_models.network import RewardNetwork
from penchant.reward_training.data import AnnotatedPair, Library, comparisons, in_random_order, mirrored
from penchant.reward_training.spec import RewardRecipe
from penchant.train import checkpoint
from penchant.train.guards import FiniteGuard, StopRequest
from penchant.train.meters import Averages, Meter, MetricsFile
from penchant.train.optimisation import Ema, learning_rate, optimiser
from penchant.train.order import visits

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RewardOutcome:
    """How a training ended: at which step, whether a signal stopped it, and what it cost."""

    step: int
    stopped_by: int | None
    seconds: float
    cpu_seconds: float
    skipped: int


class RewardLoop:
    """One run: `network` is trained in place on `pairs`, `folder` keeps checkpoints and metrics."""

    def __init__(
        self,
        recipe: RewardRecipe,
        network: RewardNetwork,
        pairs: Sequence[AnnotatedPair],
        library: Library,
        folder: Path,
        accelerator: Any,
    ) -> None:
        self.recipe, self.pairs, self.library, self.folder = recipe, pairs, library, folder
        self.accelerator, self.backbone = accelerator, network.backbone
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.network, self.optimiser = accelerator.prepare(network, optimiser(self.parameters, recipe.train))
        self.ema = Ema(self.parameters, recipe.train.ema) if recipe.train.ema else None
        self.guard = FiniteGuard(recipe.train.bad_steps, folder)
        self.step, self._saved = 0, -1

    # One optimiser step.

    def take_step(self) -> dict[str, float]:
        """Trains on the pairs of the current step; returns their mean metrics."""
        train, process = self.recipe.train, self.accelerator
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step * 1_009 + process.process_index)
        turns = visits(seed=self.recipe.seed, step=self.step, batch_size=train.batch_size, count=len(self.pairs))
        shown = [(self._shown(turn.index, turn.epoch), turn.epoch) for turn in turns]
        divisor = self._divisor([pair for pair, _ in shown])
        mine = shown[process.process_index :: process.num_processes]
        size, averages = train.micro_batch or len(mine), Averages()
        for start in range(0, len(mine), size):
            chunk = mine[start : start + size]
            last = start + size >= len(mine)
            with nullcontext() if last else process.no_sync(self.network):
                pairs = self._scored(chunk)
                loss, _ = self.recipe.loss.total(pairs)
                # Gradients of processes are averaged, and the divisor is that of all of them.
                loss = loss * process.num_processes / divisor
                process.backward(loss)
            averages.add(self._metrics(pairs, float(loss.detach()) * len(mine) / len(chunk)), len(chunk))
        totals = averages.means()
        totals |= self._update(totals["loss"], [pair.id for pair, _ in mine])
        self.step += 1
        return totals

    def _shown(self, index: int, epoch: int) -> AnnotatedPair:
        return in_random_order(self.pairs[index], seed=self.recipe.seed, epoch=epoch)

    def _divisor(self, pairs: Sequence[AnnotatedPair]) -> float:
        """What the loss of the whole step is divided by; it depends on labels and ratings alone."""
        zero = torch.zeros(len(pairs), len(self.recipe.dimensions))
        return max(1.0, float(self.recipe.loss.total(comparisons(pairs, zero, zero))[1]))

    def _scored(self, chunk: Sequence[tuple[AnnotatedPair, int]]) -> Comparisons:
        """The pairs with their rewards; winner and loser go through the network in one batch."""
        flips = [self.recipe.train.flip and mirrored(pair, seed=self.recipe.seed, epoch=epoch) for pair, epoch in chunk]
        pairs = [pair for pair, _ in chunk]
        samples = [pair.first for pair in pairs] + [pair.second for pair in pairs]
        prepared = [self.library.prepared(s, flip=flip) for s, flip in zip(samples, flips * 2, strict=True)]
        rows = self.backbone.collate([pair.prompt for pair in pairs] * 2, prepared)
        rows = self.backbone.drawn(rows, [(pair.id, epoch) for pair, epoch in chunk], seed=self.recipe.seed)
        with self.accelerator.autocast():
            reward_ND = self.network({name: value.to(self.accelerator.device) for name, value in rows.items()})
        return comparisons(pairs, *reward_ND.float().chunk(2))

    def _metrics(self, pairs: Comparisons, loss: float) -> dict[str, float]:
        # A mean over nothing is NaN, which the averages leave out.
        decided_BD, won_BD = pairs.decided(), pairs.won().detach()
        right_BD = (won_BD > 0) & decided_BD
        accuracy_D = right_BD.sum(0) / decided_BD.sum(0)
        found = {f"accuracy/{name}": float(value) for name, value in zip(self.recipe.names, accuracy_D, strict=True)}
        won = won_BD[decided_BD]
        found["rewards/accuracies"] = float((won > 0).float().mean())
        found["rewards/margins"] = float(won.mean())
        return {"loss": loss, **found}

    def _update(self, loss: float, pairs: Sequence[str]) -> dict[str, float]:
        train = self.recipe.train
        norm = self.accelerator.clip_grad_norm_(self.parameters, train.clip if train.clip is not None else float("inf"))
        rate = learning_rate(train, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        # A half-precision scaler skips infinite gradients by itself, and that is not a fault; a broken loss is one.
        scaled = self.accelerator.scaler is not None
        seen = 0.0 if scaled else float(norm)
        if self.guard.admits(loss=loss, norm=seen, step=self.step, groups=pairs) or scaled:
            self.optimiser.step()
            if self.ema is not None:
                self.ema.update()
        self.optimiser.zero_grad(set_to_none=True)
        return {"grad_norm": float(norm), "lr": rate}

    # The run.

    def run(self, stop: StopRequest, say: Say) -> RewardOutcome:
        """Trains to the recipe's last step, or until `stop` is asked for."""
        train, main = self.recipe.train, self.accelerator.is_main_process
        self.network.train()
        started, cpu, told = time.monotonic(), time.process_time(), 0.0
        metrics = MetricsFile(self.folder / "metrics.jsonl", step=self.step) if main else None
        meter = Meter(train.steps, self.step, train.batch_size)
        while self.step < train.steps and stop.signal is None:
            values = self.take_step()
            meter.update(values)
            if metrics is not None and (self.step % train.log_every == 0 or self.step == train.steps):
                metrics.write(self.step, values)
            if main and (time.monotonic() - told > 2 or self.step == train.steps):
                say(meter.line(self.step))
                told = time.monotonic()
            if train.save_every and self.step % train.save_every == 0 and self.step < train.steps:
                self.save()
        if metrics is not None:
            metrics.close()
        if stop.signal is not None and self.step < train.steps:
            self.save()
        return RewardOutcome(
            step=self.step,
            stopped_by=stop.signal if self.step < train.steps else None,
            seconds=time.monotonic() - started,
            cpu_seconds=time.process_time() - cpu,
            skipped=self.guard.skipped,
        )

    # Saving and resuming.

    def save(self) -> None:
        """Publishes a checkpoint of the current step, once."""
        if self._saved == self.step:
            return
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            tensors: dict[str, Tensor] = {f"parameter.{i}": p for i, p in enumerate(self.parameters)}
            guard = {"skipped": self.guard.skipped, "in_a_row": self.guard.in_a_row}
            state: dict[str, Any] = {"slots": {}, "guard": guard, "names": len(self.parameters)}
            for i, parameter in enumerate(self.parameters):
                for name, value in self.optimiser.state.get(parameter, {}).items():
                    if isinstance(value, Tensor):
                        tensors[f"optimiser.{i}.{name}"] = value
                    else:
                        state["slots"][f"{i}.{name}"] = value
            if self.ema is not None:
                tensors |= {f"ema.{i}": t for i, t in enumerate(self.ema.shadow)}
                state["ema_updates"] = self.ema.updates
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
            found = checkpoint.Checkpoint(step=self.step, tensors=tensors, state=state)
            checkpoint.save(self.folder / "checkpoints", found, keep=self.recipe.train.keep)
        self._saved = self.step
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def resume(self, say: Say) -> bool:
        """Continues from the newest whole checkpoint; False if there is none.

        Raises:
            CheckpointError: none is whole, or it is of another network.
        """
        found = checkpoint.load_latest(self.folder / "checkpoints")
        if found is None:
            return False
        saved, damaged = found
        for sentence in damaged:
            say(f"damaged checkpoint passed over: {sentence}")
        if saved.state["names"] != len(self.parameters):
            raise CheckpointError(
                f"has {saved.state['names']} tensors and the network trains {len(self.parameters)}.",
                file=self.folder,
                remedy="resume with the recipe that was saved beside it.",
            )
        for i, parameter in enumerate(self.parameters):
            parameter.copy_(saved.tensors[f"parameter.{i}"])
            self.optimiser.state[parameter] = _slots(saved.tensors, saved.state["slots"], i, parameter.device)
            if self.ema is not None:
                self.ema.shadow[i].copy_(saved.tensors[f"ema.{i}"])
        if self.ema is not None:
            self.ema.updates = int(saved.state["ema_updates"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved.state["scaler"])
        self.guard.skipped, self.guard.in_a_row = (int(saved.state["guard"][k]) for k in ("skipped", "in_a_row"))
        self.step = self._saved = saved.step
        say(f"resumed at step {self.step}")
        return True


def _slots(tensors: Mapping[str, Tensor], plain: Mapping[str, Any], i: int, device: torch.device) -> dict[str, Any]:
    """The optimiser's state of parameter `i`."""
    prefix = f"optimiser.{i}."
    slots: dict[str, Any] = {k[len(prefix) :]: v.to(device) for k, v in tensors.items() if k.startswith(prefix)}
    for name, value in plain.items():
        index, _, slot = name.partition(".")
        if int(index) == i:
            slots[slot] = value
    return slots
