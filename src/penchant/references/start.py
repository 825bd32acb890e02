"""The policy as it was when the run began: its trainable weights of then, put in for the reference's pass.

For a policy that trains an adapter on top of another round's adapter, "adapter off" would be the base of them all; what
an iteration compares with is the last iterate. Only the weights that train are kept twice: an adapter's are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor

from penchant.references.base import Referable, ReferenceModel
from penchant.types import CandidateBatch, Draw, Likelihood, LogProbs


@final
class Start(ReferenceModel):
    """Made from the policy *before* any step or any restored checkpoint changes it."""

    def __init__(self, policy: Referable) -> None:
        self._weights = [p.detach().clone() for p in policy.trainable_parameters()]
        self._fingerprint = f"{policy.fingerprint()}-{policy.encoder_fingerprint()}"

    @torch.no_grad()
    def log_prob(
        self, likelihood: Likelihood, policy: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False
    ) -> LogProbs:
        with swapped_in(policy.trainable_parameters(), self._weights):
            return likelihood.log_prob(policy, batch, draw, keep_output=keep_output)

    def fingerprint(self, policy: Any) -> str:
        return self._fingerprint

    def describe(self) -> str:
        count = sum(w.numel() for w in self._weights)
        return f"reference: the policy as the run began ({count / 1e6:.1f} M weights kept beside it)"


@contextmanager
def swapped_in(parameters: list[torch.nn.Parameter], weights: list[Tensor]) -> Iterator[None]:
    """The parameters' storage is exchanged and exchanged back, so a graph that waits for its backward pass stays valid
    (a copy into the parameters would change what the graph has saved)."""
    now = [p.data for p in parameters]
    for parameter, weight in zip(parameters, weights, strict=True):
        parameter.data = weight
    try:
        yield
    finally:
        for parameter, weight in zip(parameters, now, strict=True):
            parameter.data = weight
