"""Samplers: a model with its settings, ready to draw. What is drawn, and how it is kept, is theirs to know.

Models of different modalities are asked in different words (steps and guidance, or how tokens are drawn); behind a
sampler they all answer to (prompt, seed). A further modality is one more sampler here with its codec.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, final

from penchant.feedback.groups import Prompt
from penchant.models.completion import Completion, Decoding, TextGenerator
from penchant.models.music_decoding import MusicDecoding
from penchant.sampling.codecs import ClipCodec, Codec, PictureCodec, SoundCodec, TextCodec
from penchant.types import LanguageModel

if TYPE_CHECKING:
    from penchant.recipe import Evaluation

Modality = Literal["picture", "text", "clip", "tune", "sound"]


class Sampler(Protocol):
    """Draws one sample a (prompt, seed).

    Attributes:
        modality: what it draws.
        codec: how its samples are kept.
        batch_size: samples drawn, and kept, at a time.
    """

    modality: ClassVar[Modality]
    codec: ClassVar[Codec]

    @property
    def batch_size(self) -> int:
        """Samples drawn, and kept, at a time."""

    def name(self) -> str:
        """Everything but prompt and seed that a sample depends on: weights, encoders, sampler, settings."""

    def key(self, prompt: Prompt) -> str:
        """Everything of a prompt that a sample depends on."""

    def draw(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Any]:
        """One sample a (prompt, seed), in their order."""


@dataclass(frozen=True, kw_only=True)
class PipelineSampler:
    """Samples of a `PipelineModel`; a subclass says of which modality, and how they are kept."""

    model: Any
    steps: int
    guidance: float
    batch_size: int = 16

    def name(self) -> str:
        """Weights, encoders with the size of samples, scheduler, steps and guidance."""
        model = self.model
        return f"{model.fingerprint()}-{model.encoder_fingerprint()}-{model.sampler()}-{self.steps}-{self.guidance}"

    def key(self, prompt: Prompt) -> str:
        """These models read plain text."""
        return prompt.text

    def draw(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Any]:
        """One sample a (prompt, seed)."""
        return self.model.generate(
            [prompt.text for prompt in prompts],
            seeds=list(seeds),
            steps=self.steps,
            guidance=self.guidance,
            batch_size=self.batch_size,
        )


@final
@dataclass(frozen=True, kw_only=True)
class PictureSampler(PipelineSampler):
    """Pictures of an `ImageModel`."""

    modality: ClassVar[Modality] = "picture"
    codec: ClassVar[Codec] = PictureCodec()


@final
@dataclass(frozen=True, kw_only=True)
class ClipSampler(PipelineSampler):
    """Clips of a `VideoModel`."""

    modality: ClassVar[Modality] = "clip"
    codec: ClassVar[Codec] = ClipCodec()


@final
@dataclass(frozen=True, kw_only=True)
class SoundSampler(PipelineSampler):
    """Sounds of a `SoundModel`."""

    modality: ClassVar[Modality] = "sound"
    codec: ClassVar[Codec] = SoundCodec()


@final
@dataclass(frozen=True, kw_only=True)
class MusicSampler:
    """Sounds of a music token model, `MusicGen`."""

    modality: ClassVar[Modality] = "sound"
    codec: ClassVar[Codec] = SoundCodec()

    model: Any
    decoding: MusicDecoding
    batch_size: int = 16

    def name(self) -> str:
        """Weights, text encoder and codec, length, and how codes are drawn."""
        model = self.model
        return f"{model.fingerprint()}-{model.encoder_fingerprint()}-{model.sampler()}-{self.decoding!r}"

    def key(self, prompt: Prompt) -> str:
        """These models read plain text."""
        return prompt.text

    def draw(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Any]:
        """One sound a (prompt, seed)."""
        return self.model.generate(prompts, seeds=seeds, decoding=self.decoding)


@dataclass(frozen=True, kw_only=True)
class CompletionSampler:
    """Completions of a `CausalLM`; a subclass says what they are."""

    codec: ClassVar[Codec] = TextCodec()

    model: Any
    decoding: Decoding
    batch_size: int = 16

    def name(self) -> str:
        """Weights, tokenizer and template, and how tokens are drawn."""
        model = self.model
        return f"{model.fingerprint()}-{model.encoder_fingerprint()}-{model.sampler()}-{self.decoding!r}"

    def key(self, prompt: Prompt) -> str:
        """The text, the conversation and how the answer begins."""
        return json.dumps([prompt.text, [dict(m) for m in prompt.messages], prompt.opening], sort_keys=True)

    def draw(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Completion]:
        """One completion a (prompt, seed)."""
        return self.model.complete(prompts, seeds=seeds, decoding=self.decoding)


@final
@dataclass(frozen=True, kw_only=True)
class TextSampler(CompletionSampler):
    """Texts."""

    modality: ClassVar[Modality] = "text"


@final
@dataclass(frozen=True, kw_only=True)
class TuneSampler(CompletionSampler):
    """Tunes, in the notation of `penchant.feedback.tune`."""

    modality: ClassVar[Modality] = "tune"


_PIPELINES: dict[str, type[PictureSampler] | type[ClipSampler] | type[SoundSampler]] = {
    "picture": PictureSampler,
    "clip": ClipSampler,
    "sound": SoundSampler,
}


def sampler_of(model: Any, spec: Evaluation) -> Sampler:
    """The sampler of a loaded model with an evaluation's settings, by what the model makes."""
    if isinstance(model, TextGenerator):
        written = TuneSampler if getattr(model, "modality", None) == "tune" else TextSampler
        return written(model=model, decoding=spec.decoding or Decoding(), batch_size=spec.batch_size)
    if isinstance(model, LanguageModel):
        temperature = 1.0 if spec.decoding is None else spec.decoding.temperature
        decoding = MusicDecoding(temperature=temperature, guidance=spec.guidance)
        return MusicSampler(model=model, decoding=decoding, batch_size=spec.batch_size)
    kind = _PIPELINES.get(getattr(model, "modality", "picture"), PictureSampler)
    return kind(model=model, steps=spec.steps, guidance=spec.guidance, batch_size=spec.batch_size)
