"""MPS, the multi-dimensional preference score: CLIP tokens, a mask made by a condition, and a cross-attention model.

Differences from the authors' code:
1. Float32 throughout; their checkpoint runs in float16.
2. The mask's threshold is 0.3, as in `eval_overall_mps_on_hpdv2.py` and `eval_overall_mps_on_imagereward.py`, which
   gave the published accuracies. `CLIPModel.forward` in `trainer/models/clip_model.py` (training and the README's
   example) has 0.01.
3. Similarities are divided by the largest of their caption, as the evaluation scripts do with one caption at a time;
   `CLIPModel.forward` divides by the largest of its batch.
Shapes: N samples, P patches and one class token, T caption tokens, C condition tokens, F features, H heads of width D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from penchant.errors import ModelError
from penchant.judges.base import Judge
from penchant.judges.published import Clip, checkpoint, device, in_chunks, pixels, tensors

# The condition of "overall", word for word: `README.md` and the evaluation scripts of Kwai-Kolors/MPS.
OVERALL = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, "
    "texture, quantity, attributes, position, number, location, word, things."
)
_THRESHOLD = 0.3
_LAION_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


def condition_mask(
    text_NTF: Float[Tensor, "N T F"], condition_CF: Float[Tensor, "C F"], threshold: float = _THRESHOLD
) -> Bool[Tensor, "N T"]:
    """Caption tokens that pictures may look at: `s > threshold` for `s = max_c(text . c) / max_t max_c(text . c)`."""
    nearest_NT = (text_NTF @ condition_CF.T).amax(-1)
    return nearest_NT / nearest_NT.amax(-1, keepdim=True) > threshold


def cross_model(
    weights: Mapping[str, Tensor],
    patches_NPF: Float[Tensor, "N P F"],
    text_NTF: Float[Tensor, "N T F"],
    mask_NT: Tensor,
) -> Float[Tensor, "N P F"]:
    """Picture tokens after the layers of `Cross_model` in `trainer/models/cross_modeling.py`.

    Each layer is cross-attention to the caption and then self-attention, each with a SwiGLU feed-forward beside it
    and a residual around both. Keys and values have one head (multi-query); self-attention has rotary positions.

    Args:
        weights: the authors' names without `cross_model.`, e.g. `layers.0.0.fn.to_q.weight`.
    """
    depth = 1 + max(int(name.split(".")[1]) for name in weights)
    for layer in range(depth):
        patches_NPF = patches_NPF + _cross_attention(weights, f"layers.{layer}.0.fn", patches_NPF, text_NTF, mask_NT)
        patches_NPF = patches_NPF + _self_attention(weights, f"layers.{layer}.1.fn", patches_NPF)
    return patches_NPF


def _cross_attention(weights: Mapping[str, Tensor], at: str, x: Tensor, text_NTF: Tensor, mask_NT: Tensor) -> Tensor:
    x = F.layer_norm(x, x.shape[-1:], weights[f"{at}.norm.weight"])
    key, value = (text_NTF @ weights[f"{at}.to_kv.weight"].T).chunk(2, dim=-1)
    query_NHPD = _heads(x @ weights[f"{at}.to_q.weight"].T, key.shape[-1])
    read = _attend(query_NHPD, key, value, mask_NT) @ weights[f"{at}.to_out.weight"].T
    return read + _swiglu(x @ weights[f"{at}.ff.0.weight"].T) @ weights[f"{at}.ff.2.weight"].T


def _self_attention(weights: Mapping[str, Tensor], at: str, x: Tensor) -> Tensor:
    x = F.layer_norm(x, x.shape[-1:], weights[f"{at}.norm.weight"])
    fused, out, feed = (weights[f"{at}.{name}.weight"] for name in ("fused_attn_ff_proj", "attn_out", "ff_out.1"))
    # Rows of the fused matrix: all queries, one key, one value, then the two halves of the feed-forward.
    queries, halves = out.shape[1], 2 * feed.shape[1]
    width = (fused.shape[0] - queries - halves) // 2
    query, key, value, hidden = (x @ fused.T).split((queries, width, width, halves), dim=-1)
    read = _attend(_rotate(_heads(query, width)), _rotate(key), value, None)
    return read @ out.T + _swiglu(hidden) @ feed.T


def _heads(queries: Float[Tensor, "N P HD"], width: int) -> Float[Tensor, "N H P D"]:
    return queries.unflatten(-1, (-1, width)).transpose(1, 2)


def _attend(query_NHPD: Tensor, key_NTD: Tensor, value_NTD: Tensor, mask_NT: Tensor | None) -> Float[Tensor, "N P HD"]:
    mask = None if mask_NT is None else mask_NT[:, None, None, :]
    # One key and one value for all heads, spelled out: not every attention kernel broadcasts over heads.
    key, value = (one.unsqueeze(1).expand(-1, query_NHPD.shape[1], -1, -1) for one in (key_NTD, value_NTD))
    heads = F.scaled_dot_product_attention(query_NHPD, key, value, attn_mask=mask)
    return heads.transpose(1, 2).flatten(2)


def _swiglu(hidden: Tensor) -> Tensor:
    value, gate = hidden.chunk(2, dim=-1)
    return F.silu(gate) * value


def _rotate(x: Float[Tensor, "*B P D"]) -> Float[Tensor, "*B P D"]:
    """Rotary positions (arXiv:2104.09864) over the whole width, halves rotated against each other, base 10000."""
    count, width = x.shape[-2:]
    frequency = 1.0 / 10000 ** (torch.arange(0, width, 2, device=x.device) / width)
    angle = torch.outer(torch.arange(count, device=x.device), frequency).repeat(1, 2)
    first, second = x.chunk(2, dim=-1)
    return x * angle.cos() + torch.cat((-second, first), dim=-1) * angle.sin()


@final
class MPS(Judge):
    """`exp(logit_scale) cos(caption, class token of the cross model)` under the condition "overall".

    All projected caption tokens, padding included, are read without an attention mask, as the authors do. Only the
    overall weights are published; of the other dimensions there are no weights to load.
    Source: Zhang et al., CVPR 2024 (pages 8018-8027); `trainer/models/clip_model.py`,
    `trainer/models/cross_modeling.py` and `eval_overall_mps_on_hpdv2.py` of Kwai-Kolors/MPS.
    """

    name, version, dimensions = "mps", "1", ("overall",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: a file of tensors with the authors' names (`model.*`, `cross_model.*`), or the folder that holds it
                as `model.safetensors`; None is `RE-N-Y/mpsv1` on the hub, the copy that RE-N-Y/imscore loads (that it
                equals the authors' weights is unverified). Configuration, tokenizer and image processor lie beside
                the file, or are those of `laion/CLIP-ViT-H-14-laion2B-s32B-b79K`. The authors' own
                `MPS_overall_checkpoint.pth` is a pickled object and is refused.

        Raises:
            ModelError: there is no such file, it is pickled, or its weights do not fit.
        """
        file, inputs = checkpoint(path, repository="RE-N-Y/mpsv1", name="model.safetensors", inputs=_LAION_H)
        towers, cross = _split(tensors(file))
        if not towers or not cross:
            raise ModelError("holds no MPS.", file=file, remedy="give `model.*` and `cross_model.*` as the authors do.")
        self.clip = Clip.built(towers, inputs=inputs, file=file)
        self.cross = {name: tensor.float().to(device()) for name, tensor in cross.items()}
        self.scale = self.clip.model.logit_scale.exp().item()
        with torch.no_grad():
            self.condition_CF = self._read([OVERALL])[0][0]

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Scaled cosine of each (prompt, picture)."""
        return in_chunks(self._scores, prompts, samples)

    def _read(self, captions: Sequence[str]) -> tuple[Float[Tensor, "N T F"], Float[Tensor, "N F"]]:
        """Projected tokens of captions, and the one of the end token."""
        model: Any = self.clip.model
        read = model.text_model(input_ids=self.clip.tokens(captions))
        return model.text_projection(read[0]), model.text_projection(read[1])

    def _scores(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[Tensor, "N 1"]:
        model: Any = self.clip.model
        text_NTF, end_NF = self._read(prompts)
        # The patches are projected as they leave the tower, without its last layer norm, as the authors do.
        patches_NPF = model.visual_projection(model.vision_model(pixel_values=pixels(self.clip.processor, samples))[0])
        mask_NT = condition_mask(text_NTF, self.condition_CF)
        seen_NF = cross_model(self.cross, patches_NPF, text_NTF, mask_NT)[:, 0]
        return self.scale * F.cosine_similarity(end_NF, seen_NF).unsqueeze(-1)


def _split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The CLIPModel's tensors and the cross model's; imscore's copy puts `mps.` before all names."""
    towers, cross = {}, {}
    for name, tensor in state.items():
        part, _, rest = name.removeprefix("mps.").partition(".")
        if part == "model" and not rest.endswith("position_ids"):  # older transformers versions save them
            towers[rest] = tensor
        elif part == "cross_model" and not rest.endswith("inv_freq"):
            cross[rest] = tensor
    return towers, cross
