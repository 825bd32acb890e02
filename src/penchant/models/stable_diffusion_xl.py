"""Stable Diffusion XL: two text encoders, a pooled text vector, and the size and crop of each picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from penchant.models.adapter import ImageModel
from penchant.models.images import Framing
from penchant.models.process import Process, diffusion_process


@final
class StableDiffusionXL(ImageModel):
    """Condition: "prompt_embeds" [N, 77, D] and "pooled_prompt_embeds" [N, P]. Micro-conditioning: "time_ids" [N, 6] =
    original height and width, crop top and left, target height and width.

    The real size and crop are given, as the diffusers and MaPO scripts do; the Diffusion-DPO code gives every picture
    (R, R, 0, 0, R, R).
    """

    component: ClassVar[str] = "unet"

    def process(self) -> Process:
        return diffusion_process(self.pipeline.scheduler)

    def native_resolution(self) -> int:
        return self.pipeline.default_sample_size * self.pipeline.vae_scale_factor

    def latent_multiple(self) -> int:
        return 1

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def empty_condition(self) -> dict[str, Tensor]:
        empty = self.encode_prompts([""])
        # SDXL base was trained with zeros, not with the encoding of "", where the caption was dropped.
        if self.pipeline.config.force_zeros_for_empty_prompt:
            return {name: torch.zeros_like(value) for name, value in empty.items()}
        return empty

    def micro_conditioning(self, framings: Sequence[Framing]) -> dict[str, Tensor]:
        rows = [[*f.original, *f.crop, *f.target] for f in framings]
        return {"time_ids": torch.tensor(rows, dtype=torch.float32)}

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        embeds, pooled = self.cast(condition, "prompt_embeds", "pooled_prompt_embeds")
        (time_ids,) = self.cast(candidates, "time_ids")
        with self.precision():
            output = self.module(
                noisy_N.to(self.device, self.input_dtype),
                time_N.to(self.device),
                encoder_hidden_states=embeds,
                added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
                return_dict=False,
            )[0]
        return output.float()

    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        if guidance is not None:
            options = {**options, "guidance_scale": guidance}
        return self.pipeline(prompts, **options).images
