"""ImageReward: BLIP, whose text encoder reads the caption with the picture in view, and a linear head.

Differences from the authors' code:
1. The model is transformers' `BlipVisionModel` and `BlipTextModel`, filled with renamed weights; sizes are read off the
   weights, and attention heads are 64 wide, as in the two sizes of ViT and the `med_config.json` that were published.
2. Everything is computed in float32.
Shapes: N samples, T tokens, P patches and one class token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from penchant.errors import ModelError
from penchant.judges.base import Judge
from penchant.judges.published import checkpoint, device, fill, in_chunks, linear_head, pixels, pretrained, tensors

# Mean and deviation of the raw rewards: `ImageReward/ImageReward.py`, class ImageReward.
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
_TOKENS = 35  # max_length of `score`, same file
_HEAD_WIDTH = 64
_VISION = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
}
_VISION_LAYER = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def to_blip(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dicts of BlipVisionModel and BlipTextModel from `ImageReward.pt`; its head `mlp.*` is left to the caller.

    The text encoder has the same names in both. `vision_proj` and `text_proj` come from BLIP's pretraining and take
    no part in the reward.

    Raises:
        ModelError: a name of the picture tower is unknown.
    """
    vision, text = {}, {}
    for name, tensor in state.items():
        tower, _, rest = name.removeprefix("blip.").partition(".")
        if tower == "visual_encoder":
            vision[_vision_name(rest)] = tensor
        elif tower == "text_encoder" and not rest.endswith("position_ids"):
            text[rest] = tensor
    return vision, text


def _vision_name(name: str) -> str:
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", name)
    if block and block[2] in _VISION_LAYER:
        return f"encoder.layers.{block[1]}.{_VISION_LAYER[block[2]]}.{block[3]}"
    if name in _VISION:
        return _VISION[name]
    part, _, kind = name.rpartition(".")
    if part not in _VISION:
        raise ModelError("is no name of BLIP's picture tower.", field=name, remedy="give `ImageReward.pt`.")
    return f"{_VISION[part]}.{kind}"


def _vision_model(state: Mapping[str, Tensor], file: Path) -> Any:
    import transformers

    width, _, patch, _ = state["embeddings.patch_embedding.weight"].shape
    grid = round((state["embeddings.position_embedding"].shape[1] - 1) ** 0.5)
    config = transformers.BlipVisionConfig(
        hidden_size=width,
        intermediate_size=state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_depth(state),
        num_attention_heads=width // _HEAD_WIDTH,
        patch_size=patch,
        image_size=patch * grid,
        layer_norm_eps=1e-6,  # VisionTransformer in `models/BLIP/vit.py`; transformers' default is 1e-5
    )
    model: Any = transformers.BlipVisionModel(config)
    fill(model, state, file=file)
    return model.to(device()).eval()


def _text_model(state: Mapping[str, Tensor], file: Path) -> Any:
    import transformers

    vocabulary, width = state["embeddings.word_embeddings.weight"].shape
    config = transformers.BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        encoder_hidden_size=state["encoder.layer.0.crossattention.self.key.weight"].shape[1],
        intermediate_size=state["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_depth(state),
        num_attention_heads=width // _HEAD_WIDTH,
        max_position_embeddings=state["embeddings.position_embeddings.weight"].shape[0],
        layer_norm_eps=1e-12,
        bos_token_id=None,
        sep_token_id=None,
        eos_token_id=None,
    )
    model: Any = transformers.BlipTextModel(config, add_pooling_layer=False)
    fill(model, state, file=file)
    return model.to(device()).eval()


def _depth(state: Mapping[str, Tensor]) -> int:
    layers = [re.match(r"encoder\.layers?\.(\d+)\.", name) for name in state]
    return 1 + max(int(layer[1]) for layer in layers if layer)


@final
class ImageReward(Judge):
    """`(MLP(first token of BLIP's text encoder) - 0.16717) / 1.03334`, the authors' mean and deviation.

    Caption tokens are padded to 35 and attend to each other both ways and to all patches; the head is linear layers
    768-1024-128-64-16-1 with no activation between them. Pictures: shorter side to 224, bicubic, centre crop.
    Source: arXiv:2304.05977; `ImageReward/ImageReward.py` (`score`, `_transform`), `models/BLIP/vit.py`, `med.py` and
    `blip_pretrain.py` of THUDM/ImageReward.
    """

    name, version, dimensions = "imagereward", "1", ("preference",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: `ImageReward.pt`, or the folder that holds it; None is the file in `zai-org/ImageReward` on the hub
                (formerly THUDM/ImageReward). The tokenizer is the one in the file's folder (`tokenizer.json` or
                `vocab.txt`) or else `bert-base-uncased`. That the published file loads with `weights_only=True` is
                unverified.

        Raises:
            ModelError: there is no such file, or its weights are not those of an ImageReward.
        """
        import transformers

        bert = "google-bert/bert-base-uncased"
        file, _ = checkpoint(path, repository="zai-org/ImageReward", name="ImageReward.pt", inputs=bert)
        state = tensors(file)
        vision, text = to_blip(state)
        if not vision or not text:
            raise ModelError("holds no BLIP.", file=file, remedy="give the published `ImageReward.pt`.")
        self.vision, self.text = _vision_model(vision, file), _text_model(text, file)
        self.head = linear_head(state, prefix="mlp.layers", width=self.text.config.hidden_size, file=file)
        beside = any((file.parent / name).exists() for name in ("tokenizer.json", "vocab.txt"))
        self.tokenizer = pretrained(transformers.AutoTokenizer, str(file.parent) if beside else bert)
        side = self.vision.config.image_size
        self.processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side)

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Reward of each (prompt, picture)."""
        return in_chunks(self._rewards, prompts, samples)

    def _rewards(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[Tensor, "N 1"]:
        options = {"padding": "max_length", "truncation": True, "max_length": _TOKENS, "return_tensors": "pt"}
        tokens = self.tokenizer(list(prompts), **options)
        patches_NPF = self.vision(pixel_values=pixels(self.processor, samples)).last_hidden_state
        read = self.text(
            input_ids=tokens["input_ids"].to(device()),
            attention_mask=tokens["attention_mask"].to(device()),
            encoder_hidden_states=patches_NPF,
            encoder_attention_mask=torch.ones(patches_NPF.shape[:2], dtype=torch.long, device=device()),
        )
        return (self.head(read.last_hidden_state[:, 0]) - MEAN) / DEVIATION
