"""Stable Diffusion 1.x and 2.x: a UNet on integer timesteps that predicts noise, or v where its scheduler says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from penchant.models.adapter import ImageModel
from penchant.models.images import Framing
from penchant.models.process import Process, diffusion_process


@final
class StableDiffusion(ImageModel):
    """Condition: "prompt_embeds" [N, 77, D]. No micro-conditioning."""

    component: ClassVar[str] = "unet"

    def process(self) -> Process:
        return diffusion_process(self.pipeline.scheduler)

    def native_resolution(self) -> int:
        return self.bare.config.sample_size * self.pipeline.vae_scale_factor

    def latent_multiple(self) -> int:
        return 1

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeds, _ = self.pipeline.encode_prompt(list(prompts), self.device, 1, False)
        return {"prompt_embeds": embeds}

    def empty_condition(self) -> dict[str, Tensor]:
        return self.encode_prompts([""])

    def micro_conditioning(self, framings: Sequence[Framing]) -> dict[str, Tensor]:
        return {}

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        (embeds,) = self.cast(condition, "prompt_embeds")
        with self.precision():
            output = self.module(
                noisy_N.to(self.device, self.input_dtype),
                time_N.to(self.device),
                encoder_hidden_states=embeds,
                return_dict=False,
            )[0]
        return output.float()

    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        if guidance is not None:
            options = {**options, "guidance_scale": guidance}
        return self.pipeline(prompts, **options).images
