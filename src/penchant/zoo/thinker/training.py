"""Trains the thinker: a small Llama on characters that continues a problem as the simulated teacher would.

Only the trace is learnt, not the problem. Every step draws from a generator of its own, so that an interrupted run goes
on exactly.
"""

from __future__ import annotations

import math
import random
import string
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from penchant.zoo.small_language_model import EOS, PAD, SPECIALS, fast_tokenizer, llama
from penchant.zoo.thinker.problems import TERMS, stream
from penchant.zoo.thinker.teacher import Teacher

MAX_LENGTH = 512
# Batches of one block: its traces are made together and sorted by length, so that little is padded.
_BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One training run; the defaults made the shipped weights on one CPU core."""

    steps: int = 4500
    # Rows of a step, on average; four at least, or a long trace would be more than a step's share of tokens.
    batch: int = 32
    lr: float = 3e-3
    warmup: int = 200
    weight_decay: float = 0.05
    # The first steps see short chains only: a step of the sum is learnt before the bookkeeping.
    short_steps: int = 400
    short_terms: tuple[int, int] = (3, 4)
    teacher: Teacher = field(default_factory=Teacher)
    save_every: int = 100
    seed: int = 0


def tokenizer() -> Any:
    """Printable ASCII and the newline, one token a character; a text starts with bos."""
    from tokenizers import Tokenizer, decoders, models

    characters = [*SPECIALS, "\n", *sorted(string.digits + string.ascii_letters + string.punctuation + " ")]
    core = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(characters)}, merges=[], unk_token="<unk>", fuse_unk=False)
    )
    core.decoder = decoders.Fuse()
    return fast_tokenizer(core, longest=MAX_LENGTH)


def network(vocabulary: int) -> Any:
    """The untrained model."""
    return llama(vocabulary, intermediate=384, longest=MAX_LENGTH)


def block(number: int, budget: Budget, words: Any) -> list[tuple[Tensor, Tensor]]:
    """`_BLOCK` batches of about as many tokens each: token ids [B, T] and the mask [B, T] of what is learnt, the trace
    and its end."""
    short = number * _BLOCK < budget.short_steps
    rng = random.Random(f"{budget.seed} {number}")
    source = stream(budget.short_terms if short else TERMS, rng.randrange(2**40), split="train")
    rows = []
    for _ in range(_BLOCK * budget.batch):
        problem = next(source)
        prompt = words(problem.prompt).input_ids
        trace = words(budget.teacher.trace(problem.expression, rng), add_special_tokens=False).input_ids
        rows.append((len(prompt), [*prompt, *trace, EOS]))
    rows.sort(key=lambda row: len(row[1]))
    batches = [_pad(rows[first:last]) for first, last in pairwise(_cuts([len(ids) for _, ids in rows]))]
    rng.shuffle(batches)
    return batches


def _cuts(lengths: Sequence[int]) -> list[int]:
    """Where to cut rows into `_BLOCK` batches of equal tokens: equal rows would weigh short traces, which stop thinking
    early, above their share."""
    ends = list(accumulate(lengths))
    return [0, *(bisect_left(ends, ends[-1] * cut / _BLOCK) for cut in range(1, _BLOCK)), len(lengths)]


def _pad(rows: Sequence[tuple[int, list[int]]]) -> tuple[Tensor, Tensor]:
    length = max(len(ids) for _, ids in rows)
    ids_BT = torch.tensor([ids + [PAD] * (length - len(ids)) for _, ids in rows])
    at_T = torch.arange(length)
    start_B1 = torch.tensor([[start] for start, _ in rows])
    end_B1 = torch.tensor([[len(ids)] for _, ids in rows])
    return ids_BT, (at_T >= start_B1) & (at_T < end_B1)


def loss_of(model: Any, ids_BT: Tensor, learnt_BT: Tensor) -> Tensor:
    """Mean negative log-likelihood of the learnt tokens. Padding stands behind them, so causal attention hides it."""
    with torch.autocast(ids_BT.device.type, torch.bfloat16):
        logits_BTV = model(input_ids=ids_BT[:, :-1], use_cache=False).logits
    chosen = learnt_BT[:, 1:]
    return F.cross_entropy(logits_BTV[chosen].float(), ids_BT[:, 1:][chosen])


class _Run:
    """Weights, optimiser and step count of a training run, written to one file and read back."""

    def __init__(self, model: Any, budget: Budget) -> None:
        self.model, self.step, self.seconds = model, 0, 0.0
        kwargs: dict[str, Any] = {"lr": budget.lr, "betas": (0.9, 0.98), "fused": True}
        self.optimiser = torch.optim.AdamW(model.parameters(), weight_decay=budget.weight_decay, **kwargs)

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save({**state, "step": self.step, "seconds": self.seconds}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]


def rate(step: int, budget: Budget) -> float:
    """Learning rate of a step: linear warm-up, then a cosine to a hundredth of the peak."""
    if step < budget.warmup:
        return budget.lr * (step + 1) / budget.warmup
    turn = (step - budget.warmup) / max(1, budget.steps - budget.warmup)
    return budget.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * turn)))


def train(folder: Path, budget: Budget, device: str) -> dict[str, float]:
    """Trains and saves model and tokenizer in `folder`; returns what it cost. `run.pt` lets a stopped run go on."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    torch.manual_seed(budget.seed)
    run = _Run(network(len(words)).to(device).train(), budget)
    if (folder / "run.pt").exists():
        run.load(folder / "run.pt")
    batches: list[tuple[Tensor, Tensor]] = []
    made, began, losses = -1, time.process_time() - run.seconds, []
    while run.step < budget.steps:
        if run.step // _BLOCK != made:
            made = run.step // _BLOCK
            batches = block(made, budget, words)
        ids_BT, learnt_BT = batches[run.step % _BLOCK]
        loss = loss_of(run.model, ids_BT.to(device), learnt_BT.to(device))
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        for group in run.optimiser.param_groups:
            group["lr"] = rate(run.step, budget)
        run.optimiser.step()
        run.step += 1
        run.seconds = time.process_time() - began
        losses.append(loss.item())
        if run.step % budget.save_every == 0:
            mean = sum(losses) / len(losses)
            print(f"thinker step {run.step}/{budget.steps} loss {mean:.4f} {run.seconds:.0f}s", flush=True)
            losses.clear()
            run.save(folder / "run.pt")
    save(run.model, words, folder)
    (folder / "run.pt").unlink(missing_ok=True)
    return {"steps": float(run.step), "cpu_seconds": run.seconds}


def save(model: Any, words: Any, folder: Path) -> None:
    """Writes `folder` as transformers reads it, weights in float32."""
    model.eval().save_pretrained(folder, safe_serialization=True)
    words.save_pretrained(folder)
