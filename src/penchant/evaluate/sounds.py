"""Sounds, as a comparison sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from penchant.evaluate.diversity import Diversity, feature_diversity
from penchant.evaluate.drift import Drift, feature_drift
from penchant.evaluate.medium import Medium, Shown
from penchant.evaluate.players import Player, PlayerRow, sound_player
from penchant.evaluate.sheet import Sheet
from penchant.evaluate.sound_form import SoundForm, sound_form, spectral_distance
from penchant.feedback.groups import Prompt
from penchant.feedback.sound import Sound
from penchant.models.spec import Policy


@final
class Sounds(Medium):
    """Drift and diversity in the levels of bands, or in features where a judge has any."""

    exhibits = 6

    def judged(self, sheet: Sheet) -> Sequence[Sound]:
        """The sounds."""
        return sheet.samples

    def diversity(self, sheet: Sheet, eye: Any) -> Diversity | None:
        """Of the eye's features, or in dB of bands: the mean over pairs of a prompt's sounds."""
        if sheet.seeds < 2:
            return None
        if eye is not None:
            return feature_diversity(eye.features(sheet.samples).reshape(*sheet.shape, -1))
        prompts, seeds = sheet.shape
        rows = [sheet.samples[p * seeds : (p + 1) * seeds] for p in range(prompts)]
        found = [np.mean([spectral_distance(r[i], r[j]) for i in range(seeds) for j in range(i)]) for r in rows]
        return Diversity(value=float(np.mean(found)), space="dB of bands", prompts=prompts, seeds=seeds)

    def drift(self, policy: Sheet, base: Sheet, eye: Any) -> Drift:
        """Difference in dB of the bands' levels, cosine distance of the eye's features."""
        pairs = zip(policy.samples, base.samples, strict=True)
        features = None
        if eye is not None:
            features = feature_drift(eye.features(policy.samples), eye.features(base.samples))
        return Drift(
            feature_cosine=features,
            spectrum_db=float(np.mean([spectral_distance(after, before) for after, before in pairs])),
        )

    def divergence(self, drift: Drift, policy: Sheet, model: Any, spec: Policy) -> Drift:
        """Nothing: a sound does not carry the tokens, or the path, that made it."""
        return drift

    def lengths(self, policy: Sheet, base: Sheet) -> None:
        """Sounds of a model are all of one length; where they are not, their form says so."""

    def form(self, policy: Sheet, base: Sheet) -> SoundForm:
        """Duration, loudness and brightness."""
        return sound_form(policy.samples, base.samples, seeds=base.seeds)

    def exhibit(self, prompt: Prompt, before: Shown, after: Shown) -> PlayerRow:
        """Two sounds: players, waves and spectrograms."""
        return PlayerRow.of(prompt.text, 0, [self.player(prompt, shown) for shown in (before, after)])

    def player(self, prompt: Prompt, shown: Shown, *, seconds: float | None = None) -> Player:
        """One sound, of which `seconds` are played."""
        return sound_player(shown.sample, label=shown.label, score=shown.score, seconds=seconds)
