"""Pictures as tensors, and the augmentations that every emoji trainer shares."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from penchant.zoo.emoji.data import Picture


def to_tensor(pictures: Sequence[Picture]) -> Tensor:
    """All pictures as uint8 [N, 3, 48, 48]."""
    from PIL import Image

    arrays = [np.asarray(Image.open(BytesIO(p.png)).convert("RGB")) for p in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def as_float(pixels: Tensor) -> Tensor:
    """uint8 -> float in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def jitter(images: Tensor, generator: torch.Generator, *, zoom: float = 0.12, shift: float = 0.06) -> Tensor:
    """Random zoom and shift of [N, 3, H, W] on white. No flips or rotations: arrows and clocks would lie."""
    n, device = len(images), images.device
    rand = torch.rand(n, 3, generator=generator, device=device) * 2 - 1
    scale = 1 + zoom * rand[:, 0]
    theta = torch.zeros(n, 2, 3, device=device, dtype=images.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = 2 * shift * rand[:, 1:]
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images - 1, grid, align_corners=False) + 1


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mild blur, colour cast and noise, so that a scorer reads content and not the sharpness of one renderer."""
    n, device = len(images), images.device
    pick = torch.rand(n, 3, generator=generator, device=device)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.where((pick[:, 0] < 0.4)[:, None, None, None], blurred, images)
    gain = 1 + 0.15 * (torch.rand(n, 3, 1, 1, generator=generator, device=device) * 2 - 1)
    images = ((images + 1) * gain - 1).clamp(-1, 1)
    noise = torch.randn(images.shape, generator=generator, device=device) * 0.12 * pick[:, 1, None, None, None]
    return torch.where((pick[:, 2] < 0.5)[:, None, None, None], images + noise, images)


def warp(images: Tensor, generator: torch.Generator, *, strength: float = 0.3) -> Tensor:
    """Melts the drawing: a smooth random displacement of [N, 3, H, W] by 0.4 to 1 times `strength` of its width.

    Colours stay, form goes: what a weak generator draws. Scorers learn to prefer the whole drawing to it.
    """
    n, device = len(images), images.device
    reach = strength * (0.4 + 0.6 * torch.rand(n, 1, 1, 1, generator=generator, device=device))
    coarse = reach * (torch.rand(n, 2, 5, 5, generator=generator, device=device) * 2 - 1)
    shifts = F.interpolate(coarse, size=images.shape[-2:], mode="bicubic", align_corners=True)
    identity = torch.eye(2, 3, device=device, dtype=images.dtype).expand(n, 2, 3)
    grid = F.affine_grid(identity, list(images.shape), align_corners=False)
    return F.grid_sample(images - 1, grid + 2 * shifts.permute(0, 2, 3, 1), align_corners=False) + 1
