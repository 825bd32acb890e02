"""`RewardRecipe`: the training of a reward model, whole, as one frozen object."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from penchant.errors import RecipeError
from penchant.recipe import Training
from penchant.reward_models.losses import RewardLoss
from penchant.reward_models.network import BackboneSpec, Dimension, Pooling


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Which annotated pairs to learn from.

    Attributes:
        path: file, folder or store that `penchant.read` reads, or `zoo:NAME`.
        layout: insist on a layout instead of recognising it.
        source: use judgements of this source only (a prefix, e.g. "human").
        limit: read at most so many rows.
        max_bad: the largest share of refused rows that is accepted.
        validation: share of the prompts that is held out where the feedback names no split "validation". It gives the
            constants of normalisation and the threshold of ties.
    """

    path: str
    layout: str | None = None
    source: str | None = None
    limit: int | None = None
    max_bad: float = 1.0
    validation: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise RecipeError(
                f"a share of {self.validation} leaves no prompt to one side.",
                field="feedback.validation",
                remedy="use a number between 0 and 1, such as 0.1.",
            )


@dataclass(frozen=True, kw_only=True)
class RewardRecipe:
    """A reward model to be trained: on what, in which dimensions, with which loss and network.

    Attributes:
        name: name of the run.
        feedback: the annotated pairs.
        dimensions: what is judged, by the names in the feedback; each says whether it may see the prompt.
        loss: what is minimised.
        backbone: what looks at samples and prompts.
        pooling: "special" reads each dimension at a token of its own; "last" reads all at the last token and "mean" at
            the mean of all, and there every dimension sees the prompt.
        units: of the judge's scores: "deviation" brings each dimension to mean 0 and deviation 1 on the validation
            pairs; "natural" keeps the rating that a regression tells, the cosine of a comparison, the log-odds of a
            Bradley-Terry model.
        train: how to optimise; `batch_size` counts pairs.
        seed: key of every draw.
        out: run folder; None means `runs/<date>-<name>`.
        cache: folder of encoded samples, for backbones that encode; None means `cache` in the run folder's parent.
        threads: CPU threads; None leaves PyTorch's choice.
        cite: keys of papers that no part names (`penchant.bibliography`).
    """

    name: str
    feedback: Annotations
    dimensions: tuple[Dimension, ...]
    loss: RewardLoss
    backbone: BackboneSpec
    pooling: Pooling = "special"
    units: Literal["deviation", "natural"] = "deviation"
    train: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    seed: int = 0
    out: str | None = None
    cache: str | None = None
    threads: int | None = None
    cite: Annotated[tuple[str, ...], tyro.conf.Suppress] = ("liu2025videoalign", "deutsch2023ties")

    def __post_init__(self) -> None:
        names = Counter(dimension.name for dimension in self.dimensions)
        if not names:
            raise RecipeError("nothing is judged.", field="dimensions", remedy="name at least one dimension.")
        if twice := [name for name, count in names.items() if count > 1]:
            raise RecipeError(
                f"'{twice[0]}' names two dimensions.", field="dimensions", remedy="give each its own name."
            )
        if self.train.by_candidate:
            raise RecipeError(
                "a pair's two samples are compared in one pass.",
                field="by_candidate",
                remedy="set micro_batch to 1 for the least memory.",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions' names."""
        return tuple(dimension.name for dimension in self.dimensions)

    def folder(self) -> Path:
        """Where everything lies."""
        import datetime

        return Path(self.out or f"runs/{datetime.date.today():%Y-%m-%d}-{self.name}")
