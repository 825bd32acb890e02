"""One sequence a group: the prompt once, a branch for every candidate; several groups a row.

    row:       [ prompt | candidate 1 | candidate 2 | ... ] [ prompt | ... ]
    position:    0..p-1   p..           p..                   0..

A token sees its own prompt and its own branch, up to itself. Attention knows positions by number and neighbours by
mask, so every candidate is scored exactly as if it stood alone behind its prompt; only the prompt is not computed K
times. A branch leaves out its last token, which predicts nothing. Rows are never padded.

Shape legend: B groups, K candidates, P and T padded lengths; L tokens of a row, N = all completion tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from penchant.errors import ModelError


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A packed sequence, and which of its states predict completion tokens.

    `branch_L` is 0 for prompts and counts candidates from 1; `group_L` tells the groups of a row apart.
    """

    tokens_L: Int[Tensor, " L"]
    position_L: Int[Tensor, " L"]
    group_L: Int[Tensor, " L"]
    branch_L: Int[Tensor, " L"]
    reads_M: Int[Tensor, " M"]

    def sees(self, window: int | None = None) -> Bool[Tensor, "L L"]:
        """Which token attends to which; with `window` only to those fewer than so many positions back."""
        group, branch, position = self.group_L, self.branch_L, self.position_L
        same = group[:, None] == group[None, :]
        own = (branch[None, :] == 0) | (branch[:, None] == branch[None, :])
        back = position[:, None] - position[None, :]
        seen = same & own & (back >= 0)
        return seen if window is None else seen & (back < window)


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """Rows, and the place [b, k, t] of every token that their states predict, in the rows' order."""

    rows: tuple[Row, ...]
    target_N: Int[Tensor, " N"]
    place_N3: Int[Tensor, "N 3"]


def pack(
    prompt_BP: Int[Tensor, "B P"],
    prompt_length_B: Int[Tensor, " B"],
    tokens_BKT: Int[Tensor, "B K T"],
    length_BK: Int[Tensor, "B K"],
    *,
    row_tokens: int,
) -> Packed:
    """Packs groups into rows of at most `row_tokens` tokens; a longer group gets a row of its own.

    Args:
        prompt_BP: prompt tokens, padded at the end.
        prompt_length_B: how many of them count; at least one.
        tokens_BKT: completion tokens, padded at the end.
        length_BK: how many of them count; 0 for a missing candidate.
        row_tokens: capacity of a row.

    Raises:
        ModelError: a prompt without a token.
    """
    device = tokens_BKT.device
    prompts, lengths = prompt_length_B.tolist(), length_BK.tolist()
    if 0 in prompts:
        raise ModelError("a prompt has no token.", remedy="give the tokenizer a beginning-of-sequence token.")
    sizes = [p + sum(max(n - 1, 0) for n in row) for p, row in zip(prompts, lengths, strict=True)]
    bins = _bins(sizes, row_tokens)
    rows, places = [], []
    for groups in bins:
        pieces = [_group(slot, b, prompts[b], lengths[b], device) for slot, b in enumerate(groups)]
        offsets = torch.tensor([0, *[len(piece.position) for piece in pieces]]).cumsum(0).tolist()
        tokens = [
            torch.cat(
                [prompt_BP[b, : prompts[b]], *(tokens_BKT[b, k, : max(n - 1, 0)] for k, n in enumerate(lengths[b]))]
            )
            for b in groups
        ]
        rows.append(
            Row(
                tokens_L=torch.cat(tokens),
                position_L=torch.cat([piece.position for piece in pieces]),
                group_L=torch.cat([torch.full_like(p.position, slot) for slot, p in enumerate(pieces)]),
                branch_L=torch.cat([piece.branch for piece in pieces]),
                reads_M=torch.cat([p.reads + offset for p, offset in zip(pieces, offsets[:-1], strict=True)]),
            )
        )
        places += [piece.place for piece in pieces]
    place_N3 = torch.cat(places)
    target_N = tokens_BKT[place_N3[:, 0], place_N3[:, 1], place_N3[:, 2]]
    return Packed(rows=tuple(rows), target_N=target_N, place_N3=place_N3)


@dataclass(frozen=True, eq=False)
class _Piece:
    position: Tensor
    branch: Tensor
    reads: Tensor
    place: Tensor


def _group(slot: int, b: int, prompt: int, lengths: Sequence[int], device: torch.device) -> _Piece:
    """Positions, branches and reading places of one group, counted from its own start."""
    position, branch = [torch.arange(prompt)], [torch.zeros(prompt, dtype=torch.long)]
    reads, place, start = [], [], prompt
    for k, n in enumerate(lengths):
        if n == 0:
            continue
        position.append(torch.arange(prompt, prompt + n - 1))
        branch.append(torch.full((n - 1,), k + 1))
        # The prompt's last state predicts the first token, each token of the branch the next one.
        reads += [torch.tensor([prompt - 1]), torch.arange(start, start + n - 1)]
        steps = torch.arange(n)
        place.append(torch.stack([torch.full_like(steps, b), torch.full_like(steps, k), steps], -1))
        start += n - 1
    empty = torch.zeros(0, dtype=torch.long)
    return _Piece(
        torch.cat(position).to(device),
        torch.cat(branch).to(device),
        torch.cat(reads or [empty]).to(device),
        torch.cat(place or [empty.view(0, 3)]).to(device),
    )


def _bins(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """First fit, longest first: which groups share a row."""
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        fits = next((i for i, free in enumerate(room) if sizes[index] <= free), None)
        if fits is None:
            bins.append([])
            room.append(capacity)
            fits = len(bins) - 1
        bins[fits].append(index)
        room[fits] -= sizes[index]
    return bins
