"""HunyuanVideo: a flow transformer, distilled for guidance: it is given 1000 sigma and 1000 g (arXiv 2412.03603)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from penchant.models.clips import ClipSize
from penchant.models.latents import denormalise, normalise
from penchant.models.process import Process, flow_process
from penchant.models.video import VideoModel

TRAIN_STEPS = 1000

TRAIN_GUIDANCE = 6.0
"""Guidance embedded while training: the pipeline's own default, so that the likelihood is that of the sampler."""


@final
class HunyuanVideo(VideoModel):
    """Condition: "prompt_embeds" [N, 256, D] and "prompt_attention_mask" [N, 256] (a Llama's answer to the pipeline's
    template, cropped to the prompt), "pooled_prompt_embeds" [N, P] (CLIP).
    """

    def settings(self) -> tuple[object, ...]:
        return (TRAIN_GUIDANCE,)

    def process(self) -> Process:
        return flow_process(self.pipeline.scheduler)

    def native_size(self) -> ClipSize:
        return ClipSize(height=720, width=1280, frames=129, fps=24.0)  # the pipeline's defaults; 24 as in the paper

    def multiples(self) -> tuple[int, int]:
        patch = self.bare.config.patch_size
        # The pipeline refuses sides that are no multiple of 16, whatever the VAE.
        return self.pipeline.vae_scale_factor_temporal, max(16, self.pipeline.vae_scale_factor_spatial * patch)

    def normalise(self, encoded: Tensor) -> Tensor:
        return normalise(encoded, self.pipeline.vae.config)

    def denormalise(self, latents: Tensor) -> Tensor:
        return denormalise(latents, self.pipeline.vae.config)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeds, pooled, mask = self.pipeline.encode_prompt(list(prompts), device=self.device)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled, "prompt_attention_mask": mask}

    def empty_condition(self) -> dict[str, Tensor]:
        return self.encode_prompts([""])

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        embeds, pooled, mask = self.cast(condition, "prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask")
        with self.precision():
            output = self.module(
                hidden_states=noisy_N.to(self.device, self.input_dtype),
                timestep=time_N.to(self.device, torch.float32) * TRAIN_STEPS,
                encoder_hidden_states=embeds,
                encoder_attention_mask=mask,
                pooled_projections=pooled,
                guidance=embeds.new_full([len(noisy_N)], TRAIN_GUIDANCE) * 1000.0,
                return_dict=False,
            )[0]
        return output.float()

    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        if guidance is not None and self.bare.config.guidance_embeds:
            options = {**options, "guidance_scale": guidance}
        elif guidance is not None:
            # Without the embedding, guidance is the classifier-free kind; the pipeline skips it at 1.0.
            options = {**options, "true_cfg_scale": guidance, "negative_prompt": [""] * len(prompts)}
        return self.pipeline(prompts, **options).frames
