"""Who draws: one actor for each kind of likelihood. It hands over exactly what that likelihood will score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

from penchant.errors import RecipeError
from penchant.feedback.groups import Prompt
from penchant.likelihoods.denoising_path import DenoisingPath
from penchant.likelihoods.randomness import generator
from penchant.recipe import Recipe, Rollouts
from penchant.rollouts.texts import text_rollout
from penchant.types import Rollout


class Actor(Protocol):
    """Draws samples of a policy."""

    def draw(self, model: Any, prompts: Sequence[Prompt], seeds: Sequence[int], *, round: int) -> list[Rollout]:
        """One rollout a (prompt, seed), in their order; a row depends on its prompt, seed and round alone."""


@final
@dataclass(frozen=True, kw_only=True)
class TextActor:
    """Completions of a language model: the tokens that were drawn, and their log-probs at the sampling temperature."""

    feedback: Rollouts

    def draw(self, model: Any, prompts: Sequence[Prompt], seeds: Sequence[int], *, round: int) -> list[Rollout]:
        """See `Actor`."""
        drawn = model.complete(prompts, seeds=seeds, decoding=self.feedback.decoding)
        return [text_rollout(prompt, completion, model) for prompt, completion in zip(prompts, drawn, strict=True)]


@final
@dataclass(frozen=True, kw_only=True)
class SoundActor:
    """Codes of a music model, of a fixed length."""

    feedback: Rollouts

    def draw(self, model: Any, prompts: Sequence[Prompt], seeds: Sequence[int], *, round: int) -> list[Rollout]:
        """See `Actor`."""
        return model.rollouts(prompts, seeds=seeds, decoding=self.feedback.decoding)


@final
@dataclass(frozen=True, kw_only=True)
class PathActor:
    """Denoising paths: the transitions that train, and the sample at their end."""

    likelihood: DenoisingPath
    feedback: Rollouts
    seed: int

    def draw(self, model: Any, prompts: Sequence[Prompt], seeds: Sequence[int], *, round: int) -> list[Rollout]:
        """See `Actor`; which steps have noise is the same for a whole round."""
        from penchant.sampling.paths import draw_paths

        starts = None
        if self.feedback.share_start:
            starts = [int(generator(self.seed, round, p.text, "start").integers(2**31)) for p in prompts]
        return draw_paths(
            model,
            [prompt.text for prompt in prompts],
            seeds,
            self.likelihood,
            plan=self.likelihood.plan(seed=self.seed, collection=round),
            start_seeds=starts,
            batch_size=self.feedback.batch_size,
        )


@final
@dataclass(frozen=True, kw_only=True)
class LatentActor:
    """Samples of a denoising model along its ODE, for likelihoods that are bounds: they have no behavior log-probs."""

    feedback: Rollouts

    def draw(self, model: Any, prompts: Sequence[Prompt], seeds: Sequence[int], *, round: int) -> list[Rollout]:
        """See `Actor`."""
        from penchant.sampling.paths import draw_latents

        return draw_latents(
            model,
            [prompt.text for prompt in prompts],
            seeds,
            steps=self.feedback.steps,
            guidance=self.feedback.guidance,
            batch_size=self.feedback.batch_size,
        )


def actor_of(recipe: Recipe, model: Any, accelerator: Any) -> Actor:
    """The actor of a recipe's likelihood and model.

    Raises:
        RecipeError: the model cannot be drawn from as the likelihood wants.
    """
    feedback, likelihood = recipe.feedback, recipe.likelihood
    assert isinstance(feedback, Rollouts)
    if isinstance(likelihood, DenoisingPath):
        return PathActor(likelihood=likelihood, feedback=feedback, seed=recipe.seed)
    if likelihood.density == "bound":
        return LatentActor(feedback=feedback)
    if getattr(model, "modality", None) == "sound":
        return SoundActor(feedback=feedback)
    if feedback.server is not None:
        from penchant.rollouts.serving import ServerActor

        return ServerActor(feedback.server, feedback.decoding, recipe.policy, accelerator)
    if not hasattr(model, "complete"):
        raise RecipeError("draws no texts.", file=recipe.policy.path, field="likelihood", remedy="use DenoisingPath().")
    return TextActor(feedback=feedback)
