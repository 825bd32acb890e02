"""A small 3-D CNN beside a GRU as a backbone: another architecture than the transformer's, for held-out judges.

Convolutions see the clip, and how far the feature maps of any two of its frames are from each other; a GRU reads the
prompt; the prompt's vector attends to the places of the clip. Dimensions that may not see the prompt are made of the
clip alone. What words look like comes frozen from a picture-text model
(`penchant.reward_models.prior`), another one than the transformer's.

Shapes: N rows, F frames, P places of the last feature map, W width, L = 2 + D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from penchant.reward_models.frames import as_clip, squares
from penchant.reward_models.network import Backbone, BackboneSpec, Dimension, Tokens
from penchant.reward_models.prior import prior_at
from penchant.reward_models.words import PAD, Words


@dataclass(frozen=True, kw_only=True)
class VideoCNN(BackboneSpec):
    """Sizes of the CNN; the defaults are for clips of 9 x 32 x 32 at 6 fps.

    Attributes:
        side: frames are scaled to side x side pixels.
        frames: the most frames that are looked at; shorter clips repeat their last one.
        fps: frames a second that it sees.
        width: channels of the last layer, W.
        vocabulary: tokens of the tokenizer, which is trained on the prompts.
        words: tokens of a prompt, the end included; longer prompts are cut.
        prior: a picture-text model whose frozen features join in, `zoo:NAME` or a folder; None for none.
    """

    side: int = 32
    frames: int = 9
    fps: float = 6.0
    width: int = 64
    vocabulary: int = 768
    words: int = 10
    prior: str | None = "zoo:emoji/judge"

    def build(self, dimensions: Sequence[Dimension], *, prompts: Sequence[str], folder: Path | None) -> Backbone:
        words = Words.train(prompts, self.vocabulary) if folder is None else Words.load(folder)
        return _Network(self, dimensions, words)


class _Residual(nn.Module):
    """Halves height and width (and time, if asked); group norm, as pairs come in small batches."""

    def __init__(self, inside: int, outside: int, *, time: int) -> None:
        super().__init__()
        stride = (time, 2, 2)
        self.path = nn.Sequential(
            nn.Conv3d(inside, outside, 3, stride, 1),
            nn.GroupNorm(8, outside),
            nn.SiLU(),
            nn.Conv3d(outside, outside, 3, 1, 1),
            nn.GroupNorm(8, outside),
        )
        self.shortcut = nn.Conv3d(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.path(x) + self.shortcut(x))


@final
class _Network(Backbone):
    def __init__(self, spec: VideoCNN, dimensions: Sequence[Dimension], words: Words) -> None:
        super().__init__()
        self.spec, self.words, self.width = spec, words, spec.width
        self.prior = prior_at(spec.prior) if spec.prior is not None else None
        self.sees = [dimension.sees_prompt for dimension in dimensions]
        W = spec.width
        self.near = _Residual(6, W // 4, time=1)
        self.far = nn.Sequential(_Residual(W // 4, W // 2, time=2), _Residual(W // 2, W, time=2))
        self.embedding = nn.Embedding(len(words), W, padding_idx=PAD)
        self.reader = nn.GRU(W, W, batch_first=True)
        self.key = nn.Linear(W, W)
        self.alone = nn.Sequential(nn.Linear(2 * W + spec.frames**2, 2 * W), nn.GELU(), nn.Linear(2 * W, W))
        known = 0 if self.prior is None else 2 * self.prior.width
        self.fused = nn.Sequential(nn.Linear(4 * W + known, 2 * W), nn.GELU(), nn.Linear(2 * W, W))
        self.special = nn.Parameter(0.02 * torch.randn(len(dimensions), W))
        self.mix = nn.Sequential(nn.LayerNorm(W), nn.Linear(W, W), nn.GELU(), nn.Linear(W, W), nn.LayerNorm(W))

    def prepare(self, sample: Any) -> dict[str, Tensor]:
        """`frames` uint8 [F, H, W, 3], always `frames` of them; what the prior sees, on average."""
        spec = self.spec
        found = squares(as_clip(sample), rate=spec.fps, most=spec.frames, side=spec.side)
        frames = torch.from_numpy(found.copy())
        made = {"frames": torch.cat([frames, frames[-1:].expand(spec.frames - len(frames), -1, -1, -1)])}
        return made if self.prior is None else {**made, "seen": self.prior.see(found).mean(0)}

    def collate(self, prompts: Sequence[str], prepared: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Clips, word ids and the prior's features."""
        rows = {
            "frames": torch.stack([p["frames"] for p in prepared]),
            "words": self.words.ids(prompts, self.spec.words),
        }
        if self.prior is not None:
            rows |= {"seen": torch.stack([p["seen"] for p in prepared]), "read": self.prior.read(list(prompts))}
        return rows

    def forward(self, rows: Mapping[str, Tensor]) -> Tokens:
        pixels = rows["frames"].permute(0, 4, 1, 2, 3).to(self.special.dtype) / 127.5 - 1
        change = torch.diff(pixels, dim=2, prepend=pixels[:, :, :1])
        maps = self.near(torch.cat([pixels, change], 1))
        places_NPW = self.far(maps).flatten(2).transpose(1, 2)
        clip_NW = self.alone(torch.cat([places_NPW.mean(1), places_NPW.amax(1), _apart(maps)], -1))
        asked_NW = self._read(rows["words"])
        weight_NP = (self.key(places_NPW) @ asked_NW[:, :, None] / self.width**0.5).softmax(1)
        found_NW = (weight_NP * places_NPW).sum(1)
        known = [] if self.prior is None else [rows["read"], rows["read"] * rows["seen"]]
        both_NW = self.fused(torch.cat([clip_NW, asked_NW, found_NW, asked_NW * found_NW, *known], -1))
        dimensions = [(both_NW if sees else clip_NW) + row for sees, row in zip(self.sees, self.special, strict=True)]
        state_NLW = self.mix(torch.stack([clip_NW, *dimensions, both_NW], 1))
        N, L, _ = state_NLW.shape
        place_ND = torch.arange(1, L - 1, device=state_NLW.device).expand(N, -1)
        mask_NL = torch.ones(N, L, dtype=torch.bool, device=state_NLW.device)
        return Tokens(state_NLW=state_NLW, mask_NL=mask_NL, place_ND=place_ND)

    def _read(self, words_NT: Tensor) -> Float[Tensor, "N W"]:
        """The GRU's state at the end of the prompt, plus the mean of its words."""
        embedded_NTW, real_NT = self.embedding(words_NT), words_NT != PAD
        read_NTW, _ = self.reader(embedded_NTW)
        count_N = real_NT.sum(1)
        last_NW = read_NTW[torch.arange(len(words_NT), device=words_NT.device), count_N - 1]
        return last_NW + (embedded_NTW * real_NT[:, :, None]).sum(1) / count_N[:, None]

    def keep(self, folder: Path) -> None:
        self.words.save(folder)


def _apart(maps: Float[Tensor, "N C F H W"]) -> Float[Tensor, "N F*F"]:
    """Log of the mean squared distance of the feature maps of any two frames."""
    x_NFV = maps.transpose(1, 2).flatten(2)
    # What all frames share would cost the digits of what differs.
    x_NFV = x_NFV - x_NFV.mean(1, keepdim=True)
    square = x_NFV.square().mean(-1)
    distance_NFF = square[:, :, None] + square[:, None] - 2 * x_NFV @ x_NFV.transpose(1, 2) / x_NFV.shape[-1]
    # Rounding may leave equal frames a hair below zero.
    return (distance_NFF.clamp(min=0) + 1e-3).log().flatten(1) / 4
