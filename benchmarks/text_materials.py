"""What the text benchmark runs on: two Llama models with random weights, a tokenizer of one token a word, and pairs.

A model's cost is either mostly its head or mostly its trunk, and the two answer differently to what a trainer does.
Lengths follow a log-normal law like those of real preference data; a word is one token, so they are exactly as drawn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LONGEST = 1024  # tokens of prompt and completion: TRL's default, so neither side cuts anything
PROMPT, COMPLETION = 277, 227.5  # mean lengths


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a model, by their names in a Llama configuration."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int


MODELS = {
    "A": Shape(vocab_size=32000, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4),
    "B": Shape(vocab_size=8192, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8),
}


def lengths(count: int, longest: int, rng: np.random.Generator) -> np.ndarray:
    """[count, 3]: tokens of prompt, chosen and rejected, the end-of-sequence token included."""
    share = longest / LONGEST
    drawn = np.exp(rng.normal(0, [0.6, 0.7, 0.7], (count, 3)))
    drawn *= share * np.array([PROMPT, COMPLETION, COMPLETION]) / drawn.mean(0)
    found = drawn.round().astype(int).clip(2)
    room = longest - found[:, :1]
    found[:, 1:] = np.minimum(found[:, 1:], room)
    if room.min() < 2:
        raise ValueError("a prompt leaves no room for an answer; draw with another seed.")
    return found


def write_pairs(path: Path, *, count: int, vocab_size: int, longest: int, seed: int = 0) -> list[dict[str, str]]:
    """JSON lines of {prompt, chosen, rejected}, the layout that both sides read; words are drawn at random."""
    rng = np.random.default_rng(seed)
    rows = []
    for prompt, chosen, rejected in lengths(count, longest, rng).tolist():
        # The space before an answer belongs to it: prompt and answer are joined as they stand.
        texts = [" ".join(f"w{i}" for i in rng.integers(2, vocab_size, n)) for n in (prompt, chosen - 1, rejected - 1)]
        rows.append({"prompt": texts[0], "chosen": " " + texts[1], "rejected": " " + texts[2]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def tokenizer(vocab_size: int) -> Any:
    """A fast tokenizer whose tokens are the words w2, w3, ...; 0 pads and 1 ends a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "</s>": 1, **{f"w{i}": i for i in range(2, vocab_size)}}
    bare = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>", eos_token="</s>", unk_token="<pad>")


def write_model(name: str, folder: Path) -> dict[str, Any]:
    """Saves model and tokenizer; returns how many weights there are, in all and outside embedding and head."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = MODELS[name]
    config = LlamaConfig(
        **vars(shape),
        num_key_value_heads=shape.num_attention_heads,
        max_position_embeddings=2 * LONGEST,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(str(folder), safe_serialization=True)
    tokenizer(shape.vocab_size).save_pretrained(str(folder))
    total = sum(p.numel() for p in model.parameters())
    return {"parameters": total, "trunk": total - 2 * shape.vocab_size * shape.hidden_size}
