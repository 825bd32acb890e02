"""Pictures, as a comparison sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from penchant.evaluate.diversity import Diversity, feature_diversity
from penchant.evaluate.drift import Drift, measure_drift
from penchant.evaluate.exhibits import ImagePair, Picture
from penchant.evaluate.medium import Medium, Shown
from penchant.evaluate.sheet import Sheet
from penchant.feedback.groups import Prompt
from penchant.models.spec import Policy


@final
class Pictures(Medium):
    """Drift in pixels and in features; diversity in features alone."""

    exhibits = 24

    def judged(self, sheet: Sheet) -> Sequence[Any]:
        """The pictures."""
        return sheet.samples

    def diversity(self, sheet: Sheet, eye: Any) -> Diversity | None:
        """Of the eye's features; None without an eye."""
        if sheet.seeds < 2 or eye is None:
            return None
        return feature_diversity(eye.features(sheet.samples).reshape(*sheet.shape, -1))

    def drift(self, policy: Sheet, base: Sheet, eye: Any) -> Drift:
        """Mean squared error of pixels, cosine distance of the eye's features."""

        def pixels(sheet: Sheet) -> np.ndarray:
            stacked = np.stack([np.asarray(i, dtype=np.uint8) for i in sheet.samples])
            return stacked.reshape(*base.shape, *stacked.shape[1:])

        def points(sheet: Sheet) -> np.ndarray:
            return eye.features(sheet.samples).reshape(*base.shape, -1)

        features = None if eye is None else (points(policy), points(base))
        return measure_drift(pixels=(pixels(policy), pixels(base)), features=features)

    def divergence(self, drift: Drift, policy: Sheet, model: Any, spec: Policy) -> Drift:
        """Nothing: a denoising bound is no log-prob of a sample."""
        return drift

    def lengths(self, policy: Sheet, base: Sheet) -> None:
        """Pictures of a model are all of one size."""

    def form(self, policy: Sheet, base: Sheet) -> None:
        """Pictures have no length and do not break off."""

    def exhibit(self, prompt: Prompt, before: Shown, after: Shown) -> ImagePair:
        """Two pictures."""

        def picture(shown: Shown) -> Picture:
            return Picture(image=shown.sample, label=shown.label, score=shown.score)

        return ImagePair(prompt=prompt.text, seed=0, before=picture(before), after=picture(after))
