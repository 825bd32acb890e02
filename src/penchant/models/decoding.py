"""Sampling from a causal language model: batched, with a key-value cache, every row drawing its own counted numbers.

Why not `generate` of transformers: it draws all rows from one stream, so a sample changes with its batch; it computes
equal prompts once a row; and it carries finished rows to the end. Here

- a row's uniform numbers belong to it, and a token is the inverse of its cumulative distribution at the next one;
- equal prompts, and prompts that begin alike (the exits along one trace), are prefilled once and forked;
- finished rows leave the batch.

A fork copies nothing but rows of the cache: what lies behind the shared part is masked and never seen again.

Shape legend: R rows, S slots of the cache, V vocabulary.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from penchant.models.completion import Decoding

Tokens = Sequence[int]
_CACHE_BYTES = {"cpu": 512 << 20, "cuda": 16 << 30}
_MOST_ROWS = 512
_NUCLEUS = 1024


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one row continues, and the numbers in [0, 1) that it draws with, one a token."""

    tokens: tuple[int, ...]
    uniform: np.ndarray


@dataclass(kw_only=True)
class Drawn:
    """What a row has generated so far: tokens, their log-probs at the sampling temperature, and whether it ended."""

    tokens: list[int]
    log_probs: list[float]
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How a completion ends: token ids, or a text that `ends` finds in the tokens so far."""

    ids: frozenset[int]
    ends: Callable[[Tokens], bool] | None = None


@torch.no_grad()
def decode(
    model: Any, requests: Sequence[Request], decoding: Decoding, ends: Ends, *, share: bool, padded: bool = True
) -> list[Drawn]:
    """Completes every request; the order is that of the requests.

    Args:
        model: a transformers causal language model in evaluation mode.
        requests: the prompts' tokens, at least one each.
        decoding: temperature, top-p and the longest completion.
        ends: what ends a row.
        share: prefill what prompts have in common once; needs attention that follows a mask with holes.
        padded: whether rows of different lengths may share a batch.
    """
    found: list[Drawn | None] = [None] * len(requests)
    order = sorted(range(len(requests)), key=lambda i: requests[i].tokens)
    for batch in _batches(model, order, requests, decoding, padded):
        rows = [requests[i] for i in batch]
        state = _prefill(model, [r.tokens for r in rows], share=share, room=decoding.max_tokens)
        for i, drawn in zip(batch, _draw(model, state, rows, decoding, ends), strict=True):
            found[i] = drawn
    return [drawn for drawn in found if drawn is not None]


def _batches(
    model: Any, order: Sequence[int], requests: Sequence[Request], decoding: Decoding, padded: bool
) -> Iterator[list[int]]:
    """Neighbours in the order of their tokens, so that what begins alike is together, as many as the cache may hold."""
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    slot = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
    budget = _CACHE_BYTES.get(model.device.type, _CACHE_BYTES["cpu"])
    batch: list[int] = []
    longest = 0
    for i in order:
        grown = max(longest, len(requests[i].tokens))
        full = (len(batch) + 1) * (grown + decoding.max_tokens) * slot > budget or len(batch) >= _MOST_ROWS
        if batch and (full or not padded):
            yield batch
            batch, grown = [], len(requests[i].tokens)
        batch.append(i)
        longest = grown
    if batch:
        yield batch


# --- the state of a batch ---------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _State:
    """Cache, which of its slots each row sees [R, S], the next position [R], the logits of the next token [R, V]."""

    cache: Any
    seen_RS: Tensor
    next_R: Tensor
    logits_RV: Tensor

    def keep(self, index: Tensor) -> None:
        """Rows by index, repeated or dropped."""
        self.cache.batch_select_indices(index)
        self.seen_RS, self.next_R = self.seen_RS[index], self.next_R[index]


def roomy_cache(model: Any, room: int) -> Any:
    """A cache that is written in place; transformers' own is copied whole for every token."""
    from transformers.cache_utils import Cache, DynamicLayer

    class Roomy(DynamicLayer):
        """Keys and values as the filled part of a buffer."""

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            old = self.get_seq_length()
            new = old + key_states.shape[-2]
            self.keys = self._appended("_key_buffer", self.keys, key_states, old, new)
            self.values = self._appended("_value_buffer", self.values, value_states, old, new)
            return self.keys, self.values

        def _appended(self, name: str, kept: Tensor | None, added: Tensor, old: int, new: int) -> Tensor:
            buffer = getattr(self, name, None)
            # Selecting rows made a copy of the filled part: then the buffer is no longer what `kept` views.
            moved = kept is not None and buffer is not None and kept.data_ptr() != buffer.data_ptr()
            if buffer is None or (old and moved) or buffer.shape[-2] < new:
                buffer = added.new_empty(*added.shape[:-2], new + room, added.shape[-1])
                if kept is not None and old:
                    buffer[..., :old, :] = kept
                setattr(self, name, buffer)
            buffer[..., old:new, :] = added
            return buffer[..., :new, :]

    return Cache(layers=[Roomy() for _ in range(model.config.num_hidden_layers)])


