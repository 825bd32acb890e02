"""What a language model's trunk says of a text: where its states lie, and how much the text surprises it.

The features are those that small judges of music learn from (MusicRL's remark that a preference model from scratch
stays at chance, and one from the checkpoint does not, arXiv 2402.04229, section 3.3):

    [mean state of the text's tokens | state of its last token]                              2 W
    [mean, deviation, share above 2.5, share above 4 of -log p(token), -log p(end)]           5

all logarithms natural. The end is asked about only where the excerpt reaches it, else its place holds 0.

Shapes: R excerpts, T positions, V tokens of the vocabulary, W width of the trunk, F = 2 W + 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

SURPRISES = 5
_HIGH, _HIGHER = 2.5, 4.0
# Beyond it an end is as unlikely as any other.
_MOST = 10.0


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """Tokens as the trunk reads them.

    Attributes:
        before: what stands before the text: the beginning of a sequence, or the prompt. Never empty.
        tokens: the text's own.
        ends: the text ends here.
    """

    before: tuple[int, ...]
    tokens: tuple[int, ...]
    ends: bool


def rows_of(excerpts: Sequence[Excerpt]) -> dict[str, Int[Tensor, ...]]:
    """R excerpts as tensors: "tokens" [R, T], padded behind; "start", "length" and "ends" [R]."""
    rows = [[*e.before, *e.tokens] for e in excerpts]
    longest = max(map(len, rows))
    return {
        "tokens": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
        "start": torch.tensor([len(e.before) for e in excerpts]),
        "length": torch.tensor([len(e.tokens) for e in excerpts]),
        "ends": torch.tensor([int(e.ends) for e in excerpts]),
    }


def features(trunk: Any, rows: Mapping[str, Tensor], *, end: int, layer: int | None) -> Float[Tensor, "R F"]:
    """The features of R excerpts, differentiable in the trunk's weights.

    Args:
        trunk: a causal language model of transformers.
        rows: of `rows_of`.
        end: the token that ends a text.
        layer: which hidden states: 0 the embeddings, i those after block i, None the last.
    """
    tokens_RT, start_R, length_R = rows["tokens"], rows["start"][:, None], rows["length"][:, None]
    place_T = torch.arange(tokens_RT.shape[1], device=tokens_RT.device)
    last_R1 = start_R + length_R - 1
    # Padding is attended to by nothing that counts; the mask is for models that look at it none the less.
    mask_RT = (place_T <= last_R1).long()
    out = trunk(input_ids=tokens_RT, attention_mask=mask_RT, output_hidden_states=True, use_cache=False)
    states_RTW = out.hidden_states[-1 if layer is None else layer].float()
    # An empty text lies where its beginning does.
    own_RT = (place_T <= last_R1) & (place_T >= torch.minimum(start_R, last_R1))
    mean_RW = (states_RTW * own_RT[..., None]).sum(1) / own_RT.sum(1, keepdim=True)
    last_RW = states_RTW.gather(1, last_R1[..., None].expand(-1, -1, states_RTW.shape[2]))[:, 0]
    following_RT = torch.where(place_T == last_R1, end, tokens_RT.roll(-1, 1))
    nats_RT = -out.logits.float().log_softmax(-1).gather(-1, following_RT[..., None])[..., 0]
    counted_RT = (place_T >= start_R - 1) & ((place_T < last_R1) | ((place_T == last_R1) & (rows["ends"][:, None] > 0)))
    end_R = nats_RT.gather(1, last_R1)[:, 0].clamp(max=_MOST) * rows["ends"]
    return torch.cat([mean_RW, last_RW, _moments(nats_RT, counted_RT), end_R[:, None]], 1)


def _moments(nats_RT: Tensor, counted_RT: Tensor) -> Float[Tensor, "R 4"]:
    count_R = counted_RT.sum(1).clamp(min=1)

    def mean(value_RT: Tensor) -> Tensor:
        return torch.where(counted_RT, value_RT, 0.0).sum(1) / count_R

    mean_R = mean(nats_RT)
    # The root has no slope at zero.
    deviation_R = (mean((nats_RT - mean_R[:, None]).square()) + 1e-6).sqrt()
    high, higher = ((nats_RT > limit).float() for limit in (_HIGH, _HIGHER))
    return torch.stack([mean_R, deviation_R, mean(high), mean(higher)], 1)
