"""Tiny text-to-video pipelines; `clip_size.json` in their folders asks for clips of their own small size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from penchant.models.clips import ClipSize
from penchant.testing.parts import VOCABULARY, byte_tokenizer, seeded, tiny_clip, tiny_t5

_WIDTH = 32

SIZES: dict[str, ClipSize] = {
    "wan": ClipSize(height=16, width=16, frames=9, fps=6.0),
    "ltx": ClipSize(height=32, width=32, frames=9, fps=6.0),
    "hunyuan-video": ClipSize(height=16, width=16, frames=9, fps=6.0),
    "cogvideox": ClipSize(height=16, width=16, frames=9, fps=6.0),
    "mochi": ClipSize(height=16, width=16, frames=7, fps=6.0),
}


def tiny_wan(seed: int = 0, *, experts: bool = False, per_token: bool = False, unipc: bool = False) -> Any:
    """WanPipeline: latents of 16 channels, 3 x 2 x 2 for 9 frames of 16 x 16.

    Args:
        seed: seed of the random weights.
        experts: two transformers that divide the noise levels at 0.875, as in Wan 2.2 A14B.
        per_token: a timestep for every token, as in Wan 2.2 TI2V-5B.
        unipc: the multistep solver of the published folders instead of Euler's.
    """
    from diffusers import (
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        UniPCMultistepScheduler,
        WanPipeline,
        WanTransformer3DModel,
    )

    def transformer() -> Any:
        return WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=16,
            out_channels=16,
            text_dim=_WIDTH,
            freq_dim=256,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=32,
        )

    with seeded(seed):
        vae: Any = AutoencoderKLWan(
            base_dim=3,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        )
        solver = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
        return WanPipeline(
            transformer=transformer(),
            transformer_2=transformer() if experts else None,
            boundary_ratio=0.875 if experts else None,
            expand_timesteps=per_token,
            scheduler=solver if unipc else FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae.eval(),
            text_encoder=_umt5(),
            tokenizer=byte_tokenizer(template="$A <end>", lowercase=False, longest=512),
        )


def tiny_ltx(seed: int = 0) -> Any:
    """LTXPipeline: latents of 8 channels, 3 x 8 x 8 for 9 frames of 32 x 32, as one token each."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )

    with seeded(seed):
        transformer = LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            patch_size=1,
            patch_size_t=1,
            num_attention_heads=4,
            attention_head_dim=8,
            cross_attention_dim=32,
            num_layers=1,
            caption_channels=_WIDTH,
        )
        vae: Any = AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            decoder_inject_noise=(False, False, False, False, False),
            upsample_residual=(False, False, False, False),
            upsample_factor=(1, 1, 1, 1),
            patch_size=1,
            patch_size_t=1,
            scaling_factor=0.8,
        )
        vae.latents_mean.uniform_(-0.5, 0.5)
        vae.latents_std.uniform_(0.5, 2.0)
        scheduler = FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            max_image_seq_len=4096,
            shift_terminal=0.1,
        )
        return LTXPipeline(
            transformer=transformer,
            scheduler=scheduler,
            vae=vae.eval(),
            text_encoder=tiny_t5(width=_WIDTH),
            tokenizer=byte_tokenizer(template="$A <end>", lowercase=False),
        )


def tiny_hunyuan_video(seed: int = 0, *, guidance_embeds: bool = True) -> Any:
    """HunyuanVideoPipeline: latents of 4 channels, 3 x 2 x 2 for 9 frames of 16 x 16; embedded guidance."""
    from diffusers import (
        AutoencoderKLHunyuanVideo,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideoPipeline,
        HunyuanVideoTransformer3DModel,
    )

    with seeded(seed):
        transformer = HunyuanVideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=10,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            patch_size=1,
            patch_size_t=1,
            guidance_embeds=guidance_embeds,
            text_embed_dim=_WIDTH,
            pooled_projection_dim=_WIDTH,
            rope_axes_dim=(2, 4, 4),
        )
        vae: Any = AutoencoderKLHunyuanVideo(
            latent_channels=4,
            down_block_types=("HunyuanVideoDownBlock3D",) * 4,
            up_block_types=("HunyuanVideoUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            scaling_factor=0.476986,
            spatial_compression_ratio=8,
            temporal_compression_ratio=4,
            mid_block_add_attention=True,
        )
        return HunyuanVideoPipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
            vae=vae.eval(),
            text_encoder=_llama(),
            tokenizer=_template_tokenizer(),
            text_encoder_2=tiny_clip(),
            tokenizer_2=byte_tokenizer(template="<start> $A <end>", lowercase=True),
        )


