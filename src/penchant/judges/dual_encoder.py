"""Judges with an image tower and a text tower: the cosine of picture and caption.

Any CLIPModel or VisionTextDualEncoderModel folder of transformers whose pictures are normalised to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image

from penchant.errors import ModelError, nearest
from penchant.judges.base import Judge
from penchant.judges.looking import Pixels, resized

_MODELS = ("CLIPModel", "VisionTextDualEncoderModel")


def to_pixels(images: Sequence[Image.Image], side: int) -> torch.Tensor:
    """Pictures as float [N, 3, side, side] in [-1, 1]."""
    resized = [i.convert("RGB").resize((side, side), Image.Resampling.BICUBIC) for i in images]
    arrays = np.stack([np.asarray(i, dtype=np.float32) for i in resized])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2) / 127.5 - 1


@final
class DualEncoder(Judge):
    """Cosine similarity of picture and caption, in [-1, 1]."""

    dimensions = ("alignment",)

    def __init__(self, folder: Path, *, name: str) -> None:
        """Loads the folder.

        Raises:
            ModelError: the folder is of another class.
        """
        import json

        import transformers

        declared = json.loads((folder / "config.json").read_text()).get("architectures", ["?"])[0]
        if declared not in _MODELS:
            raise ModelError(f"a {declared} is no dual encoder.", file=folder, remedy=nearest(declared, _MODELS))
        self.name, self.version = name, "1"
        self.model: Any = getattr(transformers, declared).from_pretrained(folder, dtype=torch.float32).eval()
        self.model.requires_grad_(False)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.side = int(self.model.config.vision_config.image_size)

    @torch.no_grad()
    def features(self, samples: Sequence[Image.Image]) -> Float[np.ndarray, "N F"]:
        """Unit image features."""
        chunks = (to_pixels(samples[start : start + 64], self.side) for start in range(0, len(samples), 64))
        return torch.cat([self._seen(pixels.to(self.model.device)).cpu() for pixels in chunks]).numpy()

    def _seen(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled = self.model.vision_model(pixel_values=pixels)[1]
        return F.normalize(self.model.visual_projection(pooled.flatten(1)), dim=-1)

    @torch.no_grad()
    def text_features(self, prompts: Sequence[str]) -> Float[np.ndarray, "N F"]:
        """Unit text features; a prompt that stands several times is read once."""
        unique = list(dict.fromkeys(prompts))
        tokens = self.tokenizer(unique, padding="max_length", truncation=True, return_tensors="pt").input_ids
        tokens = tokens.to(self.model.device)
        mask = (tokens != self.tokenizer.pad_token_id).long()
        pooled = self.model.text_model(input_ids=tokens, attention_mask=mask)[1]
        rows = F.normalize(self.model.text_projection(pooled), dim=-1).cpu().numpy()
        place = {prompt: i for i, prompt in enumerate(unique)}
        return rows[[place[prompt] for prompt in prompts]]

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Cosine of each (prompt, picture)."""
        return (self.text_features(prompts) * self.features(samples)).sum(-1, keepdims=True)

    def look(self, prompts: Sequence[str], pixels: Pixels) -> Float[torch.Tensor, " N"]:
        """See `Looks`; the judge is moved to where the pixels are."""
        self.model.to(pixels.device)
        seen = self._seen(resized(pixels, self.side, self.side) * 2 - 1)
        return (torch.from_numpy(self.text_features(prompts)).to(seen) * seen).sum(-1)
