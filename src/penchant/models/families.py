"""The closed table of families: which adapter brings which pipeline class to the waist."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from penchant.errors import ModelError, nearest

if TYPE_CHECKING:
    from penchant.models.pipeline_model import PipelineModel


@dataclass(frozen=True, kw_only=True)
class Family:
    """A pipeline class of diffusers, its trainable component (and a second, which not every folder has), where our
    adapter stands, and what it samples.
    """

    pipeline: str
    component: str
    module: str
    adapter: str
    modality: Literal["picture", "clip", "sound"] = "picture"
    second: str | None = None

    def adapter_class(self) -> type[PipelineModel]:
        """Import the adapter; heavy libraries load only now."""
        return getattr(importlib.import_module(self.module), self.adapter)


FAMILIES: dict[str, Family] = {
    "stable-diffusion": Family(
        pipeline="StableDiffusionPipeline",
        component="unet",
        module="penchant.models.stable_diffusion",
        adapter="StableDiffusion",
    ),
    "stable-diffusion-xl": Family(
        pipeline="StableDiffusionXLPipeline",
        component="unet",
        module="penchant.models.stable_diffusion_xl",
        adapter="StableDiffusionXL",
    ),
    "stable-diffusion-3": Family(
        pipeline="StableDiffusion3Pipeline",
        component="transformer",
        module="penchant.models.stable_diffusion_3",
        adapter="StableDiffusion3",
    ),
    "flux": Family(
        pipeline="FluxPipeline",
        component="transformer",
        module="penchant.models.flux",
        adapter="Flux",
    ),
    "wan": Family(
        pipeline="WanPipeline",
        component="transformer",
        module="penchant.models.wan",
        adapter="Wan",
        modality="clip",
        second="transformer_2",
    ),
    "ltx": Family(
        pipeline="LTXPipeline",
        component="transformer",
        module="penchant.models.ltx",
        adapter="LTX",
        modality="clip",
    ),
    "hunyuan-video": Family(
        pipeline="HunyuanVideoPipeline",
        component="transformer",
        module="penchant.models.hunyuan_video",
        adapter="HunyuanVideo",
        modality="clip",
    ),
    "cogvideox": Family(
        pipeline="CogVideoXPipeline",
        component="transformer",
        module="penchant.models.cogvideox",
        adapter="CogVideoX",
        modality="clip",
    ),
    "mochi": Family(
        pipeline="MochiPipeline",
        component="transformer",
        module="penchant.models.mochi",
        adapter="Mochi",
        modality="clip",
    ),
    "stable-audio": Family(
        pipeline="StableAudioPipeline",
        component="transformer",
        module="penchant.models.stable_audio",
        adapter="StableAudio",
        modality="sound",
    ),
}


def family_of(pipeline_class: str, *, name: str = "auto", folder: object = None) -> Family:
    """The family that the folder's pipeline class belongs to, or the one asked for by name.

    Raises:
        ModelError: neither is known.
    """
    if name != "auto":
        if name not in FAMILIES:
            raise ModelError(f"unknown family '{name}'.", field="family", remedy=nearest(name, [*FAMILIES]))
        return FAMILIES[name]
    by_class = {family.pipeline: family for family in FAMILIES.values()}
    if pipeline_class not in by_class:
        raise ModelError(
            f"pipelines of class '{pipeline_class}' are of no supported family.",
            file=folder,
            field="_class_name",
            remedy=nearest(pipeline_class, [*by_class]),
        )
    return by_class[pipeline_class]
