"""What a comparison of two models must know of one kind of samples: pictures, texts, clips, tunes, sounds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from penchant.evaluate.diversity import Diversity
from penchant.evaluate.drift import Drift
from penchant.evaluate.exhibits import Exhibit
from penchant.evaluate.medium_form import Form
from penchant.evaluate.sheet import Sheet
from penchant.feedback.groups import Prompt
from penchant.models.spec import Policy


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A sample to look at: whose it is, and what the judge says."""

    sample: Any
    label: str
    score: float


class Medium(ABC):
    """One modality. `eye` is a judge with `features`, or None if no judge has any."""

    exhibits: ClassVar[int]
    """How many pairs a report shows."""

    @abstractmethod
    def judged(self, sheet: Sheet) -> Sequence[Any]:
        """What judges are given of the samples."""

    @abstractmethod
    def diversity(self, sheet: Sheet, eye: Any) -> Diversity | None:
        """Distance between the seeds of a prompt; None with one seed."""

    @abstractmethod
    def drift(self, policy: Sheet, base: Sheet, eye: Any) -> Drift:
        """Distance between the two models' samples at equal prompts and seeds."""

    @abstractmethod
    def divergence(self, drift: Drift, policy: Sheet, model: Any, spec: Policy) -> Drift:
        """The drift with what the policy's `model` says of its samples beside its base, described by `spec`."""

    @abstractmethod
    def lengths(self, policy: Sheet, base: Sheet) -> tuple[Float[np.ndarray, "P S"], Float[np.ndarray, "P S"]] | None:
        """Lengths of both models' samples, where samples have different ones: judges favour the longer."""

    @abstractmethod
    def form(self, policy: Sheet, base: Sheet) -> Form | None:
        """Outward form of texts and music, motion of clips, beside the base's; None for other samples."""

    @abstractmethod
    def exhibit(self, prompt: Prompt, before: Shown, after: Shown) -> Exhibit:
        """The first seed of a prompt, base and policy side by side."""