def _prefill(model: Any, prompts: Sequence[Tokens], *, share: bool, room: int) -> _State:
    """The state after every prompt: trunks first, then each prompt's own last tokens behind its part of a trunk."""
    unique = sorted(set(map(tuple, prompts)))
    trunks, fork = _trunks(unique, share)
    device = model.device
    tokens_RS, seen_RS = _left_padded([unique[t][:-1] for t in trunks], device)
    cache = roomy_cache(model, room)
    if tokens_RS.shape[1]:
        _forward(model.base_model, tokens_RS, seen_RS, (seen_RS.cumsum(-1) - 1).clamp(min=0), cache)
    place = {t: i for i, t in enumerate(trunks)}
    trunk_U = torch.tensor([place[t] for t, _ in fork], device=device)
    common_U = torch.tensor([n for _, n in fork], device=device)
    seen_US = seen_RS[trunk_U]
    seen_US = seen_US & (seen_US.cumsum(-1) <= common_U[:, None])
    if tokens_RS.shape[1]:
        cache.batch_select_indices(trunk_U)
    own = [prompt[n:] for prompt, (_, n) in zip(unique, fork, strict=True)]
    tail_UE, real_UE = _left_padded(own, device)
    position_UE = (common_U[:, None] + real_UE.cumsum(-1) - 1).clamp(min=0)
    seen_US = torch.cat([seen_US, real_UE], -1)
    logits_UV = _forward(model, tail_UE, seen_US, position_UE, cache, logits_to_keep=1).logits[:, -1]
    state = _State(
        cache=cache,
        seen_RS=seen_US,
        next_R=torch.tensor([len(p) for p in unique], device=device),
        logits_RV=logits_UV,
    )
    places = {prompt: place for place, prompt in enumerate(unique)}
    rows = torch.tensor([places[tuple(p)] for p in prompts], device=device)
    if len(rows) != len(unique) or bool((rows != torch.arange(len(rows), device=device)).any()):
        state.keep(rows)
        state.logits_RV = logits_UV[rows]
    return state


