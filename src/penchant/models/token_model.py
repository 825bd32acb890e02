"""`TokenModel`: what the models of the autoregressive likelihood have in common, be their tokens words or codes.

A subclass brings the module that scores, the layers that an adapter takes, and everything about texts, sounds and
generation.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.feedback.groups import Prompt
from penchant.models import lora
from penchant.models.fingerprint import base_weights, fingerprint
from penchant.models.spec import Policy
from penchant.types import LanguageModel


class TokenModel(LanguageModel):
    """A loaded model of tokens.

    Attributes:
        bare: the transformers model that trains.
        module: what scoring calls, or the distributed wrapper that a loop puts around it.
        tokenizer: of the prompts.
        spec: the `Policy` it was loaded from.
        compute_dtype: what it computes in.
        has_adapters: whether a LoRA adapter trains.
    """

    def __init__(self, bare: Any, tokenizer: Any, spec: Policy) -> None:
        self.bare, self.tokenizer, self.spec = bare, tokenizer, spec
        self.compute_dtype: torch.dtype = getattr(torch, spec.dtype)
        self.has_adapters = False
        self.module: nn.Module = self._scoring_of(bare)

    @abstractmethod
    def _scoring_of(self, bare: Any) -> nn.Module:
        """The module that scores with `bare`; its attribute `value` is the value network or None."""

    @abstractmethod
    def _value_of(self, bare: Any) -> nn.Module:
        """A value network on a copy of the trunk of `bare`. Raises ModelError for a model that none can copy."""

    @abstractmethod
    def _lora_targets(self) -> Sequence[str]:
        """Last names of the layers that an adapter takes where none are named."""

    @abstractmethod
    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Tokens of what comes before the candidate."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.bare.parameters()).device

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast when float32 weights train in a lower type; otherwise nothing."""
        if self.has_adapters or self.compute_dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute_dtype)

    def encode_asked(self, prompts: Sequence[Prompt]) -> list[dict[str, Tensor]]:
        """What a batch holds of each prompt: "prompt" [P] and "prompt_length" []."""
        rows = [self.prompt_tokens(prompt) for prompt in prompts]
        return [{"prompt": torch.tensor(ids), "prompt_length": torch.tensor(len(ids))} for ids in rows]

    # --- what trains --------------------------------------------------------------------------------------------------

    def scoring(self) -> Any:
        """The scoring module without the wrapper that a loop may have put around it."""
        module: Any = self.module
        return getattr(module, "module", module)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The weights that train, all in float32: the adapter's, or every weight, and the value network's."""
        return [p for p in self.scoring().parameters() if p.requires_grad]

    def add_lora(
        self, rank: int, *, alpha: float | None = None, targets: Sequence[str] | None = None, seed: int = 0
    ) -> None:
        """Freezes the model and trains a LoRA adapter; without `targets` in every linear layer but the heads."""
        if self.has_adapters:
            raise ModelError("the model already has an adapter.", field="lora")
        self.bare.to(self.compute_dtype)
        lora.add(self.bare, rank=rank, alpha=alpha, targets=tuple(targets or self._lora_targets()), seed=seed)
        self.has_adapters = True

    def load_lora(self, folder: str | Path) -> None:
        """Freezes the model and continues from the adapter saved in `folder`."""
        self.bare.to(self.compute_dtype)
        lora.load_peft(self.bare, str(folder))
        self.has_adapters = True

    def add_value(self) -> None:
        """Puts a value network beside the policy, a copy of its trunk that trains with it.

        Raises:
            ModelError: the policy trains an adapter, or is of a kind that no value network copies.
        """
        if self.has_adapters:
            raise ModelError(
                "a value network copies a trunk that trains in full.",
                field="objective",
                remedy="use rloo or grpo, which need none, or lora=0.",
            )
        self.scoring().value = self._value_of(self.bare).to(self.device)

    @property
    def value(self) -> nn.Module | None:
        """The value network, if there is one."""
        return self.scoring().value

    def frozen_copy(self) -> Self:
        """The model as it now stands, with trained parts of its own that never train again; the rest is shared."""
        twin = copy.copy(self)
        twin.bare = copy.deepcopy(self.bare).eval().requires_grad_(False)
        twin.module = self._scoring_of(twin.bare)
        return twin

    # --- names --------------------------------------------------------------------------------------------------------

    def fingerprint(self, *, adapters: bool = True) -> str:
        """Name of the weights and of what else is part of the policy; with `adapters=False` of the base alone."""
        named = dict(self.bare.state_dict() if adapters else base_weights(self.bare))
        scales = lora.scales(self.bare) if adapters else ()
        return fingerprint(named.items(), type(self).__name__, self.compute_dtype, *self._settings(), *scales)

    def _settings(self) -> tuple[Hashable, ...]:
        """What is part of the policy beside its weights."""
        return ()

    def _words(self) -> str:
        """Everything that the tokenizer does, as text."""
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        return fast.to_str() if fast is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)


def digest(text: str) -> str:
    """A short name for a long text."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
