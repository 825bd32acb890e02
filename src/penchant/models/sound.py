"""`SoundModel`: what every audio pipeline of diffusers is to the rest of the house.

A family is one final class in its own file. What sounds have in common stands here once, what all pipelines have in
common in `pipeline_model.py`.

Shape legend: N sounds, C channels of a latent, L latents in time, A audio channels, S samples.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.feedback.groups import Candidate
from penchant.feedback.sound import Sound
from penchant.models.latents import posterior_noise
from penchant.models.pipeline_model import PipelineModel, check_rows
from penchant.models.waves import sound_of, waveform


class SoundModel(PipelineModel):
    """A loaded text-to-audio pipeline whose denoiser trains.

    Attributes:
        seconds: length of the sounds that it is asked for: the policy's wish, else the longest.
        short: how many sounds ended earlier than that.
    """

    modality: ClassVar[str] = "sound"
    component: ClassVar[str] = "transformer"
    seconds: float
    short: int

    # What a family answers.

    @abstractmethod
    def native_samples(self) -> int:
        """Samples of the whole latent: what the denoiser was trained on, silence behind shorter sounds included."""

    @abstractmethod
    def audio(self) -> tuple[int, int]:
        """(samples a second, channels) of what the VAE reads."""

    # What all families share.

    def settle(self) -> None:
        """Set the length of sounds.

        Raises:
            ModelError: it is longer than the latents, or the policy wishes for pictures.
        """
        for name in ("resolution", "width", "frames", "fps"):
            if getattr(self.spec, name) is not None:
                raise ModelError(
                    f"{type(self).__name__} makes sounds.", field=name, remedy="leave it out, or use a video model."
                )
        longest = self.native_samples() / self.audio()[0]
        self.seconds = longest if self.spec.seconds is None else self.spec.seconds
        self.short = 0
        if self.seconds > longest:
            raise ModelError(
                f"{self.seconds:g} s are longer than its latents.", field="seconds", remedy=f"use at most {longest:g}."
            )

    @property
    def samples(self) -> int:
        """Samples of the sounds that it is asked for."""
        return int(self.seconds * self.audio()[0])

    def size_name(self) -> object:
        """The length of sounds, and of the latents that hold them."""
        return (self.seconds, self.native_samples())

    def notes(self) -> list[str]:
        """How many sounds were shorter than what is asked for."""
        if not self.short:
            return []
        return [f"{self.short} sounds were shorter than {self.seconds:g} s: silence was put behind them"]

    def decode(self, candidate: Candidate) -> Sound:
        """The sound of a candidate.

        Raises:
            ModelError: it is a picture or a clip.
            MediaError: it cannot be decoded.
        """
        from penchant.feedback import audio_files

        assert candidate.media is not None
        if not audio_files.is_sound(candidate.media.bytes()):
            raise self.stranger(candidate, candidate.media.mime, "another model")
        return audio_files.sound_of(candidate)

    def encode_samples(
        self, samples: Sequence[Sound], *, ids: Sequence[str], flips: Sequence[bool], seed: int
    ) -> dict[str, Tensor]:
        """`encode_sounds`."""
        return self.encode_sounds(samples, ids=ids, flips=flips, seed=seed)

    @torch.no_grad()
    def encode_sounds(
        self, sounds: Sequence[Sound], *, ids: Sequence[str], flips: Sequence[bool] | None = None, seed: int = 0
    ) -> dict[str, Tensor]:
        """Latents of sounds, as long as the denoiser knows them: what is over `seconds` is cut, silence follows.

        A latent is a sample of the VAE's posterior whose noise is counted by (seed, id). Sounds go through the VAE one
        at a time: a latent then has the same bits in every batch, and memory asks for it anyway.

        Args:
            sounds: N sounds of any rate and number of channels.
            ids: content ids, one a sound.
            flips: whose sides to swap; a group's candidates should share it.
            seed: seed of the posterior's noise.

        Returns:
            "latents" float32 [N, C, L].
        """
        flips = [False] * len(sounds) if flips is None else flips
        check_rows("sounds", sounds, ids, flips)
        vae, latents, (rate, channels) = self.pipeline.vae, [], self.audio()
        for sound, name, flip in zip(sounds, ids, flips, strict=True):
            wave = waveform(sound, rate=rate, channels=channels)[:, : self.samples]
            # A sound of a rate that does not divide ours may miss the end by a sample or two.
            self.short += wave.shape[1] < self.samples - 2
            whole = nn.functional.pad(wave.flip(0) if flip else wave, (0, self.native_samples() - wave.shape[1]))
            posterior = vae.encode(whole[None].to(vae.device, torch.float32)).latent_dist
            noise = posterior_noise(tuple(posterior.mean.shape), seed=seed, name=name).to(vae.device)
            latents.append(posterior.mean + posterior.std * noise)
        return {"latents": torch.cat(latents)}

    @torch.no_grad()
    def decode_latents(self, latents: Float[Tensor, "N C L"]) -> list[Sound]:
        """Sounds of latents, cut to `seconds`; decoded in float32, one at a time."""
        vae, rate = self.pipeline.vae, self.audio()[0]
        waves = [vae.decode(row.to(vae.device), return_dict=False)[0][0] for row in latents.float().split(1)]
        return [sound_of(wave[:, : self.samples], rate=rate) for wave in waves]

    def size_options(self) -> dict[str, Any]:
        """Where a sound ends, in seconds."""
        return {"audio_end_in_s": self.seconds}
