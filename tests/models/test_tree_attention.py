"""Attention along branches: the same sums as a mask over the whole row, and only where nothing else is asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from penchant.likelihoods.packing import Row, pack
from penchant.models import tree_attention
from penchant.models.tree_attention import along_branches, attend, tree_of
from penchant.testing import tiny_language_model


def row() -> Row:
    """Two groups: three answers, one of a single token, then two."""
    packed = pack(
        torch.zeros(2, 5, dtype=torch.long),
        torch.tensor([5, 3]),
        torch.zeros(2, 3, 4, dtype=torch.long),
        torch.tensor([[4, 1, 3], [2, 4, 0]]),
        row_tokens=100,
    )
    return packed.rows[0]


def additive(seen: torch.Tensor) -> torch.Tensor:
    return torch.zeros(seen.shape, dtype=torch.float64).masked_fill_(~seen, float("-inf"))[None, None]


def inputs(length: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    heads = (4, 2, 2)
    return [torch.randn(1, h, length, 8, generator=g, dtype=torch.float64, requires_grad=True) for h in heads]


class Module:
    """What transformers hands over: two query heads share a key."""

    num_key_value_groups = 2
    is_causal = True


@pytest.mark.parametrize("scaling", [None, 0.3])
def test_equals_attention_under_the_rows_mask(scaling: float | None) -> None:
    packed = row()
    mask, leaves = additive(packed.sees()), inputs(len(packed.tokens_L))
    by_tree, _ = attend(Module(), *leaves, None, tree=tree_of(packed, torch.float64), scaling=scaling)
    by_mask, _ = attend(Module(), *leaves, mask, scaling=scaling)
    assert_close(by_tree, by_mask)
    upstream = torch.randn(by_tree.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = torch.autograd.grad((by_tree * upstream).sum(), leaves)
    theirs = torch.autograd.grad((by_mask * upstream).sum(), leaves)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b)


def test_a_window_that_hides_part_of_a_row_goes_by_the_mask() -> None:
    packed = row()
    leaves, tree = inputs(len(packed.tokens_L)), tree_of(packed, torch.float64)
    assert tree.longest == 8  # the prompt of 5 and the longest answer without its last token
    narrow, _ = attend(Module(), *leaves, additive(packed.sees(7)), tree=tree, sliding_window=7)
    by_mask, _ = attend(Module(), *leaves, additive(packed.sees(7)))
    wide, _ = attend(Module(), *leaves, None, tree=tree, sliding_window=8)
    assert_close(narrow, by_mask)
    assert_close(wide, attend(Module(), *leaves, additive(packed.sees()))[0])
    assert not torch.allclose(narrow, wide)


def test_a_model_attends_along_branches_inside_the_block_only() -> None:
    model = tiny_language_model("llama")
    with along_branches(model) as follows:
        assert follows
        assert model.config._attn_implementation == tree_attention.NAME
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("change", ["eager", "checkpointing"])
def test_other_attention_and_checkpointing_keep_to_the_mask(change: str) -> None:
    model: Any = tiny_language_model("llama")
    if change == "eager":
        model.set_attn_implementation("eager")
    else:
        model.gradient_checkpointing_enable()
    with along_branches(model) as follows:
        assert not follows
        assert model.config._attn_implementation != tree_attention.NAME
