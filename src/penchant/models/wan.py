"""Wan 2.1 and 2.2: a flow transformer that is given 1000 sigma and predicts noise - data (arXiv 2503.20314).

Wan 2.2 A14B divides the noise levels between two transformers (`experts.py`); Wan 2.2 TI2V-5B is given a timestep for
every token, all alike when there is no picture to begin with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from penchant.errors import ModelError
from penchant.models.clips import ClipSize
from penchant.models.experts import Experts
from penchant.models.process import Process, flow_process
from penchant.models.video import VideoModel

MAX_TOKENS = 512
"""Text tokens: the default of the pipeline's call (that of its `encode_prompt` alone is 226)."""

TRAIN_STEPS = 1000


@final
class Wan(VideoModel):
    """Condition: "prompt_embeds" [N, 512, D] (UMT5, zero beyond the text)."""

    def denoiser(self) -> Any:
        ratio = self.pipeline.config.boundary_ratio
        if ratio is None:
            return self.pipeline.transformer
        experts = (self.pipeline.transformer, self.pipeline.transformer_2)
        if None in experts:
            raise ModelError(
                f"a boundary at {ratio} divides the noise levels between two transformers, and there is one.",
                field="boundary_ratio",
                remedy="give the folder with transformer and transformer_2.",
            )
        return Experts(*experts, boundary=ratio * TRAIN_STEPS)

    def denoisers(self) -> Mapping[str, Any]:
        return self.bare.by_name() if isinstance(self.bare, Experts) else {self.component: self.bare}

    def settings(self) -> tuple[object, ...]:
        return (self.pipeline.config.boundary_ratio, self.pipeline.config.expand_timesteps)

    def process(self) -> Process:
        return flow_process(self.pipeline.scheduler)

    def native_size(self) -> ClipSize:
        if self.pipeline.config.expand_timesteps:
            return ClipSize(height=704, width=1280, frames=121, fps=24.0)  # TI2V-5B
        return ClipSize(height=480, width=832, frames=81, fps=16.0)  # the pipeline's defaults

    def multiples(self) -> tuple[int, int]:
        return self.pipeline.vae_scale_factor_temporal, self.pipeline.vae_scale_factor_spatial * 2

    def normalise(self, encoded: Tensor) -> Tensor:
        mean, deviation = self._statistics(encoded)
        return (encoded - mean) / deviation

    def denormalise(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        return latents / (1.0 / deviation) + mean

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeds, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=self._tokens(), device=self.device
        )
        return {"prompt_embeds": embeds}

    def empty_condition(self) -> dict[str, Tensor]:
        return self.encode_prompts([""])

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        (embeds,) = self.cast(condition, "prompt_embeds")
        timestep = time_N.to(self.device, torch.float32) * TRAIN_STEPS
        if self.pipeline.config.expand_timesteps:
            timestep = timestep[:, None].expand(-1, noisy_N[0, 0, :, ::2, ::2].numel())
        with self.precision():
            output = self.module(
                hidden_states=noisy_N.to(self.device, self.input_dtype),
                timestep=timestep,
                encoder_hidden_states=embeds,
                return_dict=False,
            )[0]
        return output.float()

    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        if guidance is not None:
            options = {**options, "guidance_scale": guidance}
        return self.pipeline(prompts, max_sequence_length=self._tokens(), **options).frames

    def _tokens(self) -> int:
        # The zeros behind a text are attended to as well: a model trained on shorter rows must be given such.
        return min(MAX_TOKENS, self.pipeline.tokenizer.model_max_length)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.pipeline.vae.config
        mean, deviation = like.new_tensor(config.latents_mean), like.new_tensor(config.latents_std)
        return mean.view(1, -1, 1, 1, 1), deviation.view(1, -1, 1, 1, 1)
