"""Attention along the branches of packed rows: only the pairs of tokens that see each other are computed.

A mask over a whole row is exact, but what it masks is computed first: a prompt of 277 tokens with two answers of 227
has 731^2 pairs, of which 40 % see each other. Here the prompt attends to itself, and each answer to the prompt and
itself, which computes half. Transformers looks its attention up by name, so no model is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from penchant.likelihoods.packing import Row

NAME = "penchant_tree"


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """Where the prompts and branches of a row lie; each branch with its additive mask [n, prompt + n]."""

    groups: tuple[tuple[slice, tuple[tuple[slice, Tensor], ...]], ...]
    longest: int


def tree_of(row: Row, dtype: torch.dtype) -> Tree:
    """The tree of a row, with masks of `dtype`."""
    runs = torch.stack([row.group_L, row.branch_L], -1)
    labels, counts = torch.unique_consecutive(runs, dim=0, return_counts=True)
    groups: list[tuple[slice, list[tuple[slice, Tensor]]]] = []
    start = 0
    for (_, branch), count in zip(labels.tolist(), counts.tolist(), strict=True):
        here = slice(start, start := start + count)
        if branch == 0:
            groups.append((here, []))
        else:
            prompt, branches = groups[-1]
            branches.append((here, _mask(prompt.stop - prompt.start, count, dtype, row.tokens_L.device)))
    return Tree(
        groups=tuple((prompt, tuple(branches)) for prompt, branches in groups), longest=int(row.position_L.max()) + 1
    )


def _mask(prompt: int, branch: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    hidden = torch.full((branch, branch), torch.finfo(dtype).min, dtype=dtype, device=device).triu_(1)
    return torch.cat([hidden.new_zeros(branch, prompt), hidden], -1)


@contextmanager
def along_branches(model: Any) -> Iterator[bool]:
    """Inside the block a model that calls PyTorch's attention calls `attend`; yields whether it does.

    Gradient checkpointing attends again after the block, so such a model keeps to its masks.
    """
    config = model.config
    again = any(getattr(module, "gradient_checkpointing", False) for module in (model, model.base_model))
    if config._attn_implementation != "sdpa" or again:
        yield False
        return
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    config._attn_implementation = NAME
    try:
        yield True
    finally:
        config._attn_implementation = "sdpa"


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    tree: Tree | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention function, [1, heads, L, d] -> [1, L, heads, d]; by the mask where there is no tree."""
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    window = options.get("sliding_window")
    if tree is None or (window is not None and window < tree.longest):
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return found
    shared = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, shared), repeat_kv(value, shared)

    def seen(queries: Tensor, keys: Tensor, values: Tensor, **mask: Any) -> Tensor:
        return scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, scale=scaling, **mask)

    parts = []
    for prompt, branches in tree.groups:
        keys, values = key[:, :, prompt], value[:, :, prompt]
        parts.append(seen(query[:, :, prompt], keys, values, is_causal=True))
        for branch, mask in branches:
            both = (torch.cat([keys, key[:, :, branch]], 2), torch.cat([values, value[:, :, branch]], 2))
            parts.append(seen(query[:, :, branch], *both, attn_mask=mask))
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None
