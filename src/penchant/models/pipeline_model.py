"""`PipelineModel`: what every pipeline of diffusers is to the rest of the house, pictures and clips alike.

A modality (`adapter.py`, `video.py`) says what a sample is, a family which denoiser trains and what it takes and
returns; everything else stands here once. N is the number of rows of a call.
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
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.feedback.groups import Candidate, Prompt
from penchant.models import lora
from penchant.models.fingerprint import base_weights, fingerprint
from penchant.models.process import Process
from penchant.models.spec import Policy
from penchant.types import Denoiser


class PipelineModel(Denoiser):
    """A loaded pipeline whose denoiser trains.

    Attributes:
        pipeline: the diffusers pipeline; text encoders and VAE are frozen, the VAE in float32.
        bare: the denoiser itself.
        module: what `denoise` calls: `bare`, or the distributed wrapper that a loop puts here.
        spec: the `Policy` it was loaded from.
        has_adapters: whether a LoRA adapter trains (the reference is then the model with adapters off).
    """

    component: ClassVar[str]
    """Name of the denoiser in the pipeline: "unet" or "transformer"."""

    modality: ClassVar[str]
    """What a sample is: "picture" or "clip"."""

    def __init__(self, pipeline: Any, spec: Policy) -> None:
        self.pipeline, self.spec = pipeline, spec
        self.has_adapters = False
        self.bare: Any = self.denoiser()
        self.module: nn.Module = self.bare
        self.compute_dtype: torch.dtype = getattr(torch, spec.dtype)
        pipeline.set_progress_bar_config(disable=True)
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(False)
        self.bare.requires_grad_(True)
        self.settle()
        process = self.process()
        self.prediction, self.alphas_cumprod, self.shift = process.prediction, process.alphas_cumprod, process.shift
        self._unconditional: Mapping[str, Tensor] | None = None

    # What a modality answers.

    @abstractmethod
    def settle(self) -> None:
        """Set the size of samples from spec and pipeline, or refuse one that latents cannot have."""

    @abstractmethod
    def size_name(self) -> object:
        """The size of samples, for the key of an encoding cache."""

    @abstractmethod
    def decode(self, candidate: Candidate) -> Any:
        """The sample that a candidate with media holds, or a `ModelError` if it is of another modality."""

    @abstractmethod
    def encode_samples(
        self, samples: Sequence[Any], *, ids: Sequence[str], flips: Sequence[bool], seed: int
    ) -> dict[str, Tensor]:
        """Latents and micro-conditioning [N, ...] of decoded samples."""

    @abstractmethod
    def size_options(self) -> dict[str, Any]:
        """What the pipeline is called with to sample that size."""

    @abstractmethod
    def decode_latents(self, latents: Tensor) -> list[Any]:
        """Samples of latents [N, ...]; decoded in float32, one at a time."""

    # What a family answers.

    @abstractmethod
    def process(self) -> Process:
        """Prediction type and schedule that the model was trained with."""

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Condition of each prompt, tensors [N, ...], without gradient."""

    @abstractmethod
    def empty_condition(self) -> dict[str, Tensor]:
        """Condition, each [1, ...], that the pipeline guides away from."""

    @abstractmethod
    def sample_latents(self, prompts: list[str], guidance: float | None, options: dict[str, Any]) -> Tensor:
        """Call the pipeline with `options` and bring its latents to [N, C, ...]; None means its own guidance."""

    # What most families share.

    def denoiser(self) -> Any:
        """What trains: the pipeline's `component`, or several of them as one module."""
        return getattr(self.pipeline, self.component)

    def denoisers(self) -> Mapping[str, Any]:
        """What trains, by its name in the pipeline."""
        return {self.component: self.bare}

    def settings(self) -> tuple[object, ...]:
        """What beside weights and schedule decides the denoiser's answers: nothing."""
        return ()

    def keep_size(self, folder: Path) -> None:
        """Write beside a saved pipeline what the pipeline does not say of its samples' size: nothing."""

    def notes(self) -> list[str]:
        """What a run says aloud about the model: nothing."""
        return []

    # What all share.

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
        for i, part in enumerate(self.denoisers().values()):
            lora.add(part, rank=rank, alpha=alpha, targets=tuple(targets), seed=seed + i)
        self.has_adapters = True

    def load_lora(self, folder: str | Path) -> None:
        """Freeze the denoiser and continue from the LoRA adapter saved in `folder`."""
        self._cast_frozen()
        for component in self.denoisers():
            lora.load(self.pipeline, component, str(folder))
        self.has_adapters = True

    def save(self, folder: str | Path) -> None:
        """Write an ordinary diffusers LoRA folder, or, when all weights train, an ordinary pipeline folder."""
        if self.has_adapters:
            for component in self.denoisers():
                lora.save(self.pipeline, component, str(folder))
        else:
            self.pipeline.save_pretrained(str(folder), safe_serialization=True)
            self.keep_size(Path(folder))

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
        scales = [scale for part in self.denoisers().values() for scale in lora.scales(part)] if adapters else []
        context = (type(self).__name__, self.prediction, self.compute_dtype, self.shift, *scales, *self.settings())
        return fingerprint(named.items(), *context)

    def encoder_fingerprint(self) -> str:
        """Name of everything that encodings of samples and prompts depend on: the key of an encoding cache."""
        trained = self.denoisers()
        parts = {k: v for k, v in self.pipeline.components.items() if isinstance(v, nn.Module) and k not in trained}
        named = chain.from_iterable(((f"{k}.{n}", t) for n, t in v.state_dict().items()) for k, v in parts.items())
        return fingerprint(named, type(self).__name__, self.size_name())

    def sampler(self) -> str:
        """How `generate` walks from noise to a sample, in words: part of the key of kept samples."""
        scheduler = self.pipeline.scheduler
        settings = sorted((k, v) for k, v in scheduler.config.items() if not k.startswith("_"))
        return f"{type(scheduler).__name__} {settings}"

    def encode_candidates(
        self, candidates: Sequence[Candidate], *, flips: Sequence[bool], seed: int
    ) -> list[dict[str, Tensor]]:
        """What a batch holds of each candidate: latents and micro-conditioning, on the CPU.

        Raises:
            ModelError: a candidate is of another modality.
            MediaError: its file cannot be decoded, or does not suffice.
        """
        for candidate in candidates:
            if candidate.media is None:
                raise self.stranger(candidate, "text", "a language model")
        encoded = self.encode_samples(
            [self.decode(c) for c in candidates], ids=[c.id for c in candidates], flips=flips, seed=seed
        )
        return [{name: value[i].cpu() for name, value in encoded.items()} for i in range(len(candidates))]

    def stranger(self, candidate: Candidate, kind: str, reader: str) -> ModelError:
        """The refusal of a candidate of another modality, for which there is another `reader`."""
        return ModelError(
            f"candidate {candidate.id[:12]} is {kind}, and {type(self).__name__} learns from {self.modality}s.",
            field="feedback.path",
            remedy=f"use feedback on {self.modality}s, or {reader}.",
        )

    def encode_asked(self, prompts: Sequence[Prompt]) -> list[dict[str, Tensor]]:
        """What a batch holds of each prompt, on the CPU; a conversation counts as its plain text."""
        encoded = self.encode_prompts([prompt.text for prompt in prompts])
        return [{name: value[i].cpu() for name, value in encoded.items()} for i in range(len(prompts))]

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
    ) -> list[Any]:
        """Sample one picture or clip a prompt through the diffusers pipeline.

        Every sample has its own generator, so it depends on its (prompt, seed) and not on what shares its batch.

        Args:
            prompts: N prompts.
            seeds: N seeds.
            steps: denoising steps; None means the pipeline's default.
            guidance: guidance scale, 1.0 turns guidance off; None means the pipeline's default.
            batch_size: samples denoised at once.
        """
        if len(prompts) != len(seeds):
            raise ModelError(f"{len(prompts)} prompts came with {len(seeds)} seeds.", field="seeds")
        samples: list[Any] = []
        for start in range(0, len(prompts), batch_size):
            rows = slice(start, start + batch_size)
            latents_N = self.drawn_latents(prompts[rows], seeds=seeds[rows], steps=steps, guidance=guidance)
            samples += self.decode_latents(latents_N)
        return samples

    @torch.no_grad()
    def drawn_latents(
        self, prompts: Sequence[str], *, seeds: Sequence[int], steps: int | None = None, guidance: float | None = None
    ) -> Tensor:
        """Latents [N, ...] of one batch through the diffusers pipeline; arguments as `generate`'s."""
        options: dict[str, Any] = {
            "generator": [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds],
            "output_type": "latent",
            **self.size_options(),
        }
        if steps is not None:
            options["num_inference_steps"] = steps
        with self.evaluating(), self.precision():
            return self.sample_latents(list(prompts), guidance, options)

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
        for part in self.denoisers().values():
            if part.dtype != self.compute_dtype:
                part.to(self.compute_dtype)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """While it lasts, the denoiser drops nothing out."""
        was_training = self.bare.training
        self.bare.eval()
        try:
            yield
        finally:
            self.bare.train(was_training)


def check_rows(kind: str, samples: Sequence[Any], ids: Sequence[str], flips: Sequence[bool]) -> None:
    """Refuse samples that do not come with as many ids and flips.

    Raises:
        ModelError: the counts differ.
    """
    if not len(samples) == len(ids) == len(flips):
        raise ModelError(f"{len(samples)} {kind} came with {len(ids)} ids and {len(flips)} flips.", field="ids")
