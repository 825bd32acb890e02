"""CogVideoX: a diffusion transformer on integer timesteps that predicts v (arXiv 2408.06072); use `Diffusion()`.

Its schedule has zero terminal SNR, which its scheduler's table of alpha-bar holds already. Its latents have the frames
before the channels; that is undone here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from penchant.models.clips import ClipSize
from penchant.models.process import Process, diffusion_process
from penchant.models.video import VideoModel


@final
class CogVideoX(VideoModel):
    """Condition: "prompt_embeds" [N, 226, D] (T5).

    Version 1.5 has patches in time as well, for which latents are lengthened at their beginning: by copies of the first
    frame in training, as in the authors' fine-tuning code; the pipeline cuts off as many from what it samples.
    """

    def process(self) -> Process:
        return diffusion_process(self.pipeline.scheduler)

    def native_size(self) -> ClipSize:
        config, space = self.bare.config, self.pipeline.vae_scale_factor_spatial
        fps = 8.0 if config.patch_size_t is None else 16.0  # 1.0 and 1.5
        high, wide = config.sample_height * space, config.sample_width * space
        return ClipSize(height=high, width=wide, frames=config.sample_frames, fps=fps)

    def multiples(self) -> tuple[int, int]:
        space = self.pipeline.vae_scale_factor_spatial * self.bare.config.patch_size
        # The pipeline refuses sides that are no multiple of 8, whatever the VAE.
        return self.pipeline.vae_scale_factor_temporal, max(8, space)

    def normalise(self, encoded: Tensor) -> Tensor:
        latents = encoded * self.pipeline.vae.config.scaling_factor
        return torch.cat([latents[:, :, :1]] * self._lengthened() + [latents], dim=2)

    def denormalise(self, latents: Tensor) -> Tensor:
        return 1 / self.pipeline.vae.config.scaling_factor * latents[:, :, self._lengthened() :]

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeds, _ = self.pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False, device=self.device)
        return {"prompt_embeds": embeds}

    def empty_condition(self) -> dict[str, Tensor]:
        return self.encode_prompts([""])

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        (embeds,) = self.cast(condition, "prompt_embeds")
        with self.precision():
            output = self.module(
                hidden_states=noisy_N.to(self.device, self.input_dtype).transpose(1, 2),
                encoder_hidden_states=embeds,
                timestep=time_N.to(self.device),
                image_rotary_emb=self._positions(noisy_N),
                return_dict=False,
            )[0]
        return output.float().transpose(1, 2)

    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        if guidance is not None:
            options = {**options, "guidance_scale": guidance}
        return self.pipeline(prompts, **options).frames.transpose(1, 2)

    def _positions(self, noisy_N: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.pipeline.transformer.config.use_rotary_positional_embeddings:
            return None
        size, frames = self.clip_size, noisy_N.shape[2]
        return self.pipeline._prepare_rotary_positional_embeddings(size.height, size.width, frames, self.device)

    def _lengthened(self) -> int:
        """How many frames of latents are put before the first."""
        patch = self.bare.config.patch_size_t or 1
        return -((self.clip_size.frames - 1) // self.pipeline.vae_scale_factor_temporal + 1) % patch
