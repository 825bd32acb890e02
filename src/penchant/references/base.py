"""What the loop asks of a reference, and what a reference asks of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol, Self

from torch.nn import Parameter

from penchant.types import CandidateBatch, Draw, Likelihood, LogProbs


class Referable(Protocol):
    """The part of a model that references use; the adapters in `penchant.models` have it."""

    bare: Any
    has_adapters: bool

    def trainable_parameters(self) -> list[Parameter]:
        """The weights that train."""

    def frozen_copy(self) -> Self:
        """The model as it stands, with a trainable part of its own that never trains."""

    def fingerprint(self, *, adapters: bool = True) -> str:
        """Name of the weights, with or without the adapter."""

    def encoder_fingerprint(self) -> str:
        """Name of what turns media and prompts into the tensors of a batch."""


class ReferenceModel(ABC):
    """A frozen model to compare the policy with."""

    @abstractmethod
    def log_prob(
        self, likelihood: Likelihood, policy: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False
    ) -> LogProbs:
        """Log-probs of every candidate under the reference, without gradient; B x K x T like the policy's.

        Args:
            likelihood: the likelihood that also scores the policy.
            policy: the loaded policy, whose weights or parts the reference may borrow.
            batch: groups of candidates.
            draw: the very draw that the policy is scored on.
            keep_output: keep the model's predictions, for objectives that need a divergence.
        """

    @abstractmethod
    def fingerprint(self, policy: Any) -> str:
        """Name of everything in the model that decides these log-probs; constant through training."""

    @abstractmethod
    def describe(self) -> str:
        """One line that the loop prints at the start."""
