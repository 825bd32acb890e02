"""log softmax(h W^T)[target] of many tokens, without ever holding all their logits.

    d logp / d h = W[target] - p W        p = softmax(h W^T)
    d logp / d W = (onehot(target) - p) h^T

Tokens go through the head in tiles that share one buffer, so memory is tile x V and not N x V. Where only the hidden
states train, d logp / d h is formed in the forward pass, where p is, and the backward pass only scales it by each
token's weight. Where the head trains too, the backward pass needs p again: it is kept for as many tokens as a bounded
buffer holds, which saves one of four products with the head, and made again tile by tile for the others.

Shape legend: N tokens, D width, V vocabulary, the first M of the N tokens have their p kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Elements of a tile: 32 MiB of float32, which a processor's outer cache still helps with.
_TILE = 1 << 23
# Elements of the kept probabilities: 256 MiB of float32, whatever the batch.
_KEPT = 1 << 26
_buffers: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """The last layer of a language model: logits = cap * tanh(scale * (h W^T + b) / cap), cap absent in most."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def cooled(self, temperature: float) -> Head:
        """The head whose logits are these over `temperature`."""
        cap = None if self.softcap is None else self.softcap / temperature
        return self if temperature == 1 else replace(self, scale=self.scale / temperature, softcap=cap)

    def kept(self) -> Head:
        """The head as it now stands, without gradient: for a reference whose weights are about to change places."""
        bias = None if self.bias_V is None else self.bias_V.detach()
        return replace(self, weight_VD=self.weight_VD.detach(), bias_V=bias)

    def log_softmax(self, hidden_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Whole rows of log-probs, at least in float32; `token_log_probs` is for those who need one number a row."""
        logits_NV = (hidden_ND @ self.weight_VD.to(hidden_ND.dtype).T).to(_wide(hidden_ND.dtype))
        if self.bias_V is not None:
            logits_NV = logits_NV + self.bias_V
        logits_NV = logits_NV * self.scale
        if self.softcap is not None:
            logits_NV = (logits_NV / self.softcap).tanh() * self.softcap
        return logits_NV.log_softmax(-1)


def token_log_probs(
    hidden_ND: Float[Tensor, "N D"], target_N: Int[Tensor, " N"], head: Head, *, collision: bool = False
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"] | None]:
    """Log-prob of each target and, if asked for, log sum_v p_v^2 (without gradient); float32, float64 for float64.

    Args:
        hidden_ND: last hidden states.
        target_N: the token that follows each of them.
        head: weight, bias, scale and soft cap.
        collision: also return the log-probability that two draws from p agree.
    """
    weight_VD = head.weight_VD.to(hidden_ND.dtype)
    logp_N, collision_N = _TokenLogProbs.apply(
        hidden_ND, weight_VD, head.bias_V, target_N, head.scale, head.softcap, collision
    )
    return logp_N, collision_N if collision else None


def _buffer(name: str, rows: int, columns: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A reused [rows, columns]: an allocation of this size is given back to the system and paid for page by page."""
    key = (name, like.device, dtype)
    if key not in _buffers or _buffers[key].numel() < rows * columns:
        _buffers[key] = like.new_empty(rows * columns, dtype=dtype)
    return _buffers[key][: rows * columns].view(rows, columns)


def _taken(size: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Like `_buffer`, at least [size], but nobody else's until it is given back: another caller gets a new one."""
    found = _buffers.pop(("kept", like.device, dtype), None)
    return found if found is not None and len(found) >= size else like.new_empty(size, dtype=dtype)


def _given(buffer: Tensor) -> None:
    """Puts a taken buffer back."""
    _buffers["kept", buffer.device, buffer.dtype] = buffer


def _tiles(start: int, stop: int, vocabulary: int) -> list[slice]:
    size = max(16, _TILE // vocabulary)
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


def _logits(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """Logits of one tile, in float32 or float64; valid until the next call."""
    out = _buffer("logits", len(hidden_ND), len(weight_VD), hidden_ND, hidden_ND.dtype)
    torch.mm(hidden_ND, weight_VD.T, out=out)
    logits = out.to(_wide(out.dtype))
    if bias_V is not None:
        logits += bias_V
    if scale != 1.0:
        logits *= scale
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)
    return logits


def _softmax(logits: Tensor, target_N: Tensor, p: Tensor) -> Tensor:
    """Log-prob of the targets; writes the softmax to `p`."""
    wanted_N, top_N = logits.gather(-1, target_N[:, None])[:, 0], logits.amax(-1)
    torch.softmax(logits, -1, out=p)
    # The likeliest token has p = 1 / sum exp(logit - top): the softmax has done that sum already.
    return wanted_N - top_N + p.amax(-1).log()


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        target_N: Tensor,
        scale: float,
        softcap: float | None,
        collision: bool,
    ) -> tuple[Tensor, Tensor]:
        count, vocabulary, wide = len(hidden_ND), len(weight_VD), _wide(hidden_ND.dtype)
        logp_N = hidden_ND.new_empty(count, dtype=wide)
        collision_N = torch.empty_like(logp_N) if collision else hidden_ND.new_empty(0, dtype=wide)
        trains = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        # The derivative of a soft cap needs the logits, which p does not tell.
        kept = min(count, _KEPT // vocabulary) if trains and softcap is None else 0
        buffer = _taken(kept * vocabulary, hidden_ND, wide) if kept else None
        kept_MV = None if buffer is None else buffer[: kept * vocabulary].view(kept, vocabulary)
        slope_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] and kept < count else None
        for rows in [*_tiles(0, kept, vocabulary), *_tiles(kept, count, vocabulary)]:
            logits = _logits(hidden_ND[rows], weight_VD, bias_V, scale, softcap)
            bend = None if softcap is None else 1 - (logits / softcap).square()
            if kept_MV is None or rows.stop > kept:
                p = _buffer("p", len(logits), vocabulary, logits, wide)
            else:
                p = kept_MV[rows]
            logp_N[rows] = _softmax(logits, target_N[rows], p)
            if collision:
                collision_N[rows] = 2 * torch.linalg.vector_norm(p, dim=-1).log()
            if slope_ND is not None and rows.stop > kept:
                slope_ND[rows] = _slope(p, bend, weight_VD, target_N[rows], scale)
        ctx.save_for_backward(slope_ND, *((hidden_ND, weight_VD, bias_V, target_N) if trains else ()))
        ctx.kept, ctx.buffer, ctx.options = kept, buffer, (scale, softcap)
        ctx.mark_non_differentiable(collision_N)
        return logp_N, collision_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weight_N: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        slope_ND, *saved = ctx.saved_tensors
        hidden = None if slope_ND is None else slope_ND * weight_N[:, None].to(slope_ND.dtype)
        head = bias = None
        if saved:
            hidden_ND, weight_VD, bias_V, target_N = saved
            hidden, head, bias = _pulled_back(ctx, hidden_ND, weight_VD, bias_V, target_N, weight_N, hidden)
        return (
            hidden if ctx.needs_input_grad[0] else None,
            head if ctx.needs_input_grad[1] else None,
            bias if ctx.needs_input_grad[2] else None,
            None,
            None,
            None,
            None,
        )


def _slope(p: Tensor, bend: Tensor | None, weight_VD: Tensor, target_N: Tensor, scale: float) -> Tensor:
    """d logp / d h of one tile."""
    if bend is None:
        return (weight_VD[target_N] - p.to(weight_VD.dtype) @ weight_VD) * scale
    p.neg_().scatter_add_(-1, target_N[:, None], p.new_ones(len(p), 1)).mul_(bend)
    return (p.to(weight_VD.dtype) @ weight_VD) * scale


def _pulled_back(
    ctx: Any,
    hidden_ND: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    target_N: Tensor,
    weight_N: Tensor,
    found_ND: Tensor | None,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """d loss / d (h, W, b), adding up tile by tile; `found_ND` holds the first where the forward pass formed it."""
    (scale, softcap), kept, wide = ctx.options, ctx.kept, weight_N.dtype
    head_VD = torch.zeros_like(weight_VD, dtype=wide)
    bias = None if bias_V is None else torch.zeros_like(bias_V)
    if found_ND is None:
        found_ND = torch.empty_like(hidden_ND)
    buffer, ctx.buffer = ctx.buffer, None  # what follows overwrites it: a second backward pass makes p again
    whole = _tiles(0, kept, len(weight_VD)) if buffer is None else [slice(0, kept)]
    for rows in [*whole, *_tiles(kept, len(hidden_ND), len(weight_VD))]:
        h, bend = hidden_ND[rows], None
        if buffer is not None and rows.stop <= kept:
            p = buffer[: kept * len(weight_VD)].view(kept, len(weight_VD))
        else:
            logits = _logits(h, weight_VD, bias_V, scale, softcap)
            bend = None if softcap is None else 1 - (logits / softcap).square()
            p = _buffer("p", len(logits), len(weight_VD), logits, wide)
            _softmax(logits, target_N[rows], p)
        # (onehot - p) times each token's weight, in the place of p.
        pull = weight_N[rows, None] * scale
        p.mul_(-pull).scatter_add_(-1, target_N[rows, None], pull)
        if bend is not None:
            p.mul_(bend)
        if bias is not None:
            bias += p.sum(0)
        slope = p.to(h.dtype)
        if rows.stop <= kept:
            torch.mm(slope, weight_VD, out=found_ND[rows])
        if h.dtype == wide:
            head_VD.addmm_(slope.T, h)
        else:
            head_VD += slope.T @ h
    if buffer is not None:
        _given(buffer)
    return found_ND, head_VD, bias