def _trunks(unique: Sequence[Tokens], share: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Which prompts are prefilled whole, and for each prompt (its trunk, how many tokens it takes from there).

    Long prompts come first, and a prompt joins the trunk that it shares most with, a neighbour in sorted order, if that
    saves half of its tokens. Its last token is always its own: the logits come from there.
    """
    trunks: list[int] = []
    fork: dict[int, tuple[int, int]] = {}
    # `unique` is sorted, so places stand for prompts and the trunks with most in common lie next to a prompt's place.
    for index in sorted(range(len(unique)), key=lambda i: (-len(unique[i]), i)):
        prompt = unique[index]
        at = bisect(trunks, index)
        near = trunks[max(at - 1, 0) : at + 1] if share else []
        common, trunk = max(((_common(prompt[:-1], unique[t][:-1]), t) for t in near), default=(0, -1))
        if common and 2 * common >= len(prompt):
            fork[index] = trunk, common
        else:
            insort(trunks, index)
            fork[index] = index, len(prompt) - 1
    return trunks, [fork[index] for index in range(len(unique))]


def _common(first: Tokens, second: Tokens) -> int:
    n = min(len(first), len(second))
    return next((i for i in range(n) if first[i] != second[i]), n)


def _left_padded(rows: Sequence[Tokens], device: torch.device) -> tuple[Tensor, Tensor]:
    """(tokens, which are real) [R, longest], padded at the beginning."""
    width = max(map(len, rows))
    tokens, real = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        if row:
            tokens[i, width - len(row) :] = torch.tensor(row)
            real[i, width - len(row) :] = True
    return tokens.to(device), real.to(device)


def _forward(module: Any, tokens: Tensor, seen_RS: Tensor, position: Tensor, cache: Any, **more: Any) -> Any:
    return module(
        input_ids=tokens,
        attention_mask=seen_RS.long(),
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
        **more,
    )


# --- drawing ----------------------------------------------------------------------------------------------------------


def _draw(model: Any, state: _State, rows: Sequence[Request], decoding: Decoding, ends: Ends) -> list[Drawn]:
    drawn = [Drawn(tokens=[], log_probs=[]) for _ in rows]
    alive = list(range(len(rows)))
    for step in range(decoding.max_tokens):
        uniform = torch.tensor([rows[i].uniform[step] for i in alive], device=state.logits_RV.device)
        token_R, logp_R = choose(state.logits_RV, uniform, decoding)
        going = []
        for slot, (i, token, logp) in enumerate(zip(alive, token_R.tolist(), logp_R.tolist(), strict=True)):
            row = drawn[i]
            row.tokens.append(token)
            row.log_probs.append(logp)
            row.finished = token in ends.ids or (ends.ends is not None and ends.ends(row.tokens))
            if not row.finished:
                going.append(slot)
        if not going or step == decoding.max_tokens - 1:
            break
        if len(going) < len(alive):
            index = torch.tensor(going, device=token_R.device)
            state.keep(index)
            token_R, alive = token_R[index], [alive[slot] for slot in going]
        state.seen_RS = torch.cat([state.seen_RS, torch.ones_like(state.seen_RS[:, :1])], -1)
        output = _forward(model, token_R[:, None], state.seen_RS, state.next_R[:, None], state.cache)
        state.logits_RV, state.next_R = output.logits[:, -1], state.next_R + 1
    return drawn


def choose(logits_RV: Tensor, uniform_R: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """(token, its log-prob at the sampling temperature before top-p cuts) of every row; greedy at temperature 0."""
    logits_RV = logits_RV.float()
    logp_RV = torch.log_softmax(logits_RV / decoding.temperature if decoding.temperature else logits_RV, -1)
    if decoding.temperature == 0:
        token_R = logp_RV.argmax(-1)
    elif decoding.top_p < 1:
        token_R = _nucleus(logp_RV.exp(), uniform_R, decoding.top_p)
    else:
        token_R = _inverse(logp_RV.exp().double(), uniform_R)
    return token_R, logp_RV.gather(-1, token_R[:, None])[:, 0]


def _nucleus(p_RV: Tensor, uniform_R: Tensor, top_p: float) -> Tensor:
    """Tokens drawn from the smallest set of likeliest ones that holds `top_p`.

    That set is mostly small, and sorting a whole vocabulary for it would cost as much as the model: only rows whose
    likeliest `_NUCLEUS` tokens do not hold it are sorted.
    """
    few_RC, order_RC = p_RV.topk(min(_NUCLEUS, p_RV.shape[-1]), dim=-1)
    token_R = _within(few_RC, order_RC, uniform_R, top_p)
    wide = (few_RC.double().sum(-1) < top_p).nonzero()[:, 0]
    if len(wide):
        sorted_RV, order_RV = torch.sort(p_RV[wide], dim=-1, descending=True)
        token_R[wide] = _within(sorted_RV, order_RV, uniform_R[wide], top_p)
    return token_R


def _within(sorted_RC: Tensor, order_RC: Tensor, uniform_R: Tensor, top_p: float) -> Tensor:
    sorted_RC = sorted_RC.double()
    before_RC = sorted_RC.cumsum(-1) - sorted_RC
    place_R = _inverse(torch.where(before_RC < top_p, sorted_RC, 0), uniform_R)
    return order_RC.gather(-1, place_R[:, None])[:, 0]


def _inverse(weight_RV: Tensor, uniform_R: Tensor) -> Tensor:
    """The first place whose cumulative weight exceeds the uniform share of the whole; never one of weight zero."""
    total_RV = weight_RV.cumsum(-1)
    wanted_R = uniform_R.double() * total_RV[:, -1]
    place_R = torch.searchsorted(total_RV, wanted_R[:, None], right=True)[:, 0]
    return place_R.clamp(max=weight_RV.shape[-1] - 1)
