"""VADER as a judge of texts: how positive they sound, by a word list and rules. Needs `vaderSentiment`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float

from penchant.judges.base import Judge
from penchant.judges.packages import needed, version
from penchant.judges.texts import texts


@final
class Vader(Judge):
    """The compound score of a text, in [-1, 1], whatever the prompt. English only.

    Its authors call 0.05 and above positive, -0.05 and below negative. A sum over words: long texts saturate at +-1,
    and a policy trained against it learns to pile up adjectives.
    Source: Hutto and Gilbert, "VADER", ICWSM 2014; github.com/cjhutto/vaderSentiment (MIT).
    """

    name, dimensions = "vader", ("sentiment",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: another lexicon in the format of `vader_lexicon.txt`; None is the package's own.

        Raises:
            ModelError: the package is missing, or there is no file at `path`.
        """
        package = needed("vaderSentiment.vaderSentiment", install="vaderSentiment")
        lexicon = None if path is None else Path(path).resolve()
        self.version = version("vaderSentiment", lexicon)
        # A relative name would be looked for in the package's folder.
        options = {} if lexicon is None else {"lexicon_file": str(lexicon)}
        self.analyser = package.SentimentIntensityAnalyzer(**options)

    def score(self, prompts: Sequence[str], samples: Sequence[str]) -> Float[np.ndarray, "N 1"]:
        """Compound score of each text.

        Raises:
            ModelError: a sample is no text.
        """
        read = texts(samples, judge=self.name)
        return np.array([self.analyser.polarity_scores(text)["compound"] for text in read]).reshape(-1, 1)
