"""A picture classifier as a judge: the probability of one of its labels, whatever the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from penchant.errors import ModelError, nearest
from penchant.judges.base import Judge
from penchant.judges.dual_encoder import to_pixels


@final
class Classifier(Judge):
    """Probability of each label of a transformers image classifier; its labels are the dimensions."""

    def __init__(self, folder: Path, *, name: str, side: int = 48) -> None:
        import transformers

        self.name, self.version, self.side = name, "1", side
        loader = transformers.AutoModelForImageClassification
        self.model: Any = loader.from_pretrained(folder, dtype=torch.float32).eval()
        self.dimensions = tuple(str(label) for label in self.model.config.id2label.values())

    @torch.no_grad()
    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        """Label probabilities."""
        chunks = [to_pixels(samples[i : i + 64], self.side) for i in range(0, len(samples), 64)]
        return torch.cat([self.model(chunk).logits.softmax(-1) for chunk in chunks]).numpy()


@final
class Label(Judge):
    """One label of a classifier as a judge of its own."""

    def __init__(self, classifier: Classifier, label: str) -> None:
        if label not in classifier.dimensions:
            raise ModelError(f"{classifier.name} knows no '{label}'.", remedy=nearest(label, classifier.dimensions))
        self.classifier, self.column = classifier, classifier.dimensions.index(label)
        self.name, self.version, self.dimensions = f"{classifier.name}:{label}", classifier.version, (label,)

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Probability of the label."""
        return self.classifier.score(prompts, samples)[:, [self.column]]
