"""`Reference`, the description of what the policy is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from penchant.errors import RecipeError, nearest
from penchant.references.adapter_off import AdapterOff
from penchant.references.base import Referable, ReferenceModel
from penchant.references.cached import Cached
from penchant.references.frozen import Frozen
from penchant.references.round import RoundStart
from penchant.references.start import Start

KINDS = ("auto", "adapter_off", "frozen", "start", "round")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """How the frozen reference is held.

    Attributes:
        kind: "adapter_off" switches a LoRA policy's adapter off; "frozen" copies the model; "auto" takes the first
            where there is an adapter and the second where there is none. "start" is the policy as the run began,
            adapter and all: the last iterate, when the run continues another. "round" is the policy that drew the
            current round of rollouts.
        lag: of "round": how much of the older ones stays in it when a round begins; 0 for none.
        cache: SQLite file that keeps log-probs between runs; None for none.
    """

    kind: Literal["auto", "adapter_off", "frozen", "start", "round"] = "auto"
    lag: float = 0.0
    cache: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RecipeError(
                f"unknown reference '{self.kind}'.", field="reference.kind", remedy=nearest(self.kind, KINDS)
            )

        if not 0 <= self.lag < 1 or (self.lag and self.kind != "round"):
            raise RecipeError("a lag lies in [0, 1), of rounds alone.", field="reference.lag", remedy="use 0.")
        if self.kind == "round" and self.cache is not None:
            raise RecipeError("each round's reference is another one.", field="reference.cache", remedy="leave it out.")

    def build(self, policy: Referable) -> ReferenceModel:
        """The reference of a loaded policy; call it before training, or a checkpoint, changes the policy.

        Raises:
            RecipeError: "adapter_off" for a policy that has no adapter.
        """
        if self.kind == "adapter_off" and not policy.has_adapters:
            raise RecipeError(
                "a policy without an adapter has none to switch off.",
                field="reference.kind",
                remedy="use kind='frozen', or give the policy a LoRA rank.",
            )
        if self.kind == "round":
            return RoundStart(policy, self.lag)
        if self.kind == "start":
            return self._kept(Start(policy))
        off = policy.has_adapters and self.kind != "frozen"
        return self._kept(AdapterOff() if off else Frozen(policy))

    def _kept(self, inner: ReferenceModel) -> ReferenceModel:
        return inner if self.cache is None else Cached(inner, self.cache)
