"""Tiny text-to-image pipelines."""

from __future__ import annotations

from typing import Any

from penchant.testing.parts import byte_tokenizer, seeded, tiny_clip, tiny_t5

# The schedule of SD1.5 and SDXL.
_BETAS: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def tiny_sd15(seed: int = 0, *, prediction_type: str = "epsilon") -> Any:
    """StableDiffusionPipeline: 16x16 latents of 4 channels, 32x32 pixels, 77 tokens of width 32."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    with seeded(seed):
        unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=4,
        )
        return StableDiffusionPipeline(
            unet=unet,
            scheduler=DDIMScheduler(
                **_BETAS, prediction_type=prediction_type, clip_sample=False, set_alpha_to_one=False
            ),
            vae=tiny_vae(channels=4, scaling_factor=0.18215),
            text_encoder=tiny_clip(),
            tokenizer=_clip_tokenizer(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def tiny_sdxl(seed: int = 0) -> Any:
    """StableDiffusionXLPipeline: 16x16 latents of 4 channels, 32x32 pixels, two encoders of width 32."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    with seeded(seed):
        unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=64,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1),
            projection_class_embeddings_input_dim=80,  # 6 numbers x 8 + 32 pooled
        )
        return StableDiffusionXLPipeline(
            unet=unet,
            scheduler=EulerDiscreteScheduler(**_BETAS, timestep_spacing="leading"),
            vae=tiny_vae(channels=4, scaling_factor=0.13025),
            text_encoder=tiny_clip(),
            tokenizer=_clip_tokenizer(),
            text_encoder_2=tiny_clip(projection=True),
            tokenizer_2=_clip_tokenizer(),
            force_zeros_for_empty_prompt=True,
            add_watermarker=False,
        )


def tiny_sd3(seed: int = 0) -> Any:
    """StableDiffusion3Pipeline: 16x16 latents of 4 channels, 32x32 pixels, timestep shift 3."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    with seeded(seed):
        transformer = SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
        )
        return StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=tiny_vae(channels=4, scaling_factor=1.5305, shift_factor=0.0609),
            text_encoder=tiny_clip(projection=True),
            tokenizer=_clip_tokenizer(),
            text_encoder_2=tiny_clip(projection=True),
            tokenizer_2=_clip_tokenizer(),
            text_encoder_3=tiny_t5(width=64),
            tokenizer_3=_t5_tokenizer(),
        )


def tiny_flux(seed: int = 0, *, guidance_embeds: bool = True) -> Any:
    """FluxPipeline: latents of 4 channels packed to 16; ask for a resolution, e.g. 32, since its own is 256."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    with seeded(seed):
        transformer = FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance_embeds,
        )
        return FluxPipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
            vae=tiny_vae(channels=4, scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=tiny_clip(),
            tokenizer=_clip_tokenizer(),
            text_encoder_2=tiny_t5(width=32),
            tokenizer_2=_t5_tokenizer(),
        )


BUILDERS = {
    "stable-diffusion": tiny_sd15,
    "stable-diffusion-xl": tiny_sdxl,
    "stable-diffusion-3": tiny_sd3,
    "flux": tiny_flux,
}


def tiny_vae(*, channels: int, scaling_factor: float, shift_factor: float | None = None) -> Any:
    """An autoencoder that halves each side."""
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL(
        block_out_channels=(4, 8),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
    )
    return vae.eval()


def _clip_tokenizer() -> Any:
    return byte_tokenizer(template="<start> $A <end>", lowercase=True)


def _t5_tokenizer() -> Any:
    return byte_tokenizer(template="$A <end>", lowercase=False)
