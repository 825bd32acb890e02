"""Clips, as a comparison sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from penchant.evaluate.clip_form import ClipForm, clip_form
from penchant.evaluate.diversity import Diversity, feature_diversity, pixel_diversity
from penchant.evaluate.drift import Drift, feature_drift, pixel_drift
from penchant.evaluate.medium import Medium, Shown
from penchant.evaluate.reels import ClipPair, Film
from penchant.evaluate.sheet import Sheet
from penchant.feedback.clip import Clip
from penchant.feedback.groups import Prompt
from penchant.models.spec import Policy


@final
class Clips(Medium):
    """Drift and diversity in pixels of all frames, or in features where a judge has any."""

    exhibits = 12

    def judged(self, sheet: Sheet) -> Sequence[Clip]:
        """The clips."""
        return sheet.samples

    def diversity(self, sheet: Sheet, eye: Any) -> Diversity | None:
        """Of the eye's features, or of pixels."""
        if sheet.seeds < 2:
            return None
        if eye is not None:
            return feature_diversity(eye.features(sheet.samples).reshape(*sheet.shape, -1))
        # One prompt at a time: the clips of a whole sheet may not fit beside a model.
        prompts, seeds = sheet.shape
        rows = [sheet.samples[i * seeds : (i + 1) * seeds] for i in range(prompts)]
        values = [pixel_diversity(np.stack([clip.frames for clip in row])[None]).value for row in rows]
        return Diversity(value=float(np.mean(values)), space="pixels", prompts=prompts, seeds=seeds)

    def drift(self, policy: Sheet, base: Sheet, eye: Any) -> Drift:
        """Mean squared error of the pixels of all frames, cosine distance of the eye's features."""
        pairs = zip(policy.samples, base.samples, strict=True)
        pixels = float(np.mean([pixel_drift(after.frames[None], before.frames[None]) for after, before in pairs]))
        if eye is None:
            return Drift(pixel_mse=pixels)
        cosine = feature_drift(eye.features(policy.samples), eye.features(base.samples))
        return Drift(pixel_mse=pixels, feature_cosine=cosine)

    def divergence(self, drift: Drift, policy: Sheet, model: Any, spec: Policy) -> Drift:
        """Nothing: a denoising bound is no log-prob of a sample."""
        return drift

    def lengths(self, policy: Sheet, base: Sheet) -> None:
        """Clips of a model are all of one length."""

    def form(self, policy: Sheet, base: Sheet) -> ClipForm:
        """Dynamic degree, smoothness and steadiness."""
        return clip_form(policy.samples, base.samples, seeds=base.seeds)

    def exhibit(self, prompt: Prompt, before: Shown, after: Shown) -> ClipPair:
        """Two clips that play in step."""

        def film(shown: Shown) -> Film:
            return Film(clip=shown.sample, label=shown.label, score=shown.score)

        return ClipPair(prompt=prompt.text, seed=0, before=film(before), after=film(after))
