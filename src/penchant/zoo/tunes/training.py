"""Trains the tune model: a small Llama on words that continues a caption with a strain of eight bars.

Only the strain is learnt, not its caption; and that no strain has a word of captions, which a likelihood alone learns
too slowly. What training minimises is

    -log p(next word) - w log(1 - p(any word that no strain has))

The order of an epoch comes from a generator of its own, so that an interrupted run goes on exactly. What is kept are
the weights with the least loss, the first term, on the validation strains.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from penchant.zoo.small_language_model import EOS, PAD, SPECIALS, fast_tokenizer, llama
from penchant.zoo.tunes.data import DANCES, METRES, MODES, PITCHES, TICKS, Record

MAX_LENGTH = 256
# Batches that are sorted by length together, so that little is padded.
_BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One training run; the defaults made the shipped weights on one CPU core."""

    steps: int = 1500
    batch: int = 32
    lr: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.05
    # w above, and the step from which on it holds: at first it only slows the rest down.
    unlikelihood: float = 100.0
    unlikelihood_from: int = 1100
    measure_every: int = 100
    # Stops when the validation loss has not fallen for so many measurements.
    patience: int = 4
    seed: int = 0


def vocabulary() -> list[str]:
    """Every word, its place being its number: specials, words of captions, bar line, rests, notes."""
    dances = {word for dance in (*DANCES.values(), "tune") for word in dance.split()}
    captions = ["in", ",", *sorted(dances), *METRES, *MODES]
    notes = [f"N{pitch}_{ticks}" for pitch in PITCHES for ticks in TICKS]
    return [*SPECIALS, *captions, "|", *(f"R_{ticks}" for ticks in TICKS), *notes]


def strange() -> list[int]:
    """Numbers of the words that no strain has: all in front of the bar line but eos."""
    return [number for number in range(vocabulary().index("|")) if number != EOS]


def tokenizer() -> Any:
    """One token a word; a text starts with bos, and only a caption has a comma."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    words = {word: number for number, word in enumerate(vocabulary())}
    core = Tokenizer(models.WordLevel(vocab=words, unk_token="<unk>"))
    # A text that says "<eos>" has an unknown word there, not the end.
    core.normalizer = normalizers.Replace("<", "(")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(",", behavior="isolated")]
    )
    return fast_tokenizer(core, longest=MAX_LENGTH)


def network(words: int) -> Any:
    """The untrained model."""
    return llama(words, intermediate=344, longest=MAX_LENGTH)


Row = tuple[int, list[int]]


def rows(records: Sequence[Record], words: Any) -> list[Row]:
    """Of each record the tokens of its caption, strain and end, and how many are the caption's."""
    found: list[Row] = []
    for record in records:
        caption = list(words(record.caption).input_ids)
        found.append((len(caption), [*caption, *words(record.text, add_special_tokens=False).input_ids, EOS]))
    return found


