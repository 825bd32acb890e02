"""Tunes, as a comparison sees them: `Completion`s in the notation of `penchant.feedback.tune`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
from jaxtyping import Float

from penchant.evaluate.diversity import Diversity, feature_diversity
from penchant.evaluate.drift import Drift, feature_drift
from penchant.evaluate.medium import Medium, Shown
from penchant.evaluate.players import Player, PlayerRow, tune_player
from penchant.evaluate.sheet import Sheet
from penchant.evaluate.tune_form import (
    TuneForm,
    histogram_distance,
    pitch_class,
    tune_distance,
    tune_diversity,
    tune_form,
)
from penchant.feedback.groups import Prompt
from penchant.feedback.tune import Tune, parse
from penchant.models.completion import Completion
from penchant.models.spec import Policy


@final
class Tunes(Medium):
    """Drift and diversity in intervals, pitch classes and durations, and in the features of a judge that has any."""

    exhibits = 6

    def judged(self, sheet: Sheet) -> Sequence[Completion]:
        """The completions, whatever the tunes were made to begin with included: judges read whether one has an end."""
        openings = [prompt.opening for prompt in sheet.prompts for _ in range(sheet.seeds)]
        pairs = zip(openings, sheet.samples, strict=True)
        return [replace(sample, text=opening + sample.text) if opening else sample for opening, sample in pairs]

    def diversity(self, sheet: Sheet, eye: Any) -> Diversity | None:
        """Of the eye's features, or of runs of intervals."""
        if sheet.seeds < 2:
            return None
        if eye is None:
            return tune_diversity(self._tunes(sheet), seeds=sheet.seeds)
        return feature_diversity(eye.features(self.judged(sheet)).reshape(*sheet.shape, -1))

    def drift(self, policy: Sheet, base: Sheet, eye: Any) -> Drift:
        """Melodic distance at equal prompts and seeds, divergence of all notes' pitch classes and durations, cosine
        distance of the eye's features."""
        after, before = self._tunes(policy), self._tunes(base)
        features = None
        if eye is not None:
            features = feature_drift(eye.features(self.judged(policy)), eye.features(self.judged(base)))
        return Drift(
            feature_cosine=features,
            tune_distance=float(np.mean([tune_distance(a, b) for a, b in zip(after, before, strict=True)])),
            pitch_classes=histogram_distance(after, before, pitch_class),
            durations=histogram_distance(after, before, lambda note: note.ticks),
        )

    def divergence(self, drift: Drift, policy: Sheet, model: Any, spec: Policy) -> Drift:
        """The KL divergence from the base, on the policy's own tunes."""
        from penchant.evaluate.sequence_kl import sequence_kl

        return replace(drift, kl=sequence_kl(policy, model, spec))

    def lengths(self, policy: Sheet, base: Sheet) -> tuple[Float[np.ndarray, "P S"], Float[np.ndarray, "P S"]]:
        """Notes."""

        def notes(sheet: Sheet) -> np.ndarray:
            return np.array([float(len(tune.notes)) for tune in self._tunes(sheet)]).reshape(sheet.shape)

        return notes(policy), notes(base)

    def form(self, policy: Sheet, base: Sheet) -> TuneForm:
        """Length, variety, entropy and missing ends."""
        return tune_form(self.judged(policy), self.judged(base), seeds=base.seeds)

    def exhibit(self, prompt: Prompt, before: Shown, after: Shown) -> PlayerRow:
        """Two tunes: players and piano rolls."""
        return PlayerRow.of(prompt.text, 0, [self.player(prompt, shown) for shown in (before, after)])

    def player(self, prompt: Prompt, shown: Shown, *, seconds: float | None = None) -> Player:
        """One tune, of which `seconds` are played; see `penchant.evaluate.players.tune_player`."""
        return tune_player(
            prompt.opening + shown.sample.text,
            prompt.text,
            label=shown.label,
            score=shown.score,
            finished=shown.sample.finished,
            seconds=seconds,
        )

    def _tunes(self, sheet: Sheet) -> list[Tune]:
        return [parse(sample.text) for sample in self.judged(sheet)]
