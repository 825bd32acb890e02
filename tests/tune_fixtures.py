"""A tiny language model that has learnt to write tunes, and policies that were pushed away from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

PITCHES, TICKS = range(-3, 15), (6, 12, 24)
CAPTIONS = tuple(f"{kind}, major" for kind in ("reel in 4/4", "march in 4/4", "waltz in 3/4", "air in 4/4"))
DANCES = ("reel", "march", "waltz", "air", "hornpipe", "jig", "polka", "song")
SPECIALS = ("<bos>", "<eos>", "<pad>", "<unk>")


def words() -> list[str]:
    notes = [f"N{pitch}_{ticks}" for pitch in PITCHES for ticks in TICKS]
    return [*SPECIALS, *DANCES, "in", "4/4,", "3/4,", "major", "|", "R_12", *notes]


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel(vocab={word: i for i, word in enumerate(words())}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


def walk(seed: int, beats: int = 4, bars: int = 4) -> str:
    """A random walk through the major scale, in bars that add up, home at the end."""
    draw, scale = np.random.default_rng(seed), (0, 2, 4, 5, 7, 9, 11, 12, 14)
    place, found = int(draw.integers(0, 5)), []
    for bar in range(bars):
        left = 12 * beats
        while left:
            ticks = int(draw.choice([t for t in TICKS if t <= left]))
            place = int(np.clip(place + draw.integers(-2, 3), 0, len(scale) - 1))
            left -= ticks
            home = bar == bars - 1 and not left
            found.append(f"N{0 if home else scale[place]}_{ticks}")
        found.append("|")
    return " ".join(found)


def model(seed: int = 0) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words()),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
        )
    )


def learn(network: Any, rows: Sequence[tuple[str, str]], *, steps: int, lr: float = 4e-3, ends: bool = True) -> Any:
    """Trains on (caption, tune) pairs, 24 a step; without `ends` the end of a tune is not learnt."""
    reader = tokenizer()
    ids = [(reader(caption).input_ids, reader(tune, add_special_tokens=False).input_ids) for caption, tune in rows]
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    draw = np.random.default_rng(0)
    for _ in range(steps):
        batch = [ids[i] for i in draw.integers(0, len(ids), 24)]
        width = max(len(c) + len(t) for c, t in batch) + 1
        tokens, labels = torch.full((24, width), 2), torch.full((24, width), -100)
        for row, (caption, tune) in enumerate(batch):
            whole = [*caption, *tune, *([1] if ends else [])]
            tokens[row, : len(whole)] = torch.tensor(whole)
            labels[row, len(caption) : len(whole)] = torch.tensor(whole[len(caption) :])
        loss = network(input_ids=tokens, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return network


def rows(count: int = 240) -> list[tuple[str, str]]:
    return [(c, walk(i, beats=3 if "3/4" in c else 4)) for i in range(count) for c in [CAPTIONS[i % len(CAPTIONS)]]]


def save(network: Any, folder: Path) -> Path:
    network.save_pretrained(str(folder), safe_serialization=True)
    tokenizer().save_pretrained(str(folder))
    return folder


def base(folder: Path, *, steps: int = 160) -> Path:
    """A model of random walks."""
    with torch.random.fork_rng():
        return save(learn(model(), rows(), steps=steps), folder)


def pushed(start: Path, folder: Path, kind: str, *, steps: int = 60) -> Path:
    """The base, trained on: `home` on tunes that stay near the tonic, `endless` on one tune that never ends."""
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng():
        network = LlamaForCausalLM.from_pretrained(str(start)).train()
        if kind == "home":
            tunes = [(c, " ".join(f"N{p}_12" for p in (0, 2, 4, 2)) + " | " + t) for c, t in rows(80)]
            return save(learn(network, tunes, steps=steps, lr=2e-3), folder)
        same = "N0_12 N7_12 N0_12 N7_12 | " * 10
        return save(learn(network, [(c, same) for c in CAPTIONS], steps=steps, lr=2e-3, ends=False), folder)
