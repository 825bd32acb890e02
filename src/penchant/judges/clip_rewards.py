"""Judges on CLIP towers: PickScore, HPS v2.1, CLIPScore and the LAION aesthetic predictor.

Differences from the authors' code:
1. Everything is computed in float32; the published numbers of HPSv2 and CLIPScore come from half precision on a GPU.
2. Pictures are resized by PIL, with antialiasing. HPSv2's code resizes tensors, which older torchvision versions do
   without: scores of pictures larger than 224 then differ (by how much is unverified).
3. Captions go through transformers' CLIP tokenizer, which does not repair broken unicode or HTML entities first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from penchant.judges.base import Judge
from penchant.judges.looking import Pixels, letterboxed
from penchant.judges.open_clip_weights import to_clip_model
from penchant.judges.published import Clip, checkpoint, device, in_chunks, linear_head, tensors

_LAION_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
_HPS_FILE = "HPS_v2.1_compressed.pt"
_AESTHETIC_FILE = "sac+logos+ava1-l14-linearMSE.pth"


@final
class PickScore(Judge):
    """Scaled cosine `exp(logit_scale) cos(caption, picture)` of a CLIP ViT-H/14 trained on Pick-a-Pic v1.

    The softmax of the scores of two pictures of one prompt is the probability that people prefer each.
    Source: arXiv:2305.01569; `README.md` ("Inference with PickScore") and `trainer/models/clip_model.py` of
    yuvalkirstain/PickScore.
    """

    name, version, dimensions = "pickscore", "1", ("preference",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: CLIPModel folder or hub address; None is `yuvalkirstain/PickScore_v1`. Tokenizer and image processor
                are the folder's own or else those of `laion/CLIP-ViT-H-14-laion2B-s32B-b79K`, as the authors use.

        Raises:
            ModelError: there is no CLIPModel at `path`.
        """
        self.clip = Clip.load(path or "yuvalkirstain/PickScore_v1", inputs=_LAION_H)
        self.scale = self.clip.model.logit_scale.exp().item()

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Scaled cosine of each (prompt, picture)."""
        return self.scale * self.clip.cosine(prompts, samples)

    def look(self, prompts: Sequence[str], pixels: Pixels) -> Float[Tensor, " N"]:
        """See `Looks`."""
        return self.scale * self.clip.look(prompts, pixels)


@final
class HPSv2(Judge):
    """Cosine of caption and picture by a CLIP ViT-H/14 trained on Human Preference Dataset v2, version 2.1.

    Pictures are scaled to 224 on their longer side and padded with black to a square, not cropped. The tables of the
    authors show 100 times the cosine; `hpsv2.score` and this judge return the cosine.
    Source: arXiv:2306.09341; `hpsv2/img_score.py`, and `hpsv2/src/open_clip/factory.py` and `transform.py`
    (`ResizeMaxSize`) of tgxs002/HPSv2.
    """

    name, version, dimensions = "hpsv2.1", "1", ("preference",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: `HPS_v2.1_compressed.pt` (an open_clip checkpoint), or the folder that holds it, or a CLIPModel
                folder or address; None is the file in `xswu/HPSv2`. For the `.pt` file, configuration, tokenizer
                and image processor lie beside it, or are those of `laion/CLIP-ViT-H-14-laion2B-s32B-b79K`.
                That the published file loads with `weights_only=True` is unverified.

        Raises:
            ModelError: there is no such model at `path`, or its weights do not fit.
        """
        if path is None or path.endswith(".pt") or (Path(path) / _HPS_FILE).exists():
            file, inputs = checkpoint(path, repository="xswu/HPSv2", name=_HPS_FILE, inputs=_LAION_H)
            self.clip = Clip.built(to_clip_model(tensors(file)), inputs=inputs, file=file)
        else:
            self.clip = Clip.load(path)

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Cosine of each (prompt, picture); the v2.1 table in the authors' README averages 0.15 to 0.31."""
        return self.clip.cosine(prompts, [letterbox(picture, self._side) for picture in samples])

    def look(self, prompts: Sequence[str], pixels: Pixels) -> Float[Tensor, " N"]:
        """See `Looks`."""
        return self.clip.look(prompts, letterboxed(pixels, self._side))

    @property
    def _side(self) -> int:
        return int(self.clip.model.config.vision_config.image_size)


@final
class CLIPScore(Judge):
    """`2.5 max(cos("A photo depicts " + caption, picture), 0)`, reference-free.

    Source: arXiv:2104.08718; `get_clip_score` and `CLIPCapDataset` in `clipscore.py` of jmhessel/clipscore.
    """

    name, version, dimensions = "clipscore", "1", ("alignment",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: CLIPModel folder or hub address; None is `openai/clip-vit-base-patch32`, the model of the paper.

        Raises:
            ModelError: there is no CLIPModel at `path`.
        """
        self.clip = Clip.load(path or "openai/clip-vit-base-patch32")

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Score of each (prompt, picture), in [0, 2.5]."""
        return 2.5 * np.maximum(self.clip.cosine(_depicts(prompts), samples), 0)

    def look(self, prompts: Sequence[str], pixels: Pixels) -> Float[Tensor, " N"]:
        """See `Looks`; without a slope where the cosine is negative."""
        return 2.5 * self.clip.look(_depicts(prompts), pixels).relu()


@final
class Aesthetic(Judge):
    """Rating that people would give the picture, whatever the prompt: a linear head on CLIP ViT-L/14.

    The unit image feature (768) goes through linear layers 768-1024-128-64-16-1 with no activation between them.
    Source: `simple_inference.py` of christophschuhmann/improved-aesthetic-predictor, file
    `sac+logos+ava1-l14-linearMSE.pth`.
    """

    name, version, dimensions = "aesthetic", "1", ("aesthetics",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: the head's file, or the folder that holds it as `sac+logos+ava1-l14-linearMSE.pth`. A CLIPModel in
                the same folder (`config.json`, weights, image processor) is used; else it is
                `openai/clip-vit-large-patch14`. None takes the head from `trl-lib/ddpo-aesthetic-predictor` on the
                hub, because the authors publish on GitHub only; that these are the same weights is unverified.

        Raises:
            ModelError: there is no head or no CLIPModel, or the head takes features of another width.
        """
        openai = "openai/clip-vit-large-patch14"
        repository, name = "trl-lib/ddpo-aesthetic-predictor", _AESTHETIC_FILE if path else "aesthetic-model.pth"
        file, inputs = checkpoint(path, repository=repository, name=name, inputs=openai)
        self.clip = Clip.load(inputs)
        self.head = linear_head(tensors(file), prefix="layers", width=self.clip.model.config.projection_dim, file=file)

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Predicted rating of each picture; the prompts are not read."""
        return in_chunks(lambda rows: self.head(torch.from_numpy(rows).to(device())), self.clip.features(samples))

    def look(self, prompts: Sequence[str], pixels: Pixels) -> Float[Tensor, " N"]:
        """See `Looks`."""
        return self.head(self.clip.seen(pixels)).squeeze(-1)


def _depicts(prompts: Sequence[str]) -> list[str]:
    return [f"A photo depicts {prompt}" for prompt in prompts]


def letterbox(picture: Image.Image, side: int) -> Image.Image:
    """The picture scaled to `side` on its longer side, in the middle of a black square."""
    scale = side / max(picture.size)
    width, height = (round(length * scale) for length in picture.size)
    square = Image.new("RGB", (side, side))
    resized = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    square.paste(resized, ((side - width) // 2, (side - height) // 2))
    return square
