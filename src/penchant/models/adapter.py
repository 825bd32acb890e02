"""`ImageModel`: what every image pipeline of diffusers is to the rest of the house.

A family is one final class in its own file. It names its trainable component and answers the abstract questions below;
everything that pipelines have in common stands here once. N is the number of rows of a call.
"""

from __future__ import annotations

import contextlib
import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.feedback.groups import Candidate, Prompt
from penchant.feedback.media import decode_image
from penchant.models import lora
from penchant.models.fingerprint import base_weights, fingerprint
from penchant.models.images import Framing, frame
from penchant.models.latents import denormalise, normalise, posterior_noise
from penchant.models.process import Process
from penchant.models.spec import Policy
from penchant.types import Denoiser


class ImageModel(Denoiser):
    """A loaded text-to-image pipeline whose denoiser trains.

    Attributes:
        pipeline: the diffusers pipeline; text encoders and VAE are frozen, the VAE in float32.
        bare: the denoiser itself.
        module: what `denoise` calls: `bare`, or the distributed wrapper that a loop puts here.
        spec: the `Policy` it was loaded from.
        resolution: side in pixels of training and sampling.
        has_adapters: whether a LoRA adapter trains (the reference is then the model with adapters off).
    """

    component: ClassVar[str]
    """Name of the denoiser in the pipeline: "unet" or "transformer"."""

    def __init__(self, pipeline: Any, spec: Policy) -> None:
        self.pipeline, self.spec = pipeline, spec
        self.has_adapters = False
        self.bare: Any = getattr(pipeline, self.component)
        self.module: nn.Module = self.bare
        self.compute_dtype: torch.dtype = getattr(torch, spec.dtype)
        pipeline.set_progress_bar_config(disable=True)
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(part is self.bare)
        # Large shallow pictures encode faster with channels last, by a tenth or more as the processor goes. The rest
        # keeps its layout: denoisers are slower with it, and the decoder is to give the bits of the stock pipeline.
        pipeline.vae.encoder.to(memory_format=torch.channels_last)
        self.resolution: int = spec.resolution or self.native_resolution()
        multiple = pipeline.vae_scale_factor * self.latent_multiple()
        if self.resolution % multiple:
            raise ModelError(
                f"a resolution of {self.resolution} is no multiple of {multiple}.",
                field="resolution",
                remedy=f"use {max(multiple, self.resolution // multiple * multiple)}.",
            )
        process = self.process()
        self.prediction, self.alphas_cumprod, self.shift = process.prediction, process.alphas_cumprod, process.shift
        self._unconditional: Mapping[str, Tensor] | None = None

    # What a family answers.

    @abstractmethod
    def process(self) -> Process:
        """Prediction type and schedule that the model was trained with."""

    @abstractmethod
    def native_resolution(self) -> int:
        """Side in pixels that the model was made for."""

    @abstractmethod
    def latent_multiple(self) -> int:
        """What a latent side must be a multiple of."""

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Condition of each prompt, tensors [N, ...], without gradient."""

    @abstractmethod
    def empty_condition(self) -> dict[str, Tensor]:
        """Condition, each [1, ...], that the pipeline guides away from."""

    @abstractmethod
    def micro_conditioning(self, framings: Sequence[Framing]) -> dict[str, Tensor]:
        """Tensors [N, ...] a candidate carries beside its latents; most families have none."""

    @abstractmethod
    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        """Call the pipeline with `options` and bring its latents to [N, C, h, w]; None means its own guidance."""

    # What all families share.

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self.bare.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Move every part of the pipeline, in place."""
        self.pipeline.to(device)
        self._unconditional = None
        return self

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The weights that train, all in float32: the adapter's, or every weight of the denoiser."""
        return [p for p in self.module.parameters() if p.requires_grad]

    def add_lora(self, rank: int, *, alpha: float | None = None, targets: Sequence[str], seed: int = 0) -> None:
        """Freeze the denoiser and train a LoRA adapter of `rank` in the layers named by `targets`."""
        if self.has_adapters:
            raise ModelError("the model already has an adapter.", field="lora")
        self._cast_frozen()
        lora.add(self.bare, rank=rank, alpha=alpha, targets=tuple(targets), seed=seed)
        self.has_adapters = True

    def load_lora(self, folder: str | Path) -> None:
        """Freeze the denoiser and continue from the LoRA adapter saved in `folder`."""
        self._cast_frozen()
        lora.load(self.pipeline, self.component, str(folder))
        self.has_adapters = True

    def save(self, folder: str | Path) -> None:
        """Write an ordinary diffusers LoRA folder, or, when all weights train, an ordinary pipeline folder."""
        if self.has_adapters:
            lora.save(self.pipeline, self.component, str(folder))
        else:
            self.pipeline.save_pretrained(str(folder), safe_serialization=True)

    def frozen_copy(self) -> Self:
        """The model as it now stands, with a denoiser of its own that never trains.

        The pipeline is shared: the copy answers `denoise`, while `generate` and `save` still speak for the policy.
        """
        twin = copy.copy(self)
        twin.bare = twin.module = copy.deepcopy(self.bare).eval().requires_grad_(False)
        return twin

    def fingerprint(self, *, adapters: bool = True) -> str:
        """Name of the denoiser's weights; with `adapters=False` of the base alone, whatever adapter it carries."""
        named = dict(self.bare.state_dict() if adapters else base_weights(self.bare))
        if self.alphas_cumprod is not None:
            named["alphas_cumprod"] = self.alphas_cumprod
        scales = lora.scales(self.bare) if adapters else ()
        return fingerprint(named.items(), type(self).__name__, self.prediction, self.compute_dtype, self.shift, *scales)

    def encoder_fingerprint(self) -> str:
        """Name of everything that `encode_images` and `encode_prompts` depend on: the key of an encoding cache."""
        parts = {k: v for k, v in self.pipeline.components.items() if isinstance(v, nn.Module) and k != self.component}
        named = chain.from_iterable(((f"{k}.{n}", t) for n, t in v.state_dict().items()) for k, v in parts.items())
        return fingerprint(named, type(self).__name__, self.resolution)

    def notes(self) -> list[str]:
        """What a run says aloud about the model: nothing."""
        return []

    def sampler(self) -> str:
        """How `generate` walks from noise to a picture, in words: part of the key of kept samples."""
        scheduler = self.pipeline.scheduler
        settings = sorted((k, v) for k, v in scheduler.config.items() if not k.startswith("_"))
        return f"{type(scheduler).__name__} {settings}"

    def encode_candidates(
        self, candidates: Sequence[Candidate], *, flips: Sequence[bool], seed: int
    ) -> list[dict[str, Tensor]]:
        """What a batch holds of each candidate: latents and micro-conditioning, on the CPU.

        Raises:
            ModelError: a candidate is text.
            MediaError: a picture cannot be decoded.
        """
        if texts := [c.id[:12] for c in candidates if c.media is None]:
            raise ModelError(
                f"candidate {texts[0]} is text, and {type(self).__name__} learns from pictures.",
                field="feedback.path",
                remedy="use feedback on pictures, or a language model.",
            )
        images = [decode_image(c.media.bytes())[0] for c in candidates if c.media is not None]
        encoded = self.encode_images(images, ids=[c.id for c in candidates], flips=flips, seed=seed)
        return [{name: value[i].cpu() for name, value in encoded.items()} for i in range(len(candidates))]

    def encode_asked(self, prompts: Sequence[Prompt]) -> list[dict[str, Tensor]]:
        """What a batch holds of each prompt, on the CPU; a conversation counts as its plain text."""
        encoded = self.encode_prompts([prompt.text for prompt in prompts])
        return [{name: value[i].cpu() for name, value in encoded.items()} for i in range(len(prompts))]

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
        if not len(images) == len(ids) == len(flips):
            raise ModelError(f"{len(images)} images came with {len(ids)} ids and {len(flips)} flips.", field="ids")
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

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of latents [N, C, h, w]; decoded in float32, one at a time."""
        vae = self.pipeline.vae
        images: list[Image.Image] = []
        for row in latents.float().split(1):
            pixels = vae.decode(denormalise(row.to(vae.device), vae.config), return_dict=False)[0]
            images += self.pipeline.image_processor.postprocess(pixels, output_type="pil")
        return images

    def unconditional(self) -> Mapping[str, Tensor]:
        """The condition of the empty prompt, each [1, ...]: what the pipeline itself guides away from."""
        if self._unconditional is None:
            self._unconditional = self.empty_condition()
        return self._unconditional

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        steps: int | None = None,
        guidance: float | None = None,
        batch_size: int = 4,
    ) -> list[Image.Image]:
        """Sample one picture a prompt through the diffusers pipeline.

        Every picture has its own generator, so it depends on its (prompt, seed) and not on what shares its batch.

        Args:
            prompts: N prompts.
            seeds: N seeds.
            steps: denoising steps; None means the pipeline's default.
            guidance: guidance scale, 1.0 turns guidance off; None means the pipeline's default.
            batch_size: pictures denoised at once.
        """
        if len(prompts) != len(seeds):
            raise ModelError(f"{len(prompts)} prompts came with {len(seeds)} seeds.", field="seeds")
        images: list[Image.Image] = []
        with self._sampling():
            for start in range(0, len(prompts), batch_size):
                rows = slice(start, start + batch_size)
                options: dict[str, Any] = {
                    "generator": [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds[rows]],
                    "height": self.resolution,
                    "width": self.resolution,
                    "output_type": "latent",
                }
                if steps is not None:
                    options["num_inference_steps"] = steps
                images += self.decode_latents(self.sample_latents(list(prompts[rows]), guidance, options))
        return images

    # For the families.

    @property
    def input_dtype(self) -> torch.dtype:
        """Type of the tensors that go into the denoiser: `compute_dtype` under an adapter, float32 otherwise."""
        return self.compute_dtype if self.has_adapters else torch.float32

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast when float32 weights train in a lower `compute_dtype`; otherwise nothing."""
        if self.input_dtype == self.compute_dtype:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute_dtype)

    def cast(self, tensors: Mapping[str, Tensor], *names: str) -> list[Tensor]:
        """The named tensors in the denoiser's type and place."""
        return [tensors[name].to(self.device, self.input_dtype) for name in names]

    def _cast_frozen(self) -> None:
        if self.bare.dtype != self.compute_dtype:
            self.bare.to(self.compute_dtype)

    @contextmanager
    def _sampling(self) -> Iterator[None]:
        was_training = self.bare.training
        self.bare.eval()
        try:
            with self.precision():
                yield
        finally:
            self.bare.train(was_training)
