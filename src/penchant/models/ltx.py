"""LTX-Video: a flow transformer on latents packed to tokens, with positions in seconds and pixels (arXiv 2501.00103).

It is given 1000 sigma and predicts noise - data. What it knows of the frame rate it knows from its positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.models.clips import ClipSize
from penchant.models.process import Process, flow_process
from penchant.models.video import VideoModel

TRAIN_STEPS = 1000


@final
class LTX(VideoModel):
    """Condition: "prompt_embeds" [N, 128, D] (T5) and "prompt_attention_mask" [N, 128], true on the text. Latents are
    [N, C, f, h, w] for everyone outside; packing happens here.
    """

    def process(self) -> Process:
        size, pipe = self.clip_size, self.pipeline
        frames = (size.frames - 1) // pipe.vae_temporal_compression_ratio + 1
        area = size.height * size.width // pipe.vae_spatial_compression_ratio**2
        return flow_process(pipe.scheduler, tokens=frames * area)

    def native_size(self) -> ClipSize:
        return ClipSize(height=512, width=704, frames=161, fps=25.0)  # the pipeline's defaults

    def multiples(self) -> tuple[int, int]:
        # The pipeline refuses sides that are no multiple of 32, whatever the VAE.
        return self.pipeline.vae_temporal_compression_ratio, max(32, self.pipeline.vae_spatial_compression_ratio)

    def normalise(self, encoded: Tensor) -> Tensor:
        mean, deviation, scale = self._statistics()
        return (encoded - mean) * scale / deviation

    def denormalise(self, latents: Tensor) -> Tensor:
        mean, deviation, scale = self._statistics()
        return latents * deviation / scale + mean

    def decode_pixels(self, encoded: Tensor) -> Tensor:
        # From version 0.9.1 on the decoder is told how noisy its input is; the pipeline's default is not at all.
        vae = self.pipeline.vae
        timestep = encoded.new_zeros(len(encoded)) if vae.config.timestep_conditioning else None
        return vae.decode(encoded, timestep, return_dict=False)[0]

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeds, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, device=self.device
        )
        return {"prompt_embeds": embeds, "prompt_attention_mask": mask}

    def empty_condition(self) -> dict[str, Tensor]:
        return self.encode_prompts([""])

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        (embeds,) = self.cast(condition, "prompt_embeds")
        _, _, frames, high, wide = noisy_N.shape
        space = self.pipeline.vae_spatial_compression_ratio
        with self.precision():
            output = self.module(
                hidden_states=pack(noisy_N.to(self.device, self.input_dtype), *self._patches()),
                encoder_hidden_states=embeds,
                timestep=time_N.to(self.device, torch.float32) * TRAIN_STEPS,
                encoder_attention_mask=condition["prompt_attention_mask"].to(self.device),
                num_frames=frames,
                height=high,
                width=wide,
                rope_interpolation_scale=(
                    self.pipeline.vae_temporal_compression_ratio / self.clip_size.fps,
                    space,
                    space,
                ),
                return_dict=False,
            )[0]
        return unpack(output.float(), (frames, high, wide), *self._patches())

    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        options = {**options, "frame_rate": self.clip_size.fps}
        if guidance is not None:
            options["guidance_scale"] = guidance
        size, pipe = self.clip_size, self.pipeline
        space = pipe.vae_spatial_compression_ratio
        frames = (size.frames - 1) // pipe.vae_temporal_compression_ratio + 1
        shape = (frames, size.height // space, size.width // space)
        return unpack(pipe(prompts, **options).frames, shape, *self._patches())

    def _patches(self) -> tuple[int, int]:
        return self.pipeline.transformer_temporal_patch_size, self.pipeline.transformer_spatial_patch_size

    def _statistics(self) -> tuple[Tensor, Tensor, float]:
        vae = self.pipeline.vae
        spread = (1, -1, 1, 1, 1)
        return vae.latents_mean.view(spread), vae.latents_std.view(spread), vae.config.scaling_factor


def pack(latents: Float[Tensor, "N C f h w"], in_time: int, in_space: int) -> Float[Tensor, "N L D"]:
    """Every block of `in_time` x `in_space` x `in_space` latents as one token of all its channels."""
    n, c, f, h, w = latents.shape
    blocks = latents.reshape(n, c, f // in_time, in_time, h // in_space, in_space, w // in_space, in_space)
    return blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4, 7).flatten(1, 3)


def unpack(
    tokens: Float[Tensor, "N L D"], shape: tuple[int, int, int], in_time: int, in_space: int
) -> Float[Tensor, "N C f h w"]:
    """The inverse of `pack` for latents of `shape` (f, h, w)."""
    f, h, w = shape
    blocks = tokens.reshape(len(tokens), f // in_time, h // in_space, w // in_space, -1, in_time, in_space, in_space)
    return blocks.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)
