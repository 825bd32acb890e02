"""`VideoModel`: what every video pipeline of diffusers is to the rest of the house.

A family is one final class in its own file. It answers the abstract questions below; what clips have in common stands
here once, what all pipelines have in common in `pipeline_model.py`.

Shape legend: N clips, C channels, f x h x w latents of F frames of H x W pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import MediaError, ModelError
from penchant.feedback.clip import Clip
from penchant.feedback.groups import Candidate
from penchant.models.clips import SIZE_FILE, ClipSize, frame_clip
from penchant.models.latents import posterior_noise
from penchant.models.pipeline_model import PipelineModel, check_rows

__all__ = ["SIZE_FILE", "ClipSize", "VideoModel"]


class VideoModel(PipelineModel):
    """A loaded text-to-video pipeline whose denoiser trains.

    Attributes:
        clip_size: what it trains on and samples: the policy's wishes, else `clip_size.json` of its folder, else what
            its family was made for.
    """

    modality: ClassVar[str] = "clip"
    component: ClassVar[str] = "transformer"
    clip_size: ClipSize

    # What a family answers.

    @abstractmethod
    def native_size(self) -> ClipSize:
        """The size that the family's published models were made for."""

    @abstractmethod
    def multiples(self) -> tuple[int, int]:
        """(what frames - 1 must be a multiple of, what height and width must be multiples of)."""

    @abstractmethod
    def normalise(self, encoded: Tensor) -> Float[Tensor, "N C f h w"]:
        """What the denoiser is trained on, from what the VAE encodes."""

    @abstractmethod
    def denormalise(self, latents: Float[Tensor, "N C f h w"]) -> Tensor:
        """What the VAE decodes; the inverse of `normalise`, in the order of operations of the pipeline."""

    # What most families share.

    def decode_pixels(self, encoded: Tensor) -> Float[Tensor, "N 3 F H W"]:
        """The VAE's decoder."""
        return self.pipeline.vae.decode(encoded, return_dict=False)[0]

    # What all families share.

    def settle(self) -> None:
        """Set the size of clips.

        Raises:
            ModelError: the latents would not be whole.
        """
        folder, spec = self.pipeline.config.get("_name_or_path"), self.spec
        size = (ClipSize.read(Path(folder)) if folder else None) or self.native_size()
        self.clip_size = replace(
            size,
            height=size.height if spec.resolution is None else spec.resolution,
            width=next(side for side in (spec.width, spec.resolution, size.width) if side is not None),
            frames=size.frames if spec.frames is None else spec.frames,
            fps=size.fps if spec.fps is None else spec.fps,
        )
        in_time, in_space = self.multiples()
        for name in ("height", "width"):
            side = getattr(self.clip_size, name)
            if side % in_space:
                raise ModelError(
                    f"clips with a {name} of {side} do not fit: it must be a multiple of {in_space}.",
                    field="resolution" if name == "height" else "width",
                    remedy=f"use {max(in_space, side // in_space * in_space)}.",
                )
        if (frames := self.clip_size.frames) % in_time != 1 % in_time:
            raise ModelError(
                f"{frames} frames do not fit: it must be one more than a multiple of {in_time}.",
                field="frames",
                remedy=f"use {(frames - 1) // in_time * in_time + 1}.",
            )

    def size_name(self) -> object:
        """The size of clips."""
        return self.clip_size

    def size_options(self) -> dict[str, Any]:
        """Height, width and frames."""
        size = self.clip_size
        return {"height": size.height, "width": size.width, "num_frames": size.frames}

    def keep_size(self, folder: Path) -> None:
        """Write `clip_size.json`, so that the saved model is asked for what it was trained on."""
        self.clip_size.write(folder)

    def decode(self, candidate: Candidate) -> Clip:
        """The clip of a candidate.

        Raises:
            ModelError: it is a picture.
            MediaError: it cannot be decoded.
        """
        from penchant.feedback.video_files import decode_clip, is_clip

        assert candidate.media is not None
        data = candidate.media.bytes()
        if candidate.media.mime.startswith("image/") and not is_clip(data):
            raise self.stranger(candidate, "a picture", "an image model")
        try:
            return decode_clip(data, fps=candidate.settings.get("fps"))[0]
        except MediaError as error:
            problem = f"candidate {candidate.id[:12]}: {error.problem}"
            raise MediaError(problem, file=error.file or candidate.media.path, remedy=error.remedy) from error

    def encode_samples(
        self, samples: Sequence[Clip], *, ids: Sequence[str], flips: Sequence[bool], seed: int
    ) -> dict[str, Tensor]:
        """`encode_clips`."""
        return self.encode_clips(samples, ids=ids, flips=flips, seed=seed)

    @torch.no_grad()
    def encode_clips(
        self, clips: Sequence[Clip], *, ids: Sequence[str], flips: Sequence[bool] | None = None, seed: int = 0
    ) -> dict[str, Tensor]:
        """Latents of clips.

        A latent is a sample of the VAE's posterior whose noise is counted by (seed, id). Clips go through the VAE one
        at a time: a latent then has the same bits in every batch, and memory asks for it anyway.

        Args:
            clips: N clips of any size and rate.
            ids: content ids, one a clip.
            flips: which clips to mirror; a group's candidates should share it.
            seed: seed of the posterior's noise.

        Returns:
            "latents" float32 [N, C, f, h, w], as the denoiser expects them.

        Raises:
            MediaError: a clip is too short.
        """
        flips = [False] * len(clips) if flips is None else flips
        check_rows("clips", clips, ids, flips)
        vae, latents = self.pipeline.vae, []
        for clip, name, flip in zip(clips, ids, flips, strict=True):
            pixels = frame_clip(clip, self.clip_size, name=name, flip=flip)
            posterior = vae.encode(pixels[None].to(vae.device, torch.float32)).latent_dist
            noise = posterior_noise(tuple(posterior.mean.shape), seed=seed, name=name).to(vae.device)
            latents.append(self.normalise(posterior.mean + posterior.std * noise))
        return {"latents": torch.cat(latents)}

    def decoded_pixels(self, latents: Float[Tensor, "N C f h w"]) -> Float[Tensor, "N 3 F H W"]:
        """Pixels, about [-1, 1], of latents, differentiable in them.

        Decoded in float32 whatever the autocast, one at a time.
        """
        device = self.pipeline.vae.device
        with torch.autocast(device.type, enabled=False):
            rows = [self.denormalise(row.to(device)) for row in latents.float().split(1)]
            return torch.cat([self.decode_pixels(row) for row in rows])

    @torch.no_grad()
    def decode_latents(self, latents: Float[Tensor, "N C f h w"]) -> list[Clip]:
        """Clips of latents; decoded in float32, one at a time."""
        clips = []
        for row in latents.split(1):
            pixels = self.decoded_pixels(row)
            values = self.pipeline.video_processor.postprocess_video(pixels, output_type="np")[0]
            clips.append(Clip(frames=(values * 255).round().astype(np.uint8), fps=self.clip_size.fps))
        return clips
