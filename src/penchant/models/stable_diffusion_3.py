"""Stable Diffusion 3 and 3.5: a flow transformer that is given 1000 sigma and predicts noise - data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from penchant.models.adapter import ImageModel
from penchant.models.images import Framing
from penchant.models.process import Process, flow_process


@final
class StableDiffusion3(ImageModel):
    """Condition: "prompt_embeds" [N, L, D] (CLIP tokens, then T5 tokens) and "pooled_prompt_embeds" [N, P]. No
    micro-conditioning.
    """

    component: ClassVar[str] = "transformer"

    def process(self) -> Process:
        side = self.resolution // (self.pipeline.vae_scale_factor * self.latent_multiple())
        return flow_process(self.pipeline.scheduler, tokens=side * side)

    def native_resolution(self) -> int:
        return self.pipeline.default_sample_size * self.pipeline.vae_scale_factor

    def latent_multiple(self) -> int:
        return self.pipeline.patch_size

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        texts = list(prompts)
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            texts, texts, texts, device=self.device, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def empty_condition(self) -> dict[str, Tensor]:
        return self.encode_prompts([""])

    def micro_conditioning(self, framings: Sequence[Framing]) -> dict[str, Tensor]:
        return {}

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        embeds, pooled = self.cast(condition, "prompt_embeds", "pooled_prompt_embeds")
        steps = self.pipeline.scheduler.config.num_train_timesteps
        with self.precision():
            output = self.module(
                hidden_states=noisy_N.to(self.device, self.input_dtype),
                timestep=time_N.to(self.device, torch.float32) * steps,
                encoder_hidden_states=embeds,
                pooled_projections=pooled,
                return_dict=False,
            )[0]
        return output.float()

    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        if guidance is not None:
            options = {**options, "guidance_scale": guidance}
        return self.pipeline(prompts, **options).images