def epoch(number: int, learnt: Sequence[Row], budget: Budget) -> list[tuple[Tensor, Tensor]]:
    """The batches of an epoch: token ids [B, T] and the mask [B, T] of what is learnt. What is left over waits."""
    rng = random.Random(f"{budget.seed} {number}")
    order = rng.sample(list(learnt), len(learnt))
    order = order[: len(order) // budget.batch * budget.batch] or order
    span = _BLOCK * budget.batch
    batches = []
    for first in range(0, len(order), span):
        block = sorted(order[first : first + span], key=lambda row: len(row[1]))
        batches += [pad(block[at : at + budget.batch]) for at in range(0, len(block), budget.batch)]
    rng.shuffle(batches)
    return batches


def pad(block: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Token ids [B, T] and the mask [B, T] of the strains and their ends."""
    length = max(len(ids) for _, ids in block)
    ids_BT = torch.tensor([ids + [PAD] * (length - len(ids)) for _, ids in block])
    at_T = torch.arange(length)
    start_B1 = torch.tensor([[start] for start, _ in block])
    end_B1 = torch.tensor([[len(ids)] for _, ids in block])
    return ids_BT, (at_T >= start_B1) & (at_T < end_B1)


def losses(model: Any, ids_BT: Tensor, learnt_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Of the learnt tokens -log p [N], and -log(1 - p) [N] of the words that no strain has. Padding stands behind them,
    so causal attention hides it."""
    logits_BTV = model(input_ids=ids_BT[:, :-1], use_cache=False).logits
    chosen = learnt_BT[:, 1:]
    logp_NV = torch.log_softmax(logits_BTV[chosen].float(), -1)
    said_N1 = ids_BT[:, 1:][chosen][:, None]
    strange_N = logp_NV[:, strange()].logsumexp(-1).exp()
    return -logp_NV.gather(1, said_N1)[:, 0], -torch.log1p(-strange_N.clamp(max=0.999))


@torch.no_grad()
def validation_loss(model: Any, held: Sequence[Row], device: str) -> float:
    """Mean negative log-likelihood a token, in nats."""
    ordered = sorted(held, key=lambda row: len(row[1]))
    model.eval()
    found = [losses(model, *(t.to(device) for t in pad(ordered[at : at + 64]))) for at in range(0, len(ordered), 64)]
    model.train()
    return float(torch.cat([own for own, _ in found]).mean())


class _Run:
    """Weights, optimiser, step count and best weights of a training run, written to one file and read back."""

    def __init__(self, model: Any, budget: Budget) -> None:
        self.model, self.step, self.seconds = model, 0, 0.0
        self.curve: list[tuple[int, float]] = []
        self.best = {name: value.clone() for name, value in model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=budget.lr, betas=(0.9, 0.95), weight_decay=budget.weight_decay, fused=True
        )

    def measured(self, loss: float) -> None:
        """Keeps the weights if none were better."""
        if all(loss < before for _, before in self.curve):
            self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.curve.append((self.step, loss))

    def stale(self) -> int:
        """Measurements since the best."""
        best = min(range(len(self.curve)), key=lambda i: self.curve[i][1], default=-1)
        return len(self.curve) - 1 - best

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "best": self.best}
        torch.save({**state, "step": self.step, "seconds": self.seconds, "curve": self.curve}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best, self.step, self.seconds = state["best"], state["step"], state["seconds"]
        self.curve = [(int(step), float(loss)) for step, loss in state["curve"]]


def rate(step: int, budget: Budget) -> float:
    """Learning rate of a step: linear warm-up, then a cosine to a hundredth of the peak."""
    if step < budget.warmup:
        return budget.lr * (step + 1) / budget.warmup
    turn = (step - budget.warmup) / max(1, budget.steps - budget.warmup)
    return budget.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * turn)))


def train(folder: Path, records: Sequence[Record], budget: Budget, device: str) -> dict[str, object]:
    """Trains and saves model and tokenizer in `folder`; returns what it cost and the loss by step.

    `run.pt` lets a stopped run go on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    learnt = rows([r for r in records if r.split == "train"], words)
    held = rows([r for r in records if r.split == "validation"], words)
    torch.manual_seed(budget.seed)
    run = _Run(network(len(words)).to(device).train(), budget)
    if (folder / "run.pt").exists():
        run.load(folder / "run.pt")
    began, batches, made = time.process_time() - run.seconds, epoch(0, learnt, budget), 0
    count = len(batches)
    while run.step < budget.steps and run.stale() < budget.patience:
        if run.step // count != made:
            made = run.step // count
            batches = epoch(made, learnt, budget)
        _learn(run, batches[run.step % count], budget, device)
        run.seconds = time.process_time() - began
        if run.step % budget.measure_every == 0 or run.step == budget.steps:
            run.measured(validation_loss(run.model, held, device))
            print(f"tunes step {run.step}/{budget.steps} loss {run.curve[-1][1]:.4f} {run.seconds:.0f}s", flush=True)
            run.save(folder / "run.pt")
    run.model.load_state_dict(run.best)
    save(run.model, words, folder)
    (folder / "run.pt").unlink(missing_ok=True)
    return {"steps": run.step, "cpu_seconds": round(run.seconds), "validation_loss": run.curve}


def _learn(run: _Run, batch: tuple[Tensor, Tensor], budget: Budget, device: str) -> None:
    ids_BT, learnt_BT = batch
    own_N, strange_N = losses(run.model, ids_BT.to(device), learnt_BT.to(device))
    loss = own_N.mean()
    if run.step >= budget.unlikelihood_from:
        loss = loss + budget.unlikelihood * strange_N.mean()
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    for group in run.optimiser.param_groups:
        group["lr"] = rate(run.step, budget)
    run.optimiser.step()
    run.step += 1


def save(model: Any, words: Any, folder: Path) -> None:
    """Writes `folder` as transformers reads it: weights in float16, to be computed with in float32."""
    from safetensors.torch import save_file

    model.eval().save_pretrained(folder, safe_serialization=True)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    half = {name: value.half().contiguous() for name, value in model.state_dict().items() if name not in tied}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    words.save_pretrained(folder)
