"""A sampler that a reward steers: pictures or clips by our own solver (`ode.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from torch import Tensor

from penchant.feedback.groups import Prompt
from penchant.models.blank import blank
from penchant.sampling.codecs import ClipCodec, Codec, PictureCodec, SoundCodec
from penchant.sampling.ode import Steering, integrate, start_noise
from penchant.sampling.samplers import Modality


@final
@dataclass(frozen=True, kw_only=True)
class GuidedSampler:
    """Samples of an image or video model along its ODE, with a reward or (`steering` = None) without one.

    A model that was distilled to take a guidance scale keeps the one it was trained at, and `guidance` is left out.

    Attributes:
        model: a loaded `ImageModel` or `VideoModel`.
        steps: steps of the solver.
        guidance: scale of classifier-free guidance, 1.0 for none; the reward comes after it.
        steering: the reward and its weights.
        batch_size: samples drawn, and kept, at a time.
    """

    model: Any
    steps: int
    guidance: float
    steering: Steering | None
    batch_size: int = 16

    @property
    def modality(self) -> Modality:
        """What the model makes."""
        return self.model.modality

    @property
    def codec(self) -> Codec:
        """How its samples are kept."""
        codecs: dict[Modality, Codec] = {"clip": ClipCodec(), "sound": SoundCodec()}
        return codecs.get(self.modality, PictureCodec())

    def name(self) -> str:
        """Weights, encoders, size, steps, guidance, and the reward with its weights."""
        model = self.model
        weights = f"{model.fingerprint()}-{model.encoder_fingerprint()}-ode-{self.steps}-{self.guidance}"
        if self.steering is None:
            return weights
        return f"{weights}-{self.steering.reward.name}-{self.steering.guidance!r}"

    def key(self, prompt: Prompt) -> str:
        """These models read plain text."""
        return prompt.text

    def draw(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Any]:
        """One sample a (prompt, seed), from the noise that the stock pipeline would begin with."""
        samples: list[Any] = []
        for start in range(0, len(prompts), self.batch_size):
            rows = slice(start, start + self.batch_size)
            latents_N = self.latents([prompt.text for prompt in prompts[rows]], seeds[rows])
            samples += self.model.decode_latents(latents_N)
        return samples

    def latents(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Latents [N, ...] of one sample a (prompt, seed)."""
        model = self.model
        noise_N = start_noise(self._blank["latents"].shape[1:], seeds).to(model.device)
        micro = {
            name: value.expand(len(seeds), *value.shape[1:]) for name, value in self._blank.items() if name != "latents"
        }
        distilled = any(part.config.get("guidance_embeds", False) for part in model.denoisers().values())
        return integrate(
            model,
            noise_N,
            model.encode_prompts(list(prompts)),
            steps=self.steps,
            guidance=1.0 if distilled else self.guidance,
            candidates=micro,
            steering=self.steering,
        )

    @cached_property
    def _blank(self) -> dict[str, Tensor]:
        return blank(self.model)
