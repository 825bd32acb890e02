"""FLUX.1: a flow transformer on latents packed in 2x2 tokens; it is given sigma and, if distilled, a guidance scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.models.adapter import ImageModel
from penchant.models.images import Framing
from penchant.models.process import Process, flow_process

TRAIN_GUIDANCE = 3.5
"""Guidance embedded while training a guidance-distilled model: the pipeline's own default, so that the likelihood is
that of the sampler (also the default of the diffusers DreamBooth script)."""


@final
class Flux(ImageModel):
    """Condition: "prompt_embeds" [N, L, D] (T5) and "pooled_prompt_embeds" [N, P] (CLIP). Latents are [N, C, h, w] for
    everyone outside; packing happens here. No micro-conditioning.
    """

    component: ClassVar[str] = "transformer"

    def process(self) -> Process:
        side = self.resolution // (self.pipeline.vae_scale_factor * self.latent_multiple())
        return flow_process(self.pipeline.scheduler, tokens=side * side)

    def native_resolution(self) -> int:
        return self.pipeline.default_sample_size * self.pipeline.vae_scale_factor

    def latent_multiple(self) -> int:
        return 2

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeds, pooled, _ = self.pipeline.encode_prompt(list(prompts), device=self.device)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def empty_condition(self) -> dict[str, Tensor]:
        return self.encode_prompts([""])

    def micro_conditioning(self, framings: Sequence[Framing]) -> dict[str, Tensor]:
        return {}

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        embeds, pooled = self.cast(condition, "prompt_embeds", "pooled_prompt_embeds")
        rows, _, high, wide = noisy_N.shape
        guidance = None
        if self.bare.config.guidance_embeds:
            guidance = torch.full([rows], TRAIN_GUIDANCE, device=self.device, dtype=torch.float32)
        with self.precision():
            output = self.module(
                hidden_states=pack(noisy_N.to(self.device, self.input_dtype)),
                timestep=time_N.to(self.device, self.input_dtype),
                guidance=guidance,
                pooled_projections=pooled,
                encoder_hidden_states=embeds,
                txt_ids=embeds.new_zeros(embeds.shape[1], 3),
                img_ids=token_positions(high // 2, wide // 2).to(embeds),
                return_dict=False,
            )[0]
        return unpack(output.float(), high, wide)

    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        if guidance is not None and self.bare.config.guidance_embeds:
            options = {**options, "guidance_scale": guidance}
        elif guidance is not None:
            # Without the embedding, guidance is the classifier-free kind; the pipeline skips it at 1.0.
            options = {**options, "true_cfg_scale": guidance, "negative_prompt": [""] * len(prompts)}
        side = options["height"] // self.pipeline.vae_scale_factor
        return unpack(self.pipeline(prompts, **options).images, side, side)


def pack(latents: Float[Tensor, "N C h w"]) -> Float[Tensor, "N L C4"]:
    """Every 2x2 square of latents as one token."""
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)


def unpack(tokens: Float[Tensor, "N L C4"], high: int, wide: int) -> Float[Tensor, "N C h w"]:
    """The inverse of `pack` for latents of `high` x `wide`."""
    n, _, channels = tokens.shape
    squares = tokens.view(n, high // 2, wide // 2, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(n, channels // 4, high, wide)


def token_positions(high: int, wide: int) -> Float[Tensor, "L 3"]:
    """(0, row, column) of every token."""
    rows, columns = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()
