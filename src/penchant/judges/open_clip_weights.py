"""From the names and layouts of open_clip's ViT models to those of transformers' CLIPModel.

open_clip keeps query, key and value in one matrix (`attn.in_proj_weight`, rows in this order: `nn.MultiheadAttention`)
and multiplies by its projections from the right (`pooled @ proj`); CLIPModel has three matrices and `nn.Linear`.
Source: `hpsv2/src/open_clip/transformer.py` and `model.py` of tgxs002/HPSv2, its copy of open_clip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from penchant.errors import ModelError

_WHOLE = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
_IN_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_LAYER = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")


def to_clip_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a CLIPModel from that of an open_clip ViT of any width and depth.

    Raises:
        ModelError: a name is none of an open_clip ViT with its text tower.
    """
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer = _LAYER.fullmatch(name)
        if name == "attn_mask":  # older versions save the causal mask, which CLIPModel makes itself
            continue
        if name in _WHOLE:
            converted[_WHOLE[name]] = tensor
        elif name in _TRANSPOSED:
            converted[_TRANSPOSED[name]] = tensor.T.contiguous()
        elif layer is not None:
            tower = "vision_model" if layer[1] else "text_model"
            for part, piece in _layer(layer[3], tensor):
                converted[f"{tower}.encoder.layers.{layer[2]}.{part}"] = piece
        else:
            raise ModelError(
                "is no name of an open_clip ViT.", field=name, remedy="give a ViT checkpoint of open_clip."
            )
    return converted


def _layer(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of one transformer layer's parameter."""
    if name in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = name.removeprefix("attn.in_proj_")
        for which, piece in zip("qkv", tensor.chunk(3), strict=True):
            yield f"self_attn.{which}_proj.{kind}", piece.contiguous()
        return
    part, _, kind = name.rpartition(".")
    if part not in _IN_LAYER:
        raise ModelError("is no name of an open_clip layer.", field=name, remedy="give a ViT checkpoint of open_clip.")
    yield f"{_IN_LAYER[part]}.{kind}", tensor
