"""KL(policy || reference) of every token's distribution, over the whole vocabulary, without holding all logits.

    KL_t = sum_v p_t(v) (log p_t(v) - log q_t(v))

The sum over the vocabulary, not the log-ratio of the token that was drawn: this is the regulariser of MusicRL (arXiv
2402.04229, section 3.2), where the printed sum lacks its weight p. Both models' last hidden states are kept (N x D),
and their logits are formed tile by tile, once forward and once more in the backward pass.

Shape legend: N tokens, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from penchant.likelihoods.token_log_probs import Head

# Elements of a tile of logits, of which a tile needs about four.
_TILE = 1 << 22


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenStates:
    """The distributions of N tokens, as the states and the head that make them."""

    hidden_ND: Float[Tensor, "N D"]
    head: Head

    def kl(self, other: TokenStates) -> Float[Tensor, " N"]:
        """KL(self || other) of each token in nats; differentiable in what made `self`."""
        size = max(16, _TILE // len(self.head.weight_VD))
        found = [
            checkpoint(_kl, *_operands(self, rows), *_operands(other, rows), use_reentrant=False)
            for rows in (slice(start, start + size) for start in range(0, len(self.hidden_ND), size))
        ]
        return torch.cat(found) if found else self.hidden_ND.new_zeros(0)


def _operands(states: TokenStates, rows: slice) -> tuple[Tensor, Head]:
    return states.hidden_ND[rows], states.head


def _kl(hidden_ND: Tensor, head: Head, other_ND: Tensor, other: Head) -> Tensor:
    logp_NV, logq_NV = head.log_softmax(hidden_ND), other.log_softmax(other_ND)
    return (logp_NV.exp() * (logp_NV - logq_NV)).sum(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenLogits:
    """The distributions of tokens as whole log-softmaxes [..., V], for models that are scored on the plain path."""

    logp: Float[Tensor, "... V"]

    def kl(self, other: TokenLogits) -> Tensor:
        """KL(self || other) of each token in nats."""
        return (self.logp.exp() * (self.logp - other.logp)).sum(-1)
