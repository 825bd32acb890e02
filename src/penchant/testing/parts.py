"""What tiny models have in common: seeds, text encoders of width 32, and a tokenizer that reads bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# CLIP pools at its end token. An eos id of 2 would switch transformers to the historic rule "the largest id", which
# with this alphabet is some letter; hence 3.
SPECIALS = {"<start>": 0, "<pad>": 1, "<unknown>": 2, "<end>": 3}
VOCABULARY = 512


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random weights as a function of `seed`; the global stream goes on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tiny_clip(*, projection: bool = False) -> Any:
    """A CLIP text encoder of width 32."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=32,
        vocab_size=VOCABULARY,
        bos_token_id=SPECIALS["<start>"],
        pad_token_id=SPECIALS["<pad>"],
        eos_token_id=SPECIALS["<end>"],
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def tiny_t5(*, width: int) -> Any:
    """A T5 encoder."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=VOCABULARY, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return T5EncoderModel(config).eval()


def byte_tokenizer(*, template: str, lowercase: bool, longest: int = 77) -> Any:
    """A tokenizer that reads bytes, with the specials that `template` puts around them."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unknown>"))
    if lowercase:
        core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(single=template, special_tokens=[*SPECIALS.items()])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=longest,
        bos_token="<start>",
        eos_token="<end>",
        pad_token="<pad>",
        unk_token="<unknown>",
    )
