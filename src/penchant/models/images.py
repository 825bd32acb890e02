"""From pictures to pixels [-1, 1]: short side to the resolution, centre crop, and where the crop came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Framing:
    """What was cut from a picture, as (height, width) and (top, left): SDXL is conditioned on it."""

    original: tuple[int, int]
    crop: tuple[int, int]
    target: tuple[int, int]


def frame(image: Image.Image, resolution: int, *, flip: bool = False) -> tuple[Float[Tensor, "3 R R"], Framing]:
    """Pixels in [-1, 1] and the framing of one picture.

    The short side is resized to `resolution` (bilinear with PIL's antialiasing, as in the Diffusion-DPO code), the
    centre is cropped, and with `flip` the result is mirrored; the left offset is then counted in the mirrored picture.
    Transparent pictures are laid on white: dropping the alpha channel alone would show whatever colour it hid.
    """
    opaque = _opaque(ImageOps.exif_transpose(image))
    width, height = opaque.size
    scale = resolution / min(width, height)
    wide, high = max(resolution, round(width * scale)), max(resolution, round(height * scale))
    resized = opaque.resize((wide, high), Image.Resampling.BILINEAR)
    top, left = (high - resolution) // 2, (wide - resolution) // 2
    cropped = resized.crop((left, top, left + resolution, top + resolution))
    if flip:
        cropped = ImageOps.mirror(cropped)
        left = wide - resolution - left
    values = torch.from_numpy(np.asarray(cropped, dtype=np.float32).copy()).permute(2, 0, 1)
    framing = Framing(original=(height, width), crop=(top, left), target=(resolution, resolution))
    return values / 127.5 - 1.0, framing


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
