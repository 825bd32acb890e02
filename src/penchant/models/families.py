"""The closed table of families: which adapter brings which pipeline class to the waist."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penchant.errors import ModelError, nearest

if TYPE_CHECKING:
    from penchant.models.adapter import ImageModel


@dataclass(frozen=True, kw_only=True)
class Family:
    """A pipeline class of diffusers, its trainable component, and where our adapter stands."""

    pipeline: str
    component: str
    module: str
    adapter: str

    def adapter_class(self) -> type[ImageModel]:
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
