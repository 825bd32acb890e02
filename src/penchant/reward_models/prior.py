"""What small networks know before they see a pair: frozen features of a picture-text model.

A few hundred captions cannot teach a network what words look like; VideoReward begins with Qwen2-VL, which knows. The
small networks begin with a CLIP-like model of this library instead. Its features are computed once a sample and once a
prompt, each by itself, so that they are the same bits in any batch and order.

Shapes: F frames, P width of the features.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from penchant.assets import resolve
from penchant.errors import ModelError
from penchant.reward_models.frames import Pixels

FRAMES = 3


@final
class PictureTextPrior:
    """A CLIPModel or VisionTextDualEncoderModel folder whose pictures are normalised to [-1, 1], frozen, on the CPU.

    It is no part of the network and of its weights.
    """

    def __init__(self, address: str) -> None:
        """Loads `zoo:NAME` or a folder.

        Raises:
            ModelError: there is no such model, or it has no two towers.
        """
        import transformers

        folder = resolve(address)
        try:
            declared = transformers.AutoConfig.from_pretrained(folder).architectures[0]
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
            model: Any = getattr(transformers, declared).from_pretrained(folder, dtype=torch.float32)
            self.width = int(model.config.projection_dim)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ModelError(
                f"is no picture-text model ({str(error).splitlines()[0]}).",
                file=folder,
                field="backbone.prior",
                remedy="give a CLIPModel or VisionTextDualEncoderModel, such as zoo:emoji/labeller, or None.",
            ) from error
        self.model = model.eval().requires_grad_(False)
        self._read: dict[str, Tensor] = {}

    @torch.no_grad()
    def see(self, frames: Pixels) -> Float[Tensor, "F P"]:
        """Features of `FRAMES` frames from first to last, of length sqrt(P)."""
        side = int(self.model.config.vision_config.image_size)
        chosen = frames[np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)]
        resized = [Image.fromarray(f).resize((side, side), Image.Resampling.BICUBIC) for f in chosen]
        pixels = torch.from_numpy(np.stack([np.asarray(f, dtype=np.float32) for f in resized]))
        pooled = self.model.vision_model(pixel_values=pixels.permute(0, 3, 1, 2) / 127.5 - 1)[1]
        return self._scaled(self.model.visual_projection(pooled.flatten(1)))

    def read(self, prompts: list[str]) -> Float[Tensor, "N P"]:
        """Features of prompts, of length sqrt(P)."""
        return torch.stack([self._read_one(prompt) for prompt in prompts])

    @torch.no_grad()
    def _read_one(self, prompt: str) -> Tensor:
        if prompt not in self._read:
            ids = self.tokenizer([prompt], padding="max_length", truncation=True, return_tensors="pt").input_ids
            pooled = self.model.text_model(input_ids=ids, attention_mask=(ids != self.tokenizer.pad_token_id).long())[1]
            self._read[prompt] = self._scaled(self.model.text_projection(pooled))[0]
        return self._read[prompt]

    def _scaled(self, features: Tensor) -> Tensor:
        return torch.nn.functional.normalize(features, dim=-1) * self.width**0.5


# Frozen, so that one copy serves every network.
@lru_cache(maxsize=4)
def prior_at(address: str) -> PictureTextPrior:
    """The prior at `zoo:NAME` or a folder. Raises ModelError as `PictureTextPrior`."""
    return PictureTextPrior(address)
