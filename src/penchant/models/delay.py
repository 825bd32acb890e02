"""The delay pattern of MusicGen (arXiv 2306.05284, figure 1): codebook k of a frame is said k columns later.

A frame of audio is Kq codes, coarse to fine. Said one frame a column, all Kq at once, a fine code could not know the
coarse ones beside it; with the delay, column t holds code t - d_k of codebook k:

    codes   a0 a1 a2        grid   a0 a1 a2  P
            b0 b1 b2                P b0 b1 b2

The codes of one column are drawn independently, given all columns before, so that a product over a column's codes and
then over columns is an exact density. P, the index behind the last entry of a codebook, stands where nothing is said;
no head has an output for it. Codebooks of two channels alternate (left, right); both wait for their level: d = k // 2.

    >>> grid = delayed(torch.tensor([[1, 2, 3], [4, 5, 6]]), delays(2, channels=1), silent=9)
    >>> grid
    tensor([[1, 2, 3, 9],
            [9, 4, 5, 6]])
    >>> undelayed(grid, delays(2, channels=1))
    tensor([[1, 2, 3],
            [4, 5, 6]])

Shape legend: Kq codebooks, N frames, T = N + max(d) columns.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def delays(codebooks: int, *, channels: int) -> tuple[int, ...]:
    """How many columns each codebook waits."""
    return tuple(k // channels for k in range(codebooks))


def delayed(codes: Int[Tensor, "... Kq N"], waits: tuple[int, ...], *, silent: int) -> Int[Tensor, "... Kq T"]:
    """The grid of columns that says the codes, with `silent` where nothing is said."""
    frames = codes.shape[-1]
    grid = codes.new_full((*codes.shape[:-1], frames + max(waits)), silent)
    for k, wait in enumerate(waits):
        grid[..., k, wait : wait + frames] = codes[..., k, :]
    return grid


def undelayed(grid: Int[Tensor, "... Kq T"], waits: tuple[int, ...]) -> Int[Tensor, "... Kq N"]:
    """The codes that a grid says."""
    frames = grid.shape[-1] - max(waits)
    return torch.stack([grid[..., k, wait : wait + frames] for k, wait in enumerate(waits)], -2)


def spoken(length: Int[Tensor, "*rows"], waits: tuple[int, ...], *, columns: int) -> Bool[Tensor, "*rows Kq T"]:
    """Where a grid of `length` columns, padded to `columns`, says a code."""
    column = torch.arange(columns, device=length.device)
    wait = torch.tensor(waits, device=length.device)[:, None]
    end = length[..., None, None] - (max(waits) - wait)
    return (column >= wait) & (column < end)


def shifted(grid: Int[Tensor, "... Kq T"], *, silent: int) -> Int[Tensor, "... Kq T"]:
    """What the model reads to predict each column: the column before, and silence before the first."""
    return torch.cat([torch.full_like(grid[..., :1], silent), grid[..., :-1]], -1)
