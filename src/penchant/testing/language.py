"""Tiny causal language models."""

from __future__ import annotations

from typing import Any

import torch

from penchant.testing.parts import SPECIALS, VOCABULARY, byte_tokenizer, seeded

_HEAD_8: dict[str, Any] = {"head_dim": 8}
# Model type -> what its configuration needs beside the common sizes; windows are shorter than the tests' texts.
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "mixtral": {"num_local_experts": 4, "sliding_window": None},
    "qwen2": {},
    "qwen3": _HEAD_8,
    "gemma": _HEAD_8,
    "gemma2": {**_HEAD_8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    "gemma3_text": {**_HEAD_8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    "phi": {},
    "phi3": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "gpt_neox": {},
    "olmo": {},
    "olmo2": {},
    "granite": {"logits_scaling": 3.0},
    "cohere": {"logit_scale": 0.3},
    "smollm3": {},
    "starcoder2": {"sliding_window": 6},
    "stablelm": {},
    "glm": _HEAD_8,
    "mamba": {"state_size": 4},
}


def tiny_language_model(name: str, seed: int = 0) -> Any:
    """A causal language model of transformers: 2 layers of width 32 over bytes; weights large enough for opinions."""
    from transformers import AutoConfig, AutoModelForCausalLM

    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 512,
    }
    own = LANGUAGE_MODELS[name]
    ids = {"bos_token_id": 0, "pad_token_id": SPECIALS["<pad>"], "eos_token_id": SPECIALS["<end>"]}
    sizes = {"vocab_size": VOCABULARY} if name == "gpt2" else common
    with seeded(seed):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**sizes, **ids, **own}))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.08)
    return model.eval()


def language_tokenizer() -> Any:
    """Bytes, one beginning-of-sequence token, and a chat template in the common shape."""
    tokenizer = byte_tokenizer(template="<start> $A", lowercase=False)
    tokenizer.model_max_length = 512
    tokenizer.chat_template = (
        "{% for m in messages %}<start>{{ m.role }}\n{{ m.content }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<start>assistant\n{% endif %}"
    )
    return tokenizer
