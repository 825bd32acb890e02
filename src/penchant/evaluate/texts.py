"""Texts, as a comparison sees them: `Completion`s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
from jaxtyping import Float

from penchant.evaluate.diversity import Diversity, feature_diversity
from penchant.evaluate.drift import Drift, feature_drift
from penchant.evaluate.form import TextForm, distance, lengths, text_diversity, text_form
from penchant.evaluate.medium import Medium, Shown
from penchant.evaluate.passages import Passage, TextPair
from penchant.evaluate.sheet import Sheet
from penchant.feedback.groups import Prompt
from penchant.models.spec import Policy


@final
class Texts(Medium):
    """Drift and diversity in the features of a judge, in words without one."""

    exhibits = 12

    def judged(self, sheet: Sheet) -> Sequence[str]:
        """The answers as plain texts, whatever they were made to begin with included."""
        openings = [prompt.opening for prompt in sheet.prompts for _ in range(sheet.seeds)]
        return [opening + sample.text for opening, sample in zip(openings, sheet.samples, strict=True)]

    def diversity(self, sheet: Sheet, eye: Any) -> Diversity | None:
        """Of the eye's features, or of words."""
        if sheet.seeds < 2:
            return None
        if eye is None:
            return text_diversity(self.judged(sheet), seeds=sheet.seeds)
        return feature_diversity(eye.features(self.judged(sheet)).reshape(*sheet.shape, -1))

    def drift(self, policy: Sheet, base: Sheet, eye: Any) -> Drift:
        """Cosine distance of the eye's features, or distance of words."""
        after, before = self.judged(policy), self.judged(base)
        if eye is None:
            return Drift(word_distance=float(np.mean([distance(a, b) for a, b in zip(after, before, strict=True)])))
        return Drift(feature_cosine=feature_drift(eye.features(after), eye.features(before)))

    def divergence(self, drift: Drift, policy: Sheet, model: Any, spec: Policy) -> Drift:
        """The KL divergence from the base, on the policy's own texts."""
        from penchant.evaluate.sequence_kl import sequence_kl

        return replace(drift, kl=sequence_kl(policy, model, spec))

    def lengths(self, policy: Sheet, base: Sheet) -> tuple[Float[np.ndarray, "P S"], Float[np.ndarray, "P S"]]:
        """Tokens, or words."""
        after, before = lengths(policy.samples, base.samples)
        return after.reshape(policy.shape), before.reshape(base.shape)

    def form(self, policy: Sheet, base: Sheet) -> TextForm:
        """Length, repetition and unfinished texts."""
        return text_form(policy.samples, base.samples, seeds=base.seeds)

    def exhibit(self, prompt: Prompt, before: Shown, after: Shown) -> TextPair:
        """Two texts."""

        def passage(shown: Shown) -> Passage:
            completion = shown.sample
            return Passage(
                text=completion.text,
                label=shown.label,
                score=shown.score,
                tokens=len(completion.tokens) or None,
                finished=completion.finished,
            )

        return TextPair(prompt=prompt, seed=0, before=passage(before), after=passage(after))
