"""Looking at pixels: what an image processor does to a picture file, done to tensors, with gradients.

`Judge.score` takes finished pictures. A judge with `look` takes pixels as a decoder leaves them and can be
differentiated, which ReFL and DRaFT need (`penchant.sampling.reward_gradient`). Both give one number; where a picture
is resized, a file's is rounded to 256 levels in between, and the two differ by that.

Shape legend: N pictures of H x W.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Pixels = Float[Tensor, "N 3 H W"]


class Looks(Protocol):
    """A judge of pictures that can be differentiated."""

    def look(self, prompts: Sequence[str], pixels: Pixels) -> Float[Tensor, " N"]:
        """The scores of pixels in [0, 1], differentiable in them; the judge's weights get no gradient."""


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Bicubic with antialiasing, kept in [0, 1], as PIL does it."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    found = F.interpolate(pixels.float(), size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return found.clamp(0, 1)


def prepared(processor: Any, pixels: Pixels) -> Pixels:
    """What CLIP's image processor makes of pictures: shorter side to size, the middle cut out, normalised."""
    height, width = pixels.shape[-2:]
    if processor.do_resize:
        size = processor.size
        short = size.get("shortest_edge")
        # Fractions are cut off, as transformers does.
        longer = int(short * max(height, width) / min(height, width)) if short else 0
        target = ((short, longer) if height <= width else (longer, short)) if short else (size["height"], size["width"])
        pixels = resized(pixels, *target)
    if processor.do_center_crop:
        pixels = _middle(pixels, processor.crop_size["height"], processor.crop_size["width"])
    if processor.do_normalize:
        mean, deviation = (pixels.new_tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))
        pixels = (pixels - mean) / deviation
    return pixels


def letterboxed(pixels: Pixels, side: int) -> Pixels:
    """Scaled to `side` on the longer side, in the middle of a black square."""
    scale = side / max(pixels.shape[-2:])
    height, width = (round(length * scale) for length in pixels.shape[-2:])
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(resized(pixels, height, width), (left, side - width - left, top, side - height - top))


def _middle(pixels: Pixels, height: int, width: int) -> Pixels:
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width]
