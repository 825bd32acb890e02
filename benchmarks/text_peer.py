"""TRL's side of the text benchmark, run by the Python of a virtual environment that holds TRL and not penchant.

TRL's own trainer takes its own steps; a callback makes it wait for its turn between them. `Turns` is how both sides are
timed: it imports the standard library alone.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one worker process is to be.

    Attributes:
        variant: name of a row of the table.
        folder: where the model, its tokenizer and the pairs are.
        objective: "dpo" or "simpo"; "none" makes model and pairs.
        lora: rank of the adapter; 0 trains every weight.
        steps: steps to take.
        batch: pairs a step.
        lr: learning rate.
        device: "cpu" or "cuda".
        options: what the variant changes of the trainer's defaults.
    """

    variant: str
    folder: str
    objective: str
    lora: int
    steps: int
    batch: int
    lr: float
    device: str
    options: dict[str, Any]


def cpu_seconds() -> tuple[float, float]:
    """User and system time of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


class Turns:
    """A worker's end of the talk: one line in, one step, one line of JSON out.

    A step is everything between two turns: fetching the batch, forward, backward, clipping, optimiser, bookkeeping.
    """

    def __init__(self, device: str) -> None:
        # What libraries print must not meet the answers.
        self._answers: IO[str] = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.device = device
        self._start = (0.0, 0.0, 0.0)
        self.reference: dict[str, float] = {}  # what the pass over the reference cost
        self.mark()

    def mark(self) -> None:
        """From here on time counts."""
        self._sync()
        self._start = (*cpu_seconds(), time.monotonic())

    def spent(self) -> dict[str, float]:
        """User, system and wall seconds since `mark`."""
        self._sync()
        user, system, wall = (
            now - then for now, then in zip((*cpu_seconds(), time.monotonic()), self._start, strict=True)
        )
        return {"user": user, "system": system, "wall": wall}

    def _sync(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def answer(self, **figures: Any) -> None:
        """Sends time since the mark and peak memory; other figures beside them."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if self.device == "cuda":
            import torch

            peak = torch.cuda.max_memory_allocated() / 2**20
        print(json.dumps({**self.spent(), "peak_mb": peak, **figures}), file=self._answers, flush=True)

    def wait(self) -> None:
        """Until the next line; the mark is set when it comes."""
        sys.stdin.readline()
        self.mark()


def trainer(job: Job) -> Any:
    """TRL's trainer with its defaults, but for the job's options and what makes the two sides comparable."""
    from datasets import Dataset

    rows = [json.loads(line) for line in (Path(job.folder) / "visits.jsonl").read_text().splitlines()]
    accumulate = job.options.get("gradient_accumulation_steps", 1)
    common = {
        "output_dir": f"{job.folder}/trl",
        "per_device_train_batch_size": job.batch // accumulate,
        "max_steps": job.steps,
        "learning_rate": job.lr,
        "lr_scheduler_type": "constant",
        # The rows lie in the order in which the other side visits them.
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": job.device == "cpu",
        "seed": 0,
    }
    make = _dpo if job.objective == "dpo" else _simpo
    return make(job, {**common, **job.options}, Dataset.from_list(rows))


def _dpo(job: Job, options: dict[str, Any], rows: Any) -> Any:
    from trl import DPOConfig, DPOTrainer

    model: Any = job.folder
    if job.lora:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=torch.float32)
        torch.manual_seed(0)  # the other side draws the same adapter
        config = LoraConfig(
            r=job.lora,
            lora_alpha=job.lora,
            init_lora_weights="gaussian",
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, config)
    return DPOTrainer(model=model, args=DPOConfig(**options), train_dataset=rows)


def _simpo(job: Job, options: dict[str, Any], rows: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    args = CPOConfig(loss_type="simpo", cpo_alpha=0.0, beta=2.5, simpo_gamma=1.25, **options)
    model = AutoModelForCausalLM.from_pretrained(job.folder)
    return CPOTrainer(
        model=model, args=args, train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(job.folder)
    )


def pass_over_reference(turns: Turns, kind: Any) -> None:
    """Has the pass that precomputes reference log-probs timed, when there is one."""
    plain = kind._precompute_ref_logps

    def timed(trainer: Any, dataset: Any, *args: Any) -> Any:
        turns.mark()
        found = plain(trainer, dataset, *args)
        turns.reference = {**turns.spent(), "pairs": len(dataset)}
        return found

    kind._precompute_ref_logps = timed


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    turns = Turns(job.device)
    import torch
    from transformers import TrainerCallback
    from trl import DPOTrainer

    torch.set_num_threads(1)
    pass_over_reference(turns, DPOTrainer)
    peer = trainer(job)
    turns.answer(**turns.reference)
    losses: list[float] = []
    plain = peer.compute_loss

    def heard(*args: Any, **kwargs: Any) -> Any:
        loss = plain(*args, **kwargs)
        losses.append(float(loss.detach()))
        return loss

    class InTurn(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turns.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.answer(loss=sum(losses) / len(losses))
            losses.clear()
            turns.wait()

    peer.compute_loss = heard
    peer.add_callback(InTurn())
    peer.train()


if __name__ == "__main__":
    main()
