"""A sheet: samples of one model at the prompts and seeds at which another one's are drawn as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from penchant.evaluate.evidence import Captions
from penchant.feedback.groups import Prompt
from penchant.sampling.samplers import Modality


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Samples of P prompts x S seeds of one model; `samples` runs prompt by prompt.

    `captions` says whether the prompts were seen in training, `modality` what the samples are. `scores` are what judges
    said of the samples by their addresses, [N, D], once they were asked.
    """

    captions: Captions
    prompts: tuple[Prompt, ...]
    seeds: int
    samples: tuple[Any, ...]
    modality: Modality = "picture"
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, S)."""
        return len(self.prompts), self.seeds

    def rows(self) -> list[str]:
        """The prompt of every sample, as plain text: what judges are told."""
        return [prompt.text for prompt in self.prompts for _ in range(self.seeds)]
