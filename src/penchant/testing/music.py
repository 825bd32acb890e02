"""Tiny music models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from penchant.testing.parts import VOCABULARY, byte_tokenizer, seeded, tiny_t5

RATE = 8000
"""Samples a second of the tiny codecs."""

_ENTRIES = 64


def tiny_encodec(seed: int = 0, *, bandwidths: tuple[float, ...] = (2.4,)) -> Any:
    """EnCodec of 80 samples a frame, 100 frames a second, 4 codebooks of 64 entries at 2.4 kbit/s."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(
        hidden_size=16,
        codebook_size=_ENTRIES,
        codebook_dim=16,
        num_filters=4,
        upsampling_ratios=[8, 10],
        num_lstm_layers=1,
        sampling_rate=RATE,
        target_bandwidths=list(bandwidths),
    )
    with seeded(seed):
        return _filled(EncodecModel(config)).eval()


def _filled(codec: Any) -> Any:
    """EnCodec with entries about where it encodes: a new one's are all zero, and every sound has the same codes."""
    for name, parameter in codec.encoder.named_parameters():
        if "bias" in name:
            torch.nn.init.zeros_(parameter)
    for name, entries in codec.named_buffers():
        if name.endswith("codebook.embed"):
            torch.nn.init.normal_(entries, std=0.01)
    return codec


def tiny_dac(seed: int = 0) -> Any:
    """DAC of 8 samples a frame, 4 codebooks of 64 entries."""
    from transformers import DacConfig, DacModel

    with seeded(seed):
        return DacModel(
            DacConfig(
                encoder_hidden_size=8,
                downsampling_ratios=[2, 4],
                decoder_hidden_size=32,
                n_codebooks=4,
                codebook_size=_ENTRIES,
                codebook_dim=4,
                sampling_rate=RATE,
            )
        ).eval()


def tiny_musicgen(seed: int = 0, *, channels: int = 1, frames: int = 12, dropout: float = 0.1) -> Any:
    """MusicgenForConditionalGeneration: 2 layers of width 32, 4 codebooks a channel, sounds of `frames` frames.

    Dropout is that of the published models. Weights are large enough for opinions.
    """
    from transformers import MusicgenConfig, MusicgenDecoderConfig, MusicgenForConditionalGeneration, T5Config

    codec = tiny_encodec(seed)
    text = T5Config(vocab_size=VOCABULARY, d_model=24, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    decoder = MusicgenDecoderConfig(
        vocab_size=_ENTRIES,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        num_codebooks=4 * channels,
        audio_channels=channels,
        dropout=dropout,
        pad_token_id=_ENTRIES,
        bos_token_id=_ENTRIES,
    )
    with seeded(seed):
        model = MusicgenForConditionalGeneration(
            MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=codec.config.to_dict(), decoder=decoder.to_dict())
        )
        _filled(model.audio_encoder)
        for parameter in model.decoder.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    settings: Any = model.generation_config
    settings.pad_token_id = settings.bos_token_id = settings.decoder_start_token_id = _ENTRIES
    settings.eos_token_id, settings.guidance_scale, settings.max_length = None, 3.0, frames + 4
    return model.eval()


def save_musicgen(model: Any, folder: str | Path) -> Path:
    """As an ordinary folder with a tokenizer that reads bytes."""
    model.save_pretrained(str(folder))
    music_tokenizer().save_pretrained(str(folder))
    return Path(folder)


def music_tokenizer() -> Any:
    """Bytes, and the end that T5 puts behind a text."""
    return byte_tokenizer(template="$A <end>", lowercase=False)


def tiny_stable_audio(seed: int = 0) -> Any:
    """StableAudioPipeline: latents of 4 channels, 16 in time, for 128 samples of stereo at 8000 a second."""
    from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioPipeline, StableAudioProjectionModel

    width = 16
    with seeded(seed):
        transformer = StableAudioDiTModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            num_key_value_attention_heads=2,
            cross_attention_dim=width,
            time_proj_dim=16,
            global_states_input_dim=2 * width,
            cross_attention_input_dim=width,
        )
        vae: Any = AutoencoderOobleck(
            encoder_hidden_size=8,
            downsampling_ratios=[2, 4],
            channel_multiples=[1, 2],
            decoder_channels=8,
            decoder_input_channels=4,
            audio_channels=2,
            sampling_rate=RATE,
        )
        projection: Any = StableAudioProjectionModel(
            text_encoder_dim=24, conditioning_dim=width, min_value=0, max_value=512
        )
        scheduler: Any = None
        return StableAudioPipeline(
            vae=vae.eval(),
            text_encoder=tiny_t5(width=24),
            projection_model=projection,
            tokenizer=byte_tokenizer(template="$A <end>", lowercase=False, longest=32),
            transformer=transformer,
            scheduler=scheduler,
        )


def save_stable_audio(pipeline: Any, folder: str | Path) -> Path:
    """As an ordinary folder, with the scheduler of the published one."""
    from penchant.models.stable_audio import SCHEDULER, write_scheduler

    pipeline.save_pretrained(str(folder), safe_serialization=True)
    write_scheduler(Path(folder), SCHEDULER)
    return Path(folder)


# Name -> what builds it from a seed and saves it in a folder.
BUILDERS: dict[str, Callable[[int, str | Path], Path]] = {
    "musicgen": lambda seed, folder: save_musicgen(tiny_musicgen(seed), folder),
    "stable-audio": lambda seed, folder: save_stable_audio(tiny_stable_audio(seed), folder),
}
