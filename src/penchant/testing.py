"""Tiny real models, built from configurations without any download: for tests, examples and dry runs.

    from penchant.testing import build
    folder = build("stable-diffusion-xl", tmp_path / "sdxl")
    folder = build("llama", tmp_path / "llama")

Every class is the real one; only sizes are small and weights random. Sequences are cut to 77 CLIP tokens as in the real
models. Text is read byte by byte, so any prompt in any script has an encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from penchant.errors import ModelError, nearest

# CLIP pools at its end token. An eos id of 2 would switch transformers to the historic rule "the largest id", which
# with this alphabet is some letter; hence 3.
_SPECIALS = {"<start>": 0, "<pad>": 1, "<unknown>": 2, "<end>": 3}
_VOCABULARY = 512


def build(name: str, folder: str | Path, *, seed: int = 0) -> Path:
    """Build a tiny pipeline of a family and save it as an ordinary folder.

    Args:
        name: a family of `penchant.models.families.FAMILIES`, or a model type of `LANGUAGE_MODELS`.
        folder: where to save; created when missing.
        seed: seed of the random weights.

    Raises:
        ModelError: unknown name.
    """
    if name in LANGUAGE_MODELS:
        tiny_language_model(name, seed).save_pretrained(str(folder))
        language_tokenizer().save_pretrained(str(folder))
        return Path(folder)
    from penchant import testing_video

    if name in testing_video.BUILDERS:
        return testing_video.save(testing_video.BUILDERS[name](seed), folder, size=testing_video.SIZES[name])
    if name not in _BUILDERS:
        known = [*_BUILDERS, *testing_video.BUILDERS, *LANGUAGE_MODELS]
        raise ModelError(f"no tiny model is called '{name}'.", remedy=nearest(name, known))
    pipeline = _BUILDERS[name](seed)
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return Path(folder)


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
            vae=_vae(channels=4, scaling_factor=0.18215),
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
            vae=_vae(channels=4, scaling_factor=0.13025),
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
            vae=_vae(channels=4, scaling_factor=1.5305, shift_factor=0.0609),
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
            vae=_vae(channels=4, scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=tiny_clip(),
            tokenizer=_clip_tokenizer(),
            text_encoder_2=tiny_t5(width=32),
            tokenizer_2=_t5_tokenizer(),
        )


_HEAD_8: dict[str, Any] = {"head_dim": 8}
# Model type -> what its configuration needs beside the common sizes; windows are shorter than the tests' texts.
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "mixtral": {"num_local_experts": 4, "sliding_window": None},
    "qwen2": {},
    "qwen3": _HEAD_8,
    "gemma": _HEAD_8,
    "gemma2": {**_HEAD_8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    "gemma3_text": {**_HEAD_8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    "phi": {},
    "phi3": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "gpt_neox": {},
    "olmo": {},
    "olmo2": {},
    "granite": {"logits_scaling": 3.0},
    "cohere": {"logit_scale": 0.3},
    "smollm3": {},
    "starcoder2": {"sliding_window": 6},
    "stablelm": {},
    "glm": _HEAD_8,
    "mamba": {"state_size": 4},
}


def tiny_language_model(name: str, seed: int = 0) -> Any:
    """A causal language model of transformers: 2 layers of width 32 over bytes; weights large enough for opinions."""
    from transformers import AutoConfig, AutoModelForCausalLM

    common = {
        "vocab_size": _VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 512,
    }
    own = LANGUAGE_MODELS[name]
    ids = {"bos_token_id": 0, "pad_token_id": _SPECIALS["<pad>"], "eos_token_id": _SPECIALS["<end>"]}
    sizes = {"vocab_size": _VOCABULARY} if name == "gpt2" else common
    with seeded(seed):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**sizes, **ids, **own}))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.08)
    return model.eval()


def language_tokenizer() -> Any:
    """Bytes, one beginning-of-sequence token, and a chat template in the common shape."""
    tokenizer = byte_tokenizer(template="<start> $A", lowercase=False)
    tokenizer.model_max_length = 512
    tokenizer.chat_template = (
        "{% for m in messages %}<start>{{ m.role }}\n{{ m.content }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<start>assistant\n{% endif %}"
    )
    return tokenizer


_BUILDERS = {
    "stable-diffusion": tiny_sd15,
    "stable-diffusion-xl": tiny_sdxl,
    "stable-diffusion-3": tiny_sd3,
    "flux": tiny_flux,
}

# The schedule of SD1.5 and SDXL.
_BETAS: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random weights as a function of `seed`; the global stream goes on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _vae(*, channels: int, scaling_factor: float, shift_factor: float | None = None) -> Any:
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


def tiny_clip(*, projection: bool = False) -> Any:
    """A CLIP text encoder of width 32."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=32,
        vocab_size=_VOCABULARY,
        bos_token_id=_SPECIALS["<start>"],
        pad_token_id=_SPECIALS["<pad>"],
        eos_token_id=_SPECIALS["<end>"],
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def tiny_t5(*, width: int) -> Any:
    """A T5 encoder."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=_VOCABULARY, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return T5EncoderModel(config).eval()


def _clip_tokenizer() -> Any:
    return byte_tokenizer(template="<start> $A <end>", lowercase=True)


def _t5_tokenizer() -> Any:
    return byte_tokenizer(template="$A <end>", lowercase=False)


def byte_tokenizer(*, template: str, lowercase: bool, longest: int = 77) -> Any:
    """A tokenizer that reads bytes, with the specials that `template` puts around them."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*_SPECIALS, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unknown>"))
    if lowercase:
        core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(single=template, special_tokens=[*_SPECIALS.items()])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=longest,
        bos_token="<start>",
        eos_token="<end>",
        pad_token="<pad>",
        unk_token="<unknown>",
    )
