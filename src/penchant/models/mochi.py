"""Mochi 1: a flow transformer that counts backwards: it is given 1000 (1 - sigma) and predicts data - noise."""

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


@final
class Mochi(VideoModel):
    """Condition: "prompt_embeds" [N, 256, D] (T5) and "prompt_attention_mask" [N, 256], true on the text."""

    def process(self) -> Process:
        return flow_process(self.pipeline.scheduler)

    def native_size(self) -> ClipSize:
        # The pipeline's defaults but for its 19 frames; 163 at 30 a second are what the authors' demonstration makes.
        return ClipSize(height=480, width=848, frames=163, fps=30.0)

    def multiples(self) -> tuple[int, int]:
        return (
            self.pipeline.vae_temporal_scale_factor,
            self.pipeline.vae_spatial_scale_factor * self.pipeline.patch_size,
        )

    def normalise(self, encoded: Tensor) -> Tensor:
        return normalise(encoded, self.pipeline.vae.config)

    def denormalise(self, latents: Tensor) -> Tensor:
        return denormalise(latents, self.pipeline.vae.config)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        # One at a time: where the pipeline blanks empty prompts, an empty last one would blank its whole batch.
        rows = [
            self.pipeline.encode_prompt([prompt], do_classifier_free_guidance=False, device=self.device)[:2]
            for prompt in prompts
        ]
        embeds, masks = zip(*rows, strict=True)
        return {"prompt_embeds": torch.cat(embeds), "prompt_attention_mask": torch.cat(masks)}

    def empty_condition(self) -> dict[str, Tensor]:
        return self.encode_prompts([""])

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        (embeds,) = self.cast(condition, "prompt_embeds")
        with self.precision():
            output = self.module(
                hidden_states=noisy_N.to(self.device, self.input_dtype),
                encoder_hidden_states=embeds,
                timestep=(1.0 - time_N.to(self.device, torch.float32)) * TRAIN_STEPS,
                encoder_attention_mask=condition["prompt_attention_mask"].to(self.device),
                return_dict=False,
            )[0]
        return -output.float()

    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        if guidance is not None:
            options = {**options, "guidance_scale": guidance}
        empty = {
            f"negative_{name}": value.expand(len(prompts), *value.shape[1:])
            for name, value in self.unconditional().items()
        }
        return self.pipeline(**self.encode_prompts(prompts), **empty, **options).frames
