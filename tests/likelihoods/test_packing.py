"""Packing: every completion token is read once, from the state before it, and sees its own past only."""

from __future__ import annotations

import pytest
import torch

from penchant.errors import ModelError
from penchant.likelihoods.packing import Packed, pack

LENGTHS = torch.tensor([[5, 2, 1], [3, 0, 4], [1, 1, 0], [0, 6, 2]])
PROMPTS = torch.tensor([4, 1, 7, 3])


def _tokens() -> tuple[torch.Tensor, torch.Tensor]:
    # Every token is a name of its own: 1000 b + place for prompts, 10000 + 1000 b + 100 k + t for completions.
    b, k, t = torch.meshgrid(torch.arange(4), torch.arange(3), torch.arange(6), indexing="ij")
    prompts = 1000 * torch.arange(4)[:, None] + torch.arange(7)
    return prompts, 10_000 + 1000 * b + 100 * k + t


def _packed(row_tokens: int = 20) -> Packed:
    prompts, tokens = _tokens()
    return pack(prompts, PROMPTS, tokens, LENGTHS, row_tokens=row_tokens)


@pytest.mark.parametrize("row_tokens", [1, 12, 20, 1000])
def test_every_completion_token_is_read_once_from_the_token_before(row_tokens: int) -> None:
    packed, (prompts, tokens) = _packed(row_tokens), _tokens()
    read = torch.cat([row.tokens_L[row.reads_M] for row in packed.rows])
    expected = {(b, k, t) for b in range(4) for k in range(3) for t in range(LENGTHS[b, k])}
    assert {tuple(place) for place in packed.place_N3.tolist()} == expected
    assert len(packed.place_N3) == len(expected)
    for (b, k, t), before, target in zip(
        packed.place_N3.tolist(), read.tolist(), packed.target_N.tolist(), strict=True
    ):
        assert target == tokens[b, k, t]
        assert before == (tokens[b, k, t - 1] if t else prompts[b, PROMPTS[b] - 1])


def test_a_token_sees_its_prompt_and_its_branch_up_to_itself() -> None:
    prompts, tokens = _tokens()
    for row in _packed().rows:
        sees = row.sees()
        for i, name in enumerate(row.tokens_L.tolist()):
            seen = sorted(row.tokens_L[sees[i]].tolist())
            if name < 10_000:
                b, place = divmod(name, 1000)
                expected = prompts[b, : place + 1].tolist()
            else:
                b, k, t = (name - 10_000) // 1000, (name // 100) % 10, name % 100
                expected = prompts[b, : PROMPTS[b]].tolist() + tokens[b, k, : t + 1].tolist()
            assert seen == sorted(expected)


def test_a_window_is_counted_in_positions_along_the_branch() -> None:
    for row in _packed(1000).rows:
        back = row.position_L[:, None] - row.position_L[None, :]
        assert bool((row.sees(3) == (row.sees() & (back < 3))).all())


def test_prompts_are_laid_out_once_and_rows_filled() -> None:
    packed = _packed()
    assert sum(len(row.tokens_L) for row in packed.rows) == int(PROMPTS.sum() + (LENGTHS - 1).clamp(min=0).sum())
    assert all(len(row.tokens_L) <= 20 for row in packed.rows)
    assert len(packed.rows) == 2


def test_an_empty_prompt_is_refused() -> None:
    prompts, tokens = _tokens()
    with pytest.raises(ModelError, match="no token"):
        pack(prompts, torch.tensor([4, 0, 7, 3]), tokens, LENGTHS, row_tokens=20)
