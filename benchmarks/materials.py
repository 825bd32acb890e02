"""What the benchmark of a training step runs on: pipelines at a quarter of the width, and pairs of noisy JPEGs.

Every class is the real one, every ratio of widths the real model's; weights are random. The text encoders have fewer
layers than life, because 77 tokens weigh more beside pictures this small.
"""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

SIDE = 512


def write_pairs(path: Path, *, count: int, seed: int = 0) -> None:
    """`count` rows in the Pick-a-Pic layout: two JPEGs of 512 pixels, the winner on either side."""
    rng = np.random.default_rng(seed)
    wins = [float(i % 2) for i in range(count)]
    columns = {
        "caption": [f"texture number {i}, {'rough' if i % 2 else 'smooth'}, warm light" for i in range(count)],
        "has_label": [True] * count,
        "jpg_0": [_texture(rng) for _ in range(count)],
        "jpg_1": [_texture(rng) for _ in range(count)],
        "label_0": wins,
        "label_1": [1 - win for win in wins],
    }
    pq.write_table(pa.table(columns), path)


def _texture(rng: np.random.Generator) -> bytes:
    coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((SIDE, SIDE))
    grain = rng.normal(0, 12, (SIDE, SIDE, 1))
    stream = io.BytesIO()
    pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def write_model(name: str, folder: Path, *, resolution: int) -> dict[str, Any]:
    """Save a pipeline and say what it costs: parameters, and the operations of one forward pass of one picture."""
    torch.manual_seed(0)
    pipeline = {"sd15": _sd15, "sdxl": _sdxl}[name]()
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    facts = {"parameters": _parameters(pipeline), "forward_flops": _operations(pipeline, resolution)}
    (folder / "facts.json").write_text(json.dumps(facts))
    return facts


def _sd15() -> Any:
    from diffusers import UNet2DConditionModel

    from penchant.testing.pictures import tiny_sd15

    pipeline = tiny_sd15()
    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(80, 160, 320, 320),
        norm_num_groups=16,
        cross_attention_dim=192,
        attention_head_dim=8,
    )
    pipeline.register_modules(unet=unet, vae=_vae(0.18215), text_encoder=_clip(192, layers=3))
    return pipeline


def _sdxl() -> Any:
    from diffusers import UNet2DConditionModel

    from penchant.testing.pictures import tiny_sdxl

    pipeline = tiny_sdxl()
    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(80, 160, 320),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        norm_num_groups=16,
        cross_attention_dim=512,  # 192 + 320
        attention_head_dim=(5, 10, 20),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=64,
        projection_class_embeddings_input_dim=704,  # 6 numbers x 64 + 320 pooled
    )
    pipeline.register_modules(
        unet=unet,
        vae=_vae(0.13025),
        text_encoder=_clip(192, layers=3),
        text_encoder_2=_clip(320, layers=8, projection=True),
    )
    return pipeline


def _vae(scaling_factor: float) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=256,
        scaling_factor=scaling_factor,
    ).eval()


def _clip(width: int, *, layers: int, projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_attention_heads=width // 16,
        num_hidden_layers=layers,
        projection_dim=width,
        vocab_size=512,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=3,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def _parameters(pipeline: Any) -> dict[str, int]:
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


@torch.no_grad()
def _operations(pipeline: Any, resolution: int) -> dict[str, int]:
    """By PyTorch's counter (two a multiply-add), for one picture and one prompt; the VAE's encoder alone."""
    unet, side = pipeline.unet, resolution // 8
    embeds = torch.zeros(1, 77, unet.config.cross_attention_dim)
    extra = {"text_embeds": torch.zeros(1, 320), "time_ids": torch.zeros(1, 6)}
    ids = torch.zeros(1, 77, dtype=torch.long)
    calls = {
        "unet": lambda: unet(torch.zeros(1, 4, side, side), 1, embeds, added_cond_kwargs=extra),
        "vae": lambda: pipeline.vae.encode(torch.zeros(1, 3, resolution, resolution)),
    }
    for name in ("text_encoder", "text_encoder_2"):
        if name in pipeline.components:
            calls[name] = partial(getattr(pipeline, name), ids)
    return {name: _counted(call) for name, call in calls.items()}


def _counted(call: Any) -> int:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The fused attention of the CPU is invisible to the counter; the plain one counts the same operations.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
