"""`ImageModel`: what every image pipeline of diffusers is to the rest of the house.

A family is one final class in its own file. It names its trainable component and answers the abstract questions below;
what pictures have in common stands here once, what all pipelines have in common in `pipeline_model.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from penchant.errors import ModelError
from penchant.feedback.groups import Candidate
from penchant.feedback.media import decode_image
from penchant.models.images import Framing, frame
from penchant.models.latents import denormalise, normalise, posterior_noise
from penchant.models.pipeline_model import PipelineModel, check_rows


class ImageModel(PipelineModel):
    """A loaded text-to-image pipeline whose denoiser trains.

    Attributes:
        resolution: side in pixels of training and sampling.
    """

    modality: ClassVar[str] = "picture"
    resolution: int

    # What a family answers.

    @abstractmethod
    def native_resolution(self) -> int:
        """Side in pixels that the model was made for."""

    @abstractmethod
    def latent_multiple(self) -> int:
        """What a latent side must be a multiple of."""

    @abstractmethod
    def micro_conditioning(self, framings: Sequence[Framing]) -> dict[str, Tensor]:
        """Tensors [N, ...] a candidate carries beside its latents; most families have none."""

    # What all families share.

    def settle(self) -> None:
        """Set the resolution.

        Raises:
            ModelError: the latents' sides would not be whole, or the policy wishes for clips.
        """
        for name in ("width", "frames", "fps"):
            if getattr(self.spec, name) is not None:
                raise ModelError(
                    f"{type(self).__name__} makes square pictures.",
                    field=name,
                    remedy="leave it out, or use a video model.",
                )
        # Large shallow pictures encode faster with channels last, by a tenth or more as the processor goes. The rest
        # keeps its layout: denoisers are slower with it, and the decoder is to give the bits of the stock pipeline.
        self.pipeline.vae.encoder.to(memory_format=torch.channels_last)
        self.resolution = self.spec.resolution or self.native_resolution()
        multiple = self.pipeline.vae_scale_factor * self.latent_multiple()
        if self.resolution % multiple:
            raise ModelError(
                f"a resolution of {self.resolution} is no multiple of {multiple}.",
                field="resolution",
                remedy=f"use {max(multiple, self.resolution // multiple * multiple)}.",
            )

    def size_name(self) -> object:
        """The resolution."""
        return self.resolution

    def size_options(self) -> dict[str, Any]:
        """Height and width."""
        return {"height": self.resolution, "width": self.resolution}

    def decode(self, candidate: Candidate) -> Image.Image:
        """The picture of a candidate.

        Raises:
            ModelError: it is a clip; its first frame would not be what was judged.
            MediaError: it cannot be decoded.
        """
        from penchant.feedback.video_files import is_clip

        assert candidate.media is not None
        data = candidate.media.bytes()
        if is_clip(data):
            raise self.stranger(candidate, "a clip", "a video model")
        return decode_image(data)[0]

    def encode_samples(
        self, samples: Sequence[Image.Image], *, ids: Sequence[str], flips: Sequence[bool], seed: int
    ) -> dict[str, Tensor]:
        """`encode_images`."""
        return self.encode_images(samples, ids=ids, flips=flips, seed=seed)

    @torch.no_grad()
    def encode_images(
        self, images: Sequence[Image.Image], *, ids: Sequence[str], flips: Sequence[bool] | None = None, seed: int = 0
    ) -> dict[str, Tensor]:
        """Latents and micro-conditioning of pictures.

        A latent is a sample of the VAE's posterior whose noise is counted by (seed, id). Pictures go through the VAE
        one at a time: a latent then has the same bits in every batch, and at 1024 pixels memory asks for it anyway.

        Args:
            images: N pictures of any size and mode.
            ids: content ids, one a picture.
            flips: which pictures to mirror; a group's candidates should share it.
            seed: seed of the posterior's noise.

        Returns:
            "latents" float32 [N, C, h, w], scaled as the denoiser expects, and the family's micro-conditioning
            [N, ...].
        """
        flips = [False] * len(images) if flips is None else flips
        check_rows("images", images, ids, flips)
        vae, latents, framings = self.pipeline.vae, [], []
        for image, name, flip in zip(images, ids, flips, strict=True):
            pixels, framing = frame(image, self.resolution, flip=flip)
            rows = pixels[None].to(vae.device, torch.float32, memory_format=torch.channels_last)
            posterior = vae.encode(rows).latent_dist
            noise = posterior_noise(tuple(posterior.mean.shape), seed=seed, name=name).to(vae.device)
            latents.append(normalise(posterior.mean + posterior.std * noise, vae.config))
            framings.append(framing)
        micro = {key: value.to(vae.device) for key, value in self.micro_conditioning(framings).items()}
        return {"latents": torch.cat(latents), **micro}

    def decoded_pixels(self, latents: Tensor) -> Tensor:
        """Pixels [N, 3, H, W], about [-1, 1], of latents [N, C, h, w], differentiable in them.

        Decoded in float32 whatever the autocast, one at a time.
        """
        vae = self.pipeline.vae
        rows = [denormalise(row.to(vae.device), vae.config) for row in latents.float().split(1)]
        with torch.autocast(vae.device.type, enabled=False):
            return torch.cat([vae.decode(row, return_dict=False)[0] for row in rows])

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of latents [N, C, h, w]; decoded in float32, one at a time."""
        images: list[Image.Image] = []
        for row in latents.split(1):
            images += self.pipeline.image_processor.postprocess(self.decoded_pixels(row), output_type="pil")
        return images
