"""A copy of the denoiser as it was at the start; everything else is shared with the policy."""

from __future__ import annotations

from typing import Any, final

import torch

from penchant.references.base import Referable, ReferenceModel
from penchant.types import CandidateBatch, Draw, Likelihood, LogProbs


@final
class Frozen(ReferenceModel):
    """Made from the policy *before* any step or any restored checkpoint changes it."""

    def __init__(self, policy: Referable) -> None:
        self.model = policy.frozen_copy()
        self._fingerprint: str | None = None

    @torch.no_grad()
    def log_prob(
        self, likelihood: Likelihood, policy: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False
    ) -> LogProbs:
        return likelihood.log_prob(self.model, batch, draw, keep_output=keep_output)

    def fingerprint(self, policy: Any) -> str:
        if self._fingerprint is None:
            self._fingerprint = f"{self.model.fingerprint()}-{self.model.encoder_fingerprint()}"
        return self._fingerprint

    def describe(self) -> str:
        count = sum(p.numel() for p in self.model.bare.parameters())
        return f"reference: a frozen copy of the policy's denoiser ({count / 1e6:.1f} M weights in memory twice)"
