"""Supervised fine-tuning on the preferred sample of each group: the baseline of every preference paper."""

from __future__ import annotations

from dataclasses import replace

from penchant.objectives import SFT
from penchant.recipe import Recipe
from penchant.recipes import diffusion_dpo


def embedded() -> Recipe:
    """The winners of the emoji samples, with everything else as in `diffusion-dpo`."""
    return replace(diffusion_dpo.embedded(), name="sft", objective=SFT())
