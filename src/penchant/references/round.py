"""The policy as it drew the current round of rollouts: the old policy of DiffusionNFT.

    old <- lag * old + (1 - lag) * policy        whenever a round begins

At lag 0 it is exactly who drew the round; with more it follows slowly, as an average over past rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from penchant.references.base import Referable, ReferenceModel
from penchant.references.start import swapped_in
from penchant.types import CandidateBatch, Draw, Likelihood, LogProbs


@final
class RoundStart(ReferenceModel):
    """Made from the policy before any step changes it; `renew` is called when a round has been drawn."""

    def __init__(self, policy: Referable, lag: float = 0.0) -> None:
        self.lag = lag
        self._weights = [p.detach().clone() for p in policy.trainable_parameters()]

    @torch.no_grad()
    def renew(self, policy: Referable) -> None:
        """Follows the policy, which has just drawn a round."""
        for kept, now in zip(self._weights, policy.trainable_parameters(), strict=True):
            kept.lerp_(now.detach(), 1 - self.lag)

    @torch.no_grad()
    def log_prob(
        self, likelihood: Likelihood, policy: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False
    ) -> LogProbs:
        with swapped_in(policy.trainable_parameters(), self._weights):
            return likelihood.log_prob(policy, batch, draw, keep_output=keep_output)

    def state(self) -> dict[str, Tensor]:
        """The weights, for a checkpoint."""
        return {str(i): weight for i, weight in enumerate(self._weights)}

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        for i, weight in enumerate(self._weights):
            weight.copy_(weights[str(i)])

    def fingerprint(self, policy: Any) -> str:
        """None that lasts: no cache of scores can hold it."""
        raise NotImplementedError("a reference that follows the policy has no lasting name.")

    def describe(self) -> str:
        count = sum(w.numel() for w in self._weights)
        return f"reference: the policy as each round began, lag {self.lag:g} ({count / 1e6:.1f} M weights beside it)"