def tiny_cogvideox(seed: int = 0, *, in_time: int | None = None) -> Any:
    """CogVideoXPipeline: latents of 4 channels, 3 x 4 x 4 for 9 frames of 16 x 16; v-prediction at zero terminal SNR.

    Args:
        seed: seed of the random weights.
        in_time: patch size in time; 2 and rotary positions make it a version 1.5.
    """
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )

    with seeded(seed):
        transformer = CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            time_embed_dim=4,
            text_embed_dim=_WIDTH,
            num_layers=1,
            sample_width=4,
            sample_height=4,
            sample_frames=9,
            patch_size=2,
            patch_size_t=in_time,
            patch_bias=in_time is None,
            temporal_compression_ratio=4,
            max_text_seq_length=226,
            use_rotary_positional_embeddings=in_time is not None,
        )
        vae: Any = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 3,
            up_block_types=("CogVideoXUpBlock3D",) * 3,
            block_out_channels=(8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            temporal_compression_ratio=4,
            scaling_factor=0.7,
        )
        scheduler = CogVideoXDDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            snr_shift_scale=3.0,
            timestep_spacing="trailing",
            clip_sample=False,
            set_alpha_to_one=True,
        )
        return CogVideoXPipeline(
            transformer=transformer,
            scheduler=scheduler,
            vae=vae.eval(),
            text_encoder=tiny_t5(width=_WIDTH),
            tokenizer=byte_tokenizer(template="$A <end>", lowercase=False),
        )


def tiny_mochi(seed: int = 0, *, blank: bool = False) -> Any:
    """MochiPipeline: latents of 12 channels, 2 x 2 x 2 for 7 frames of 16 x 16.

    Args:
        seed: seed of the random weights.
        blank: whether empty prompts are blanked (`force_zeros_for_empty_prompt`).
    """
    from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel

    with seeded(seed):
        transformer: Any = MochiTransformer3DModel(
            patch_size=2,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            pooled_projection_dim=16,
            in_channels=12,
            text_embed_dim=_WIDTH,
            time_embed_dim=4,
            max_sequence_length=256,
        )
        torch.nn.init.normal_(transformer.pos_frequencies)
        vae: Any = AutoencoderKLMochi(
            latent_channels=12,
            out_channels=3,
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
        )
        return MochiPipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
            vae=vae.eval(),
            text_encoder=tiny_t5(width=_WIDTH),
            tokenizer=byte_tokenizer(template="$A <end>", lowercase=False, longest=256),
            force_zeros_for_empty_prompt=blank,
        )


def save(pipeline: Any, folder: str | Path, *, size: ClipSize) -> Path:
    """Save a tiny pipeline as an ordinary folder with the size of its clips."""
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    size.write(Path(folder))
    return Path(folder)


BUILDERS: dict[str, Callable[[int], Any]] = {
    "wan": tiny_wan,
    "ltx": tiny_ltx,
    "hunyuan-video": tiny_hunyuan_video,
    "cogvideox": tiny_cogvideox,
    "mochi": tiny_mochi,
}


def _umt5() -> Any:
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(vocab_size=VOCABULARY, d_model=_WIDTH, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return UMT5EncoderModel(config).eval()


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=_WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=1,
    )
    return LlamaModel(config).eval()


def _template_tokenizer() -> Any:
    """Bytes, but for the beginning of HunyuanVideo's template: with it as one token the template takes as many tokens
    as the pipeline crops, just as with Llama's own tokenizer.
    """
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    template: dict[str, Any] = DEFAULT_PROMPT_TEMPLATE
    before, crop = template["template"].split("{}")[0], template["crop_start"]
    tokenizer = byte_tokenizer(template="<start> $A", lowercase=False, longest=512)
    # One token begins the sequence, one is the new one, the rest are bytes.
    tokenizer.add_tokens(before[: len(before) - (crop - 2)])
    return tokenizer
