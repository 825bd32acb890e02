"""Neural codecs of transformers as one small thing: a sound to codes [Kq, N] and back.

| codec | its codes | its waveform | rate of codes |
|---|---|---|---|
| EnCodec (arXiv 2210.13438) | [frames = 1, B, Kq, N] | [B, C, S] | N = ceil(S / hop) |
| DAC (arXiv 2306.06546) | [B, Kq, N], no axis of frames | [B, S], no axis of channels | S must be whole hops |

A codec is lossy: codes -> sound -> codes gives other codes. Where codes are what a model said, keep them.

A codec of one channel makes stereo by taking each side by itself; the codebooks of the two then alternate, left first,
as MusicGen's stereo models have them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.feedback.sound import Sound
from penchant.models.waves import sound_of, waveform


class AudioCodec(ABC):
    """A frozen codec that reads one channel.

    Attributes:
        module: the transformers model, in evaluation mode.
        channels: 1, or 2 for stereo side by side.
        codebooks: Kq, of all channels together.
        rate: samples a second.
        hop: samples a frame.
    """

    module: Any
    channels: int
    codebooks: int
    rate: int
    hop: int

    def __init__(self, module: Any, *, channels: int) -> None:
        self.module = module.eval().requires_grad_(False)
        self.channels = channels

    @abstractmethod
    def encode_waves(self, waves: Tensor) -> Int[Tensor, "C levels N"]:
        """Codes of waveforms [C, 1, S], each by itself."""

    @abstractmethod
    def decode_codes(self, codes: Int[Tensor, "C levels N"]) -> Tensor:
        """Waveforms [C, S] of codes, each by itself."""

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.rate / self.hop

    @torch.no_grad()
    def encode(self, sound: Sound) -> Int[Tensor, "Kq N"]:
        """Codes of a sound of any rate and number of channels, on the CPU."""
        waves = waveform(sound, rate=self.rate, channels=self.channels)
        codes = self.encode_waves(waves[:, None].to(self._device()))
        # [C, levels, N]: the channels of a level stand side by side.
        return codes.transpose(0, 1).flatten(0, 1).cpu()

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "Kq N"]) -> Sound:
        """The sound of codes.

        Raises:
            ModelError: another number of codebooks.
        """
        if len(codes) != self.codebooks:
            raise ModelError(f"codes of {len(codes)} codebooks are not for a codec of {self.codebooks}.")
        sides = codes.unflatten(0, (-1, self.channels)).transpose(0, 1)
        return sound_of(self.decode_codes(sides.to(self._device())), rate=self.rate)

    def _device(self) -> torch.device:
        return next(self.module.parameters()).device


@final
class Encodec(AudioCodec):
    """`EncodecModel` of one channel, without chunks and loudness of its own (the 24 and 32 kHz models)."""

    def __init__(self, module: Any, *, levels: int | None = None, channels: int = 1) -> None:
        """`levels` codebooks a channel must be one of the model's bandwidths; None takes the highest.

        Raises:
            ModelError: the model cuts sounds into chunks, or no bandwidth has that many codebooks.
        """
        super().__init__(module, channels=channels)
        config = module.config
        if config.chunk_length is not None or config.normalize or config.audio_channels != 1:
            raise ModelError(
                "this EnCodec cuts sounds into chunks, or hears two channels as one.",
                field="audio_encoder",
                remedy="use a model with one channel, chunk_length_s=None and normalize=False.",
            )
        have = {module.quantizer.get_num_quantizers_for_bandwidth(b): b for b in config.target_bandwidths}
        levels = max(have) if levels is None else levels
        if levels not in have:
            raise ModelError(f"{levels} codebooks are of none of its bandwidths.", remedy=f"use one of {sorted(have)}.")
        # Without a bandwidth, EnCodec takes its lowest.
        self.bandwidth = have[levels]
        self.codebooks, self.rate, self.hop = levels * channels, config.sampling_rate, config.hop_length

    def encode_waves(self, waves: Tensor) -> Int[Tensor, "C levels N"]:
        return self.module.encode(waves, bandwidth=self.bandwidth).audio_codes[0]

    def decode_codes(self, codes: Int[Tensor, "C levels N"]) -> Tensor:
        return self.module.decode(codes[None], [None]).audio_values[:, 0]


@final
class Dac(AudioCodec):
    """`DacModel`; `levels` codebooks a channel, None for all."""

    def __init__(self, module: Any, *, levels: int | None = None, channels: int = 1) -> None:
        super().__init__(module, channels=channels)
        config = module.config
        self.levels = config.n_codebooks if levels is None else levels
        if not 1 <= self.levels <= config.n_codebooks:
            raise ModelError(f"there are no {self.levels} codebooks.", remedy=f"use 1 to {config.n_codebooks}.")
        self.codebooks, self.rate = self.levels * channels, config.sampling_rate
        self.hop = config.hop_length

    def encode_waves(self, waves: Tensor) -> Int[Tensor, "C levels N"]:
        # A part of a hop would leave the strided convolutions with another length on the way back.
        whole = nn.functional.pad(waves, (0, -waves.shape[-1] % self.hop))
        return self.module.encode(whole, n_quantizers=self.levels).audio_codes

    def decode_codes(self, codes: Int[Tensor, "C levels N"]) -> Tensor:
        return self.module.decode(audio_codes=codes).audio_values


def codec_of(module: Any, *, levels: int | None = None, channels: int = 1) -> AudioCodec:
    """The codec of a loaded transformers model.

    Raises:
        ModelError: it is neither EnCodec nor DAC, or does not fit.
    """
    kinds: dict[str, type[Encodec] | type[Dac]] = {"encodec": Encodec, "dac": Dac}
    name = module.config.model_type
    if name not in kinds:
        raise ModelError(f"a codec of type '{name}' is not known.", remedy=f"use {' or '.join(kinds)}.")
    return kinds[name](module, levels=levels, channels=channels)


def kept_codes(rows: object, *, codebooks: int, entries: int) -> Int[Tensor, "Kq N"]:
    """Codes that a candidate keeps as lists, [Kq][N].

    Raises:
        ModelError: they are not of such a codec.
    """
    codes = torch.tensor(rows)
    fits = codes.ndim == 2 and len(codes) == codebooks and codes.shape[1] > 0 and not codes.is_floating_point()
    if not fits or codes.min() < 0 or codes.max() >= entries:
        raise ModelError(
            f"codes of shape {tuple(codes.shape)} are not for {codebooks} codebooks of {entries}.",
            field="settings.codes",
            remedy="leave them out: the sound is encoded then.",
        )
    return codes
