"""Where the groups of a run come from: preferences that are there, or rollouts of the policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from penchant.errors import FeedbackError
from penchant.feedback.groups import Prompt
from penchant.recipe import Preferences, Recipe, Rollouts
from penchant.train.loop import Data

Say = Callable[[str], None]


class Source(Protocol):
    """Where groups come from.

    Attributes:
        reading: the reading report and the selection report; None where nothing was read.
    """

    @property
    def reading(self) -> tuple[Any, Any] | None:
        """See the attributes."""

    def asked(self) -> list[Prompt]:
        """The prompts that are trained on."""

    def data(self, model: Any, reference: Any, cache: Path, accelerator: Any, say: Say) -> Data:
        """What the loop is given; `cache` is a folder for encodings."""


def source_of(recipe: Recipe, folder: Path, say: Say) -> Source:
    """The source of a recipe; what became of its records is said and written into the run's `folder`.

    Raises:
        PenchantError: bad feedback or prompts; the message names place and remedy.
    """
    if isinstance(recipe.feedback, Rollouts):
        return _earned(recipe, recipe.feedback, say)
    return _given(recipe, recipe.feedback, folder, say)


# Preferences.


@dataclass(frozen=True, kw_only=True)
class FixedFeedback:
    """The loop's data when the feedback is a fixed set: groups by index, encoded through the cache."""

    groups: Any
    encoder: Any

    def __len__(self) -> int:
        return len(self.groups)

    def batch(self, indices: Sequence[int]) -> Any:
        """The groups at `indices`."""
        return self.encoder.batch([self.groups[i] for i in indices])

    def before_step(self, step: int, model: Any) -> None:
        """The groups are what they are."""

    def metrics(self) -> Mapping[str, float]:
        """Nothing: the objective tells it all."""
        return {}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Nothing: which groups a step sees follows from the step."""
        return {}, {}

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Nothing was kept."""


@dataclass(frozen=True, kw_only=True)
class GivenGroups:
    """Groups that were read and selected."""

    recipe: Recipe
    selection: Any
    reading: tuple[Any, Any]

    def asked(self) -> list[Prompt]:
        """The groups' prompts."""
        return [group.group.asked() for group in self.selection]

    def data(self, model: Any, reference: Any, cache: Path, accelerator: Any, say: Say) -> Data:
        """The groups, encoded once."""
        from penchant.train.encoding import Encoder

        recipe = self.recipe
        encoder = Encoder(model, cache / "encodings.sqlite", seed=recipe.seed, flip=recipe.train.flip)
        if accelerator.is_main_process:
            encoded = encoder.prepare(self.selection.groups)
            say(f"encoded {encoded} samples and prompts, the rest was cached")
        return FixedFeedback(groups=self.selection.groups, encoder=encoder)


def _given(recipe: Recipe, spec: Preferences, folder: Path, say: Say) -> GivenGroups:
    from penchant.assets import resolve
    from penchant.feedback import read, select
    from penchant.feedback.rankings import LOGIT

    feedback = read(resolve(spec.path), layout=spec.layout, limit=spec.limit, max_bad=spec.max_bad)
    if spec.split is not None:
        feedback = feedback.split(spec.split)
    selection = select(
        feedback,
        dimension=spec.dimension,
        ties=spec.ties,
        min_candidates=recipe.objective.needs.min_candidates,
        seed=recipe.seed,
        source=spec.source,
    )
    assert feedback.report is not None
    say(feedback.report.summary())
    say(selection.report.summary())
    (folder / "reading.json").write_text(feedback.report.to_json())
    (folder / "selection.json").write_text(json.dumps(asdict(selection.report), indent=1))
    if recipe.objective.needs.scores == "share":
        _require_shares(selection, spec.path, type(recipe.objective).__name__)
    if recipe.objective.needs.scores == "logit" and spec.dimension != LOGIT:
        raise FeedbackError(
            f"{type(recipe.objective).__name__} takes log strengths, and '{spec.dimension}' holds other scores.",
            file=spec.path,
            field="feedback.dimension",
            remedy=f"use '{LOGIT}', which penchant.feedback.labelled makes of votes, and penchant iterate by itself.",
        )
    if not len(selection):
        raise FeedbackError("no group is left to train on.", file=spec.path, remedy="read the reasons above.")
    return GivenGroups(recipe=recipe, selection=selection, reading=(feedback.report, selection.report))


def _require_shares(selection: Any, path: str, name: str) -> None:
    for scored in selection:
        if not all(0 <= score <= 1 for score in scored.scores):
            raise FeedbackError(
                f"{name} takes shares in [0, 1]; group {scored.group.id[:12]} has scores up to {max(scored.scores):g}.",
                file=path,
                field="feedback.dimension",
                remedy="penchant rank DATA makes shares of rewards' votes.",
            )


# Rollouts.


@dataclass(frozen=True, kw_only=True)
class EarnedGroups:
    """Groups that the policy will draw."""

    recipe: Recipe
    prompts: tuple[Prompt, ...]
    reading: None = None

    def asked(self) -> list[Prompt]:
        """All prompts that may be asked."""
        return list(self.prompts)

    def data(self, model: Any, reference: Any, cache: Path, accelerator: Any, say: Say) -> Data:
        """A collector of rollouts; nothing is drawn yet."""
        from penchant.rollouts import Collector
        from penchant.rollouts.actors import actor_of
        from penchant.rollouts.rewards import Purse

        assert isinstance(self.recipe.feedback, Rollouts)
        actor, purse = actor_of(self.recipe, model, accelerator), Purse(self.recipe.feedback)
        return Collector(self.recipe, self.prompts, actor, purse, accelerator, reference)


def _earned(recipe: Recipe, spec: Rollouts, say: Say) -> EarnedGroups:
    from penchant.rollouts.prompts import all_prompts

    prompts = all_prompts(spec.prompts)
    K, P = spec.candidates, spec.prompts_a_round
    say(f"{len(prompts)} prompts; each round asks {P} of them and draws {K} samples each")
    return EarnedGroups(recipe=recipe, prompts=tuple(prompts))
