"""Sampling from MusicGen: batched, with a key-value cache, every row drawing its own counted numbers.

Why not `generate` of transformers: it returns waveforms, and encoding those again gives other codes than were drawn; it
draws all rows from one stream; it glues the samples of `num_return_sequences=2` together in time without a word; and
`max_new_tokens=n` gives n - max(delay) frames. Here N frames are N frames, and their codes and log-probs come along.

A model without an end token says exactly as many frames as it is asked for.

Shape legend: R rows, Kq codebooks, N frames, T columns, P tokens of a prompt, V entries of a codebook.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from penchant.errors import RecipeError
from penchant.models import delay
from penchant.models.completion import Decoding
from penchant.models.decoding import choose, roomy_cache
from penchant.models.music_scoring import attended, filtered, guided, silent_of, with_null

_CACHE_BYTES = {"cpu": 512 << 20, "cuda": 16 << 30}


@dataclass(frozen=True, kw_only=True)
class MusicDecoding:
    """How codes are drawn: guidance, then temperature, then top-k, in the order of transformers.

    Attributes:
        temperature: the logits are divided by it; 0 is greedy.
        guidance: scale of classifier-free guidance; 1 is the conditional branch alone, at half the cost.
        top_k: only so many codes of a codebook can be drawn; None for all. What it cuts has a log-prob of minus
            infinity, so that a policy which is to learn from its samples draws without.
    """

    temperature: float = 1.0
    guidance: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise RecipeError("not a temperature.", field="temperature", remedy="use 0 (greedy) or more.")
        if not 0 <= self.guidance < float("inf"):
            raise RecipeError("not a guidance scale.", field="guidance", remedy="use 1 for none, 3 is MusicGen's.")
        if self.top_k is not None and self.top_k < 1:
            raise RecipeError("one code must remain.", field="top_k", remedy="use 1 or more, or None for all.")


@dataclass(frozen=True, kw_only=True)
class DrawnCodes:
    """Delayed grids [R, Kq, T] and the log-prob of each column [R, T], as they were drawn."""

    grid_RKT: Int[Tensor, "R Kq T"]
    log_probs_RT: Float[Tensor, "R T"]


@torch.no_grad()
def draw_codes(
    decoder: Any,
    states_RPD: Tensor,
    heard_RP: Tensor,
    uniform_RTK: Float[Tensor, "R T Kq"],
    decoding: MusicDecoding,
    waits: tuple[int, ...],
) -> DrawnCodes:
    """One grid of T columns a row; a code is the inverse of its cumulative distribution at the row's next number.

    Args:
        decoder: `MusicgenForCausalLM` in evaluation mode.
        states_RPD: states of the prompts, zero where `heard_RP` is False.
        heard_RP: which of them are a prompt's.
        uniform_RTK: numbers in [0, 1), float64.
        decoding: how.
        waits: delay of each codebook.
    """
    parts = [
        _draw(decoder, states_RPD[rows], heard_RP[rows], uniform_RTK[rows], decoding, waits)
        for rows in _batches(decoder, uniform_RTK, decoding)
    ]
    return DrawnCodes(
        grid_RKT=torch.cat([part.grid_RKT for part in parts]),
        log_probs_RT=torch.cat([part.log_probs_RT for part in parts]),
    )


def _batches(decoder: Any, uniform_RTK: Tensor, decoding: MusicDecoding) -> Iterator[slice]:
    """As many rows at a time as the cache may hold."""
    count, columns = uniform_RTK.shape[:2]
    config = decoder.config
    row = 2 * config.num_hidden_layers * config.hidden_size * decoder.dtype.itemsize * columns
    row *= 1 if decoding.guidance == 1.0 else 2
    size = max(1, _CACHE_BYTES.get(decoder.device.type, _CACHE_BYTES["cpu"]) // row)
    for start in range(0, count, size):
        yield slice(start, start + size)


def _draw(
    decoder: Any,
    states_RPD: Tensor,
    heard_RP: Tensor,
    uniform_RTK: Tensor,
    decoding: MusicDecoding,
    waits: tuple[int, ...],
) -> DrawnCodes:
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    R, T, K = uniform_RTK.shape
    device, silent, plain = states_RPD.device, silent_of(decoder), Decoding(temperature=decoding.temperature)
    uniform_RTK = uniform_RTK.to(device)
    spoken_KT = delay.spoken(torch.tensor(T, device=device), waits, columns=T)
    grid_RKT = torch.full((R, K, T), silent, device=device)
    column_RK = torch.full((R, K), silent, device=device)
    columns = []
    if decoding.guidance != 1.0:
        _, states_RPD, heard_RP = with_null(column_RK, states_RPD, heard_RP)
    cache = EncoderDecoderCache(roomy_cache(decoder, T), DynamicCache(config=decoder.config))
    for t in range(T):
        inputs = column_RK if decoding.guidance == 1.0 else torch.cat([column_RK, column_RK])
        output = decoder(
            input_ids=inputs.reshape(-1, 1),
            encoder_hidden_states=states_RPD,
            encoder_attention_mask=attended(heard_RP),
            past_key_values=cache,
            use_cache=True,
        )
        logits_RKV = guided(output.logits[:, -1].unflatten(0, (len(inputs), K)), decoding.guidance)
        kept = spoken_KT[:, t]
        logits = filtered(logits_RKV[:, kept], decoding.top_k)
        code, logp = choose(logits.flatten(0, 1), uniform_RTK[:, t, kept].flatten(), plain)
        column_RK = torch.full_like(column_RK, silent)
        column_RK[:, kept] = code.view(R, -1)
        grid_RKT[:, :, t] = column_RK
        columns.append(logp.view(R, -1).sum(-1))
    return DrawnCodes(grid_RKT=grid_RKT, log_probs_RT=torch.stack(columns, -1))
