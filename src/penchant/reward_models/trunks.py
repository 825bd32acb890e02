"""The first layers of a denoiser of diffusers, as a network of their own."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from penchant.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where a denoiser keeps its layers.

    Attributes:
        blocks: the attribute that lists them.
        latents: which of a block's outputs are the latents' states; None where it returns nothing else.
        unused: attributes that only what comes after the blocks needs.
    """

    blocks: str
    latents: int | None = None
    unused: tuple[str, ...] = ()


PARTS: dict[str, Part] = {
    "UNet2DConditionModel": Part(blocks="down_blocks", latents=0, unused=("mid_block", "up_blocks")),
    "SD3Transformer2DModel": Part(blocks="transformer_blocks", latents=1),
    "FluxTransformer2DModel": Part(blocks="transformer_blocks", latents=1, unused=("single_transformer_blocks",)),
    "WanTransformer3DModel": Part(blocks="blocks"),
    "LTXVideoTransformer3DModel": Part(blocks="transformer_blocks"),
    "HunyuanVideoTransformer3DModel": Part(
        blocks="transformer_blocks", latents=0, unused=("single_transformer_blocks",)
    ),
    "CogVideoXTransformer3DModel": Part(blocks="transformer_blocks", latents=0),
    "MochiTransformer3DModel": Part(blocks="transformer_blocks", latents=0),
}


class _ReachedError(Exception):
    """The last layer of a trunk has answered."""


@final
class Trunk(nn.Module):
    """From what `Denoiser.denoise` takes to the states [N, L, inside] after the last layer that is kept."""

    def __init__(self, model: Any, layers: nn.Module, part: Part) -> None:
        super().__init__()
        self.layers, self._part = layers, part
        twin = copy.copy(model)
        twin.bare = twin.module = layers
        twin.has_adapters = False
        self._model = (twin,)

    def forward(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], micro: Mapping[str, Tensor]
    ) -> Tensor:
        caught: list[Tensor] = []

        def stop(module: nn.Module, inputs: Any, output: Any) -> None:
            caught.append(output if self._part.latents is None else output[self._part.latents])
            raise _ReachedError

        handle = getattr(self.layers, self._part.blocks)[-1].register_forward_hook(stop)
        try:
            # What stands behind the last layer is not needed, so the hook leaves there.
            with suppress(_ReachedError):
                self._model[0].denoise(noisy_N, time_N, condition, micro)
        finally:
            handle.remove()
        (state,) = caught
        return state.float() if state.dim() == 3 else state.float().flatten(2).transpose(1, 2)


def trunk(model: Any, layers: int) -> tuple[Trunk, int]:
    """The first `layers` layers of a loaded generator's denoiser in float32, without adapters, and their width.

    Raises:
        ModelError: it is of no known class, has two denoisers, or fewer layers.
    """
    kind = type(model.bare).__name__
    if kind not in PARTS:
        raise ModelError(
            f"{type(model).__name__} ({kind}) has no trunk that is known.",
            field="backbone",
            remedy="use the backbone latent_network.",
        )
    part = PARTS[kind]
    if not 1 <= layers <= (most := len(getattr(model.bare, part.blocks))):
        raise ModelError(f"the denoiser has {most} layers.", field="backbone.layers", remedy=f"use 1 to {most}.")
    with _cut(model.bare, part, layers):
        kept = copy.deepcopy(model.bare)
    if model.has_adapters:
        kept.unload_lora()
    config = kept.config
    if kind == "UNet2DConditionModel":
        inside = config.block_out_channels[layers - 1]
    else:
        inside = config.num_attention_heads * config.attention_head_dim
    if kept.dtype != torch.float32:
        kept.to(torch.float32)
    return Trunk(model, kept.requires_grad_(True), part), inside


@contextmanager
def _cut(bare: Any, part: Part, layers: int) -> Iterator[None]:
    """The denoiser without what a trunk does not need, for as long as it is copied: the rest is never copied."""
    whole = {name: getattr(bare, name) for name in (part.blocks, *part.unused)}
    try:
        setattr(bare, part.blocks, whole[part.blocks][:layers])
        for name in part.unused:
            setattr(bare, name, nn.ModuleList())
        yield
    finally:
        for name, value in whole.items():
            setattr(bare, name, value)
