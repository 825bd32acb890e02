"""Rewards on noised latents: what Flow-NRG steers by (VideoAlign, arXiv 2501.13918, eq. 11 and appendix C).

A sample becomes latents by a generator's own encoder, a pair gets one time and noise on both sides, and a network that
is told the time says which of the two was better. Everything else is that of other reward models.

What looks at the latents:

1. `GeneratorTrunk`: the first layers of the generator's denoiser, trained in full (the paper's).
2. `LatentNetwork`: a small convolutional network of its own.

What the paper leaves open, and what we take: how many layers ("few, early": 2), the head (of every token a small
network, then their mean), the law of t (uniform before the model's shift). `noise="shared"` is the paper's: the same
noise on both sides. Then a pair can be told apart at any t, gradients do not fall towards noise, and guidance throws
samples off the data; with "independent" noise the reward is calibrated (`reproduce/flow_toy.py`), so that is the
default. "clean" is the paper's ablation: no noise at all.

Shapes: N rows, B pairs, L tokens, W width of the head's input, `...` a latent.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from penchant.errors import ModelError, RecipeError
from penchant.feedback.clip import Clip
from penchant.likelihoods import gaussian
from penchant.likelihoods.randomness import generator
from penchant.reward_models.network import Backbone, BackboneSpec, Dimension, Tokens
from penchant.reward_models.trunks import trunk

Noise = Literal["independent", "shared", "clean"]

CONDITION, MICRO = "condition/", "micro/"
# Prompts whose encodings are kept: those of video models are megabytes.
_PROMPTS = 256

# From (noisy latents, time, condition, micro-conditioning), each [N, ...], to states [N, L, width].
Body = Callable[[Tensor, Tensor, Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]


@final
class LatentBackbone(Backbone):
    """From noised latents to tokens; `model` is the generator, whose encoders are used and whose weights stay.

    Rows hold "latents", what `model.encode_prompts` gives under "condition/", and micro-conditioning under "micro/".
    In training "time" and "noise" come with them; with "time" alone the latents are noised already; with neither they
    are data.
    """

    def __init__(self, model: Any, body: nn.Module, *, inside: int, width: int, noise: Noise) -> None:
        super().__init__()
        self.width, self.noise = width, noise
        # The generator is no part of what trains, so it is hidden from PyTorch.
        self._generator = (model,)
        self.body = body
        self.read = nn.Sequential(nn.LayerNorm(inside), nn.Linear(inside, width), nn.SiLU(), nn.Linear(width, width))
        self._encoded = lru_cache(maxsize=_PROMPTS)(self._encode)

    @property
    def model(self) -> Any:
        """The generator."""
        return self._generator[0]

    def prepare(self, sample: Any) -> dict[str, Tensor]:
        """Latents [...] and micro-conditioning; the posterior's noise is a function of the sample's pixels."""
        found = self.model.encode_samples([sample], ids=[_content(sample)], flips=[False], seed=0)
        return {name if name == "latents" else MICRO + name: value[0].cpu() for name, value in found.items()}

    def preparation(self) -> str:
        """The generator's encoders."""
        return str(self.model.encoder_fingerprint())

    def collate(self, prompts: Sequence[str], prepared: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Rows of data, without noise."""
        rows = {name: torch.stack([p[name] for p in prepared]) for name in prepared[0]}
        conditions = [self._encoded(prompt) for prompt in prompts]
        return rows | {CONDITION + name: torch.stack([c[name] for c in conditions]) for name in conditions[0]}

    def _encode(self, prompt: str) -> dict[str, Tensor]:
        return {name: value[0].cpu() for name, value in self.model.encode_prompts([prompt]).items()}

    def drawn(self, rows: dict[str, Tensor], pairs: Sequence[tuple[str, int]], *, seed: int) -> dict[str, Tensor]:
        """One time a pair, and noise as `noise` says."""
        if self.noise == "clean":
            return rows
        shape = (1 if self.noise == "shared" else 2, *rows["latents"].shape[1:])
        noise_B2 = torch.stack([self._noise(seed, epoch, name, shape).expand(2, *shape[1:]) for name, epoch in pairs])
        uniform_B = torch.tensor([generator(seed, epoch, name, "time").random() for name, epoch in pairs])
        return rows | {"noise": torch.cat([noise_B2[:, 0], noise_B2[:, 1]]), "time": self._time(uniform_B).repeat(2)}

    def _noise(self, seed: int, epoch: int, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(generator(seed, epoch, name, "noise").standard_normal(shape, dtype=np.float32))

    def _time(self, uniform_B: Tensor) -> Tensor:
        """Times in the generator's own convention."""
        if self.model.alphas_cumprod is None:
            return gaussian.shift_time(uniform_B.float(), self.model.shift)
        return (uniform_B * len(self.model.alphas_cumprod)).long()

    def forward(self, rows: Mapping[str, Tensor]) -> Tokens:
        latents_N, count = rows["latents"], len(rows["latents"])
        flow = self.model.alphas_cumprod is None
        zero_N = torch.zeros(count, dtype=torch.float32 if flow else torch.long, device=latents_N.device)
        # A reward on clean latents knows no time, and takes noised ones for data: the ablation.
        time_N = zero_N if self.noise == "clean" else rows.get("time", zero_N)
        if "noise" in rows:
            latents_N = gaussian.add_noise(latents_N, rows["noise"], *self.coefficients(time_N))
        condition, micro = (
            {k.removeprefix(start): v for k, v in rows.items() if k.startswith(start)} for start in (CONDITION, MICRO)
        )
        state_NLW = self.read(self.body(latents_N, time_N, condition, micro))
        return Tokens(
            state_NLW=state_NLW,
            mask_NL=torch.ones(state_NLW.shape[:2], dtype=torch.bool, device=state_NLW.device),
            place_ND=torch.empty(count, 0, dtype=torch.long, device=state_NLW.device),
        )

    def coefficients(self, time_N: Tensor) -> tuple[Tensor, Tensor]:
        """(a, s) of the generator's times."""
        if self.model.alphas_cumprod is None:
            return gaussian.flow_coefficients(time_N)
        return gaussian.ddpm_coefficients(self.model.alphas_cumprod.to(time_N.device), time_N)

    def keep(self, folder: Path) -> None:
        """The generator keeps its encoders itself."""


def _content(sample: Any) -> str:
    pixels = sample.frames if isinstance(sample, Clip) else np.asarray(sample.convert("RGB"))
    return blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class LatentSpec(BackboneSpec):
    """What the networks on latents share; `RewardRecipe.pooling` is "mean" with them.

    Attributes:
        generator: pipeline folder, hub id or `zoo:NAME` of the model whose latents are judged.
        noise: on the two sides of a pair, see the top of this file.
        width: width of the small network that reads every token.
    """

    cite: ClassVar[tuple[str, ...]] = ("liu2025videoalign",)

    generator: str = "zoo:clips"
    noise: Noise = "independent"
    width: int = 128

    def build(self, dimensions: Sequence[Dimension], *, prompts: Sequence[str], folder: Path | None) -> Backbone:
        """Loads the generator; see `attached`."""
        from penchant.models import load

        if dimensions:
            raise RecipeError("latents have no special tokens.", field="pooling", remedy='set pooling to "mean".')
        model = load(self.generator)
        if model.modality in ("text", "tune"):
            raise ModelError(
                "is a language model and has no latents.", file=self.generator, remedy="give an image or video model."
            )
        return self.attached(model)

    @abstractmethod
    def attached(self, model: Any) -> LatentBackbone:
        """The backbone on the latents of a generator that is loaded already."""


@dataclass(frozen=True, kw_only=True)
class GeneratorTrunk(LatentSpec):
    """The first layers of the generator's denoiser, trained in full.

    Attributes:
        layers: how many blocks; of a UNet, how many stages of its way down.
    """

    layers: int = 2

    def attached(self, model: Any) -> LatentBackbone:
        """The trunk begins as a copy of the generator's layers."""
        body, inside = trunk(model, self.layers)
        return LatentBackbone(model, body, inside=inside, width=self.width, noise=self.noise)


@dataclass(frozen=True, kw_only=True)
class LatentNetwork(LatentSpec):
    """A small residual network of convolutions that is told time and prompt.

    Attributes:
        channels: width of the convolutions, a multiple of 8.
        layers: residual blocks.
    """

    channels: int = 64
    layers: int = 3

    def attached(self, model: Any) -> LatentBackbone:
        """Fresh weights."""
        from penchant.models.blank import blank

        latents, text = blank(model)["latents"], model.unconditional()["prompt_embeds"]
        backbone = LatentBackbone(model, nn.Identity(), inside=self.channels, width=self.width, noise=self.noise)
        backbone.body = _Convolutions(
            latents.shape[1],
            text.shape[-1],
            dimensions=latents.dim() - 2,
            channels=self.channels,
            layers=self.layers,
            coefficients=backbone.coefficients,
        )
        return backbone


@final
class _Convolutions(nn.Module):
    def __init__(
        self,
        inside: int,
        text: int,
        *,
        dimensions: int,
        channels: int,
        layers: int,
        coefficients: Callable[[Tensor], tuple[Tensor, Tensor]],
    ) -> None:
        super().__init__()
        self.coefficients = coefficients
        convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
        self.enter = convolution(inside, channels, 3, padding=1)
        self.text = nn.Sequential(nn.LayerNorm(text), nn.Linear(text, channels))
        self.clock = nn.Linear(2 * len(_FREQUENCIES), channels)
        self.told = nn.ModuleList(nn.Linear(channels, 2 * channels) for _ in range(layers))
        self.first = nn.ModuleList(convolution(channels, channels, 3, padding=1) for _ in range(layers))
        self.second = nn.ModuleList(convolution(channels, channels, 3, padding=1) for _ in range(layers))
        self.norms = nn.ModuleList(nn.GroupNorm(8, channels) for _ in range(layers))

    def forward(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], micro: Mapping[str, Tensor]
    ) -> Tensor:
        a_N, s_N = self.coefficients(time_N)
        angle = (s_N / (a_N + s_N)).float()[:, None] * torch.tensor(_FREQUENCIES, device=noisy_N.device)
        told = self.clock(torch.cat([angle.sin(), angle.cos()], -1))
        told = nn.functional.silu(told + self.text(_mean_of_text(condition["prompt_embeds"].to(told))))
        state = self.enter(noisy_N)
        for first, second, norm, tell in zip(self.first, self.second, self.norms, self.told, strict=True):
            scale, shift = tell(told).reshape(len(told), -1, *[1] * (state.dim() - 2)).chunk(2, dim=1)
            inner = first(nn.functional.silu(norm(state))) * (1 + scale) + shift
            state = state + second(nn.functional.silu(inner))
        return state.flatten(2).transpose(1, 2)


def _mean_of_text(embeds_NTD: Tensor) -> Tensor:
    """Mean over the tokens [N, D]; those beyond a text's end are zeros in some families, and then do not count."""
    there_NT = (embeds_NTD != 0).any(-1, keepdim=True)
    return embeds_NTD.sum(1) / there_NT.sum(1).clamp(min=1)


# Of the noise level in [0, 1]: from half a turn to sixteen.
_FREQUENCIES = tuple(np.pi * 2.0**k for k in range(6))
