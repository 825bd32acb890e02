"""The base under a LoRA policy is its own reference: switch the adapter off, score, switch it on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch

from penchant.references.base import Referable, ReferenceModel
from penchant.types import CandidateBatch, Draw, Likelihood, LogProbs


@contextmanager
def adapters_off(module: Any) -> Iterator[None]:
    """Run `module` (a diffusers or transformers model with peft adapters) as if it had none.

    peft drops `requires_grad` of an adapter that it disables and forces it when it enables one; what was set before is
    put back, so that an adapter frozen on purpose stays frozen.
    """
    trained = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    module.disable_adapters()
    try:
        yield
    finally:
        module.enable_adapters()
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)


@final
class AdapterOff(ReferenceModel):
    """The policy with its adapter switched off: no second copy, no memory."""

    def __init__(self) -> None:
        self._fingerprint: str | None = None

    @torch.no_grad()
    def log_prob(
        self, likelihood: Likelihood, policy: Referable, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False
    ) -> LogProbs:
        with adapters_off(policy.bare):
            return likelihood.log_prob(policy, batch, draw, keep_output=keep_output)

    def fingerprint(self, policy: Referable) -> str:
        # The base does not train, so it is named once and the adapter is left out: runs of any rank share a cache.
        if self._fingerprint is None:
            self._fingerprint = f"{policy.fingerprint(adapters=False)}-{policy.encoder_fingerprint()}"
        return self._fingerprint

    def describe(self) -> str:
        return "reference: the policy with its adapter off (no second copy)"
