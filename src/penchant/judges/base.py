"""What a judge is: anything that scores samples of a prompt, larger = better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, final

import numpy as np
from jaxtyping import Float

from penchant.errors import ModelError, nearest


class Judge(ABC):
    """Scores samples of prompts in one or more named dimensions.

    Orientation is settled here and nowhere else: every column is larger = better. What is published the other way
    round is turned and renamed (OpenNSFW's probability becomes `safety`).

    Attributes:
        name: what reports call it, e.g. "emoji/judge".
        version: changes when its scores do.
        dimensions: names of the columns of `score`.
        verifies: it knows the right answer. Nothing but a right one pleases it, so reports call it a verifier, also
            where it made the feedback, and ask for no win rate at equal length.
    """

    name: str
    version: str
    dimensions: tuple[str, ...]
    verifies: ClassVar[bool] = False

    @abstractmethod
    def score(self, prompts: Sequence[str], samples: Sequence[Any]) -> Float[np.ndarray, "N D"]:
        """One row a (prompt, sample), one column a dimension, larger = better."""

    def close(self) -> None:  # noqa: B027
        """Ends what was started for the judge; most start nothing."""


@final
class OneDimension(Judge):
    """One dimension of a judge that has several.

    Raises:
        ModelError: the judge has no such dimension.
    """

    def __init__(self, judge: Judge, dimension: str) -> None:
        if dimension not in judge.dimensions:
            raise ModelError(
                f"{judge.name} has no dimension '{dimension}'.", remedy=nearest(dimension, list(judge.dimensions))
            )
        self.judge, self.dimensions = judge, (dimension,)
        self.name, self.version = f"{judge.name}#{dimension}", judge.version

    def score(self, prompts: Sequence[str], samples: Sequence[Any]) -> Float[np.ndarray, "N 1"]:
        """See `Judge`."""
        column = self.judge.dimensions.index(self.dimensions[0])
        return self.judge.score(prompts, samples)[:, column : column + 1]

    def close(self) -> None:
        """Ends the judge."""
        self.judge.close()


class HasFeatures(Protocol):
    """A judge that can also say where a sample lies, for diversity and drift."""

    def features(self, samples: Sequence[Any]) -> Float[np.ndarray, "N F"]:
        """Unit feature vectors."""
