"""A small video transformer as a backbone: tubelets, words and special tokens in one sequence, under a million weights.

    [tubelets, motion, frames to the prior] [tokens] [words, the prompt to the prior, where both agree] [tokens]

Differences from VideoReward's Qwen2-VL: inside the clip attention goes both ways, as in a vision tower; between the
four parts of the sequence it is causal, and inside the prompt too. One token a frame says how it moves
(`penchant.reward_models.motion`), and what words look like comes frozen from a picture-text model
(`penchant.reward_models.prior`): both are more than a few hundred captions can teach.

Shapes: N rows, F frames, V positions of the clip, T of the prompt, D special tokens, L = V + D + T, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from penchant.errors import RecipeError
from penchant.reward_models.frames import as_clip, squares
from penchant.reward_models.motion import motion, width
from penchant.reward_models.network import Backbone, BackboneSpec, Dimension, Tokens
from penchant.reward_models.prior import FRAMES, prior_at
from penchant.reward_models.words import PAD, Words


@dataclass(frozen=True, kw_only=True)
class VideoTransformer(BackboneSpec):
    """Sizes of the small video transformer; the defaults are for the shipped clips of 9 x 32 x 32 at 6 fps.

    Attributes:
        side: frames are scaled to side x side pixels.
        frames: the most frames that are looked at.
        fps: frames a second that it sees.
        patch: pixels of a tubelet's side.
        span: frames of a tubelet.
        width: W.
        layers: transformer layers.
        heads: attention heads.
        vocabulary: tokens of the tokenizer, which is trained on the prompts.
        words: tokens of a prompt, the end included; longer prompts are cut.
        prior: a picture-text model whose frozen features join in, `zoo:NAME` or a folder; None for none.
    """

    side: int = 32
    frames: int = 9
    fps: float = 6.0
    patch: int = 8
    span: int = 3
    width: int = 96
    layers: int = 4
    heads: int = 3
    vocabulary: int = 1024
    words: int = 10
    prior: str | None = "zoo:emoji/labeller"

    def __post_init__(self) -> None:
        if self.side % self.patch or self.frames % self.span or self.width % self.heads:
            raise RecipeError(
                "patches, tubelets or heads do not divide evenly.",
                field="backbone",
                remedy="side must be a multiple of patch, frames of span, and width of heads.",
            )

    def build(self, dimensions: Sequence[Dimension], *, prompts: Sequence[str], folder: Path | None) -> Backbone:
        words = Words.train(prompts, self.vocabulary) if folder is None else Words.load(folder)
        return _Network(self, dimensions, words)


class _Block(nn.Module):
    """Pre-norm attention and a GELU layer four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_NLW: Tensor, allowed_N1LL: Bool[Tensor, "N 1 L L"]) -> Tensor:
        N, L, W = x_NLW.shape
        q, k, v = self.qkv(self.before(x_NLW)).reshape(N, L, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=allowed_N1LL)
        x_NLW = x_NLW + self.out(mixed.transpose(1, 2).reshape(N, L, W))
        return x_NLW + self.mlp(self.after(x_NLW))


@final
class _Network(Backbone):
    def __init__(self, spec: VideoTransformer, dimensions: Sequence[Dimension], words: Words) -> None:
        super().__init__()
        self.spec, self.words, self.width = spec, words, spec.width
        self.prior = prior_at(spec.prior) if spec.prior is not None else None
        self.before = [i for i, dimension in enumerate(dimensions) if not dimension.sees_prompt]
        self.after = [i for i, dimension in enumerate(dimensions) if dimension.sees_prompt]
        grid, W = spec.side // spec.patch, spec.width
        self.tubelets = nn.Conv3d(3, W, (spec.span, spec.patch, spec.patch), (spec.span, spec.patch, spec.patch))
        self.place = nn.Parameter(0.02 * torch.randn(grid * grid, W))
        self.moment = nn.Parameter(0.02 * torch.randn(spec.frames // spec.span, W))
        self.motion, self.frame = nn.Linear(width(spec.frames), W), nn.Parameter(0.02 * torch.randn(spec.frames, W))
        self.special = nn.Parameter(0.02 * torch.randn(len(dimensions), W))
        self.embedding = nn.Embedding(len(words), W)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.turn = nn.Parameter(0.02 * torch.randn(spec.words, W))
        if self.prior is not None:
            P = self.prior.width
            self.seen, self.read, self.agree = nn.Linear(P, W), nn.Linear(P, W), nn.Linear(P, W)
        self.blocks = nn.ModuleList(_Block(W, spec.heads) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(W)

    def prepare(self, sample: Any) -> dict[str, Tensor]:
        """`frames` uint8 [F, H, W, 3], the last repeated until tubelets are full; motion; what the prior sees."""
        spec = self.spec
        found = squares(as_clip(sample), rate=spec.fps, most=spec.frames, side=spec.side)
        frames = torch.from_numpy(found.copy())
        missing = -len(frames) % spec.span
        made = {
            "frames": torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)]),
            "motion": motion(found, spec.frames),
            "shown": torch.tensor(len(found)),
        }
        return made if self.prior is None else {**made, "seen": self.prior.see(found)}

    def collate(self, prompts: Sequence[str], prepared: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Clips padded to the longest; how many frames of each are real; motion; word ids; the prior's features."""
        clips = [p["frames"] for p in prepared]
        longest = max(map(len, clips))
        rows = {
            "frames": torch.stack([torch.cat([c, c[-1:].expand(longest - len(c), -1, -1, -1)]) for c in clips]),
            "count": torch.tensor([len(c) for c in clips]),
            "motion": torch.stack([p["motion"] for p in prepared]),
            "shown": torch.stack([p["shown"] for p in prepared]),
            "words": self.words.ids(prompts, self.spec.words),
        }
        if self.prior is not None:
            rows |= {"seen": torch.stack([p["seen"] for p in prepared]), "read": self.prior.read(list(prompts))}
        return rows

    def forward(self, rows: Mapping[str, Tensor]) -> Tokens:
        clip_NVW, real_NV = self._clip(rows)
        prompt_NTW, real_NT = self._prompt(rows)
        N, V, T, device = *real_NV.shape, real_NT.shape[1], real_NV.device
        early, late = (self.special[part].expand(N, -1, -1) for part in (self.before, self.after))
        x_NLW = torch.cat([clip_NVW, early, prompt_NTW, late], 1)
        lengths = (V, len(self.before), T, len(self.after))
        mask_NL = torch.cat([real_NV, _ones(N, lengths[1], device), real_NT, _ones(N, lengths[3], device)], 1)
        allowed = _order(lengths, device)[None, None] & mask_NL[:, None, None, :]
        # A padded position may look at itself: a row without any key would be NaN.
        allowed = allowed | torch.eye(mask_NL.shape[1], dtype=torch.bool, device=device)
        for block in self.blocks:
            x_NLW = block(x_NLW, allowed)
        place_D = torch.empty(len(self.special), dtype=torch.long, device=device)
        place_D[self.before] = V + torch.arange(lengths[1], device=device)
        place_D[self.after] = V + lengths[1] + T + torch.arange(lengths[3], device=device)
        return Tokens(state_NLW=self.norm(x_NLW), mask_NL=mask_NL, place_ND=place_D.expand(N, -1))

    def _clip(self, rows: Mapping[str, Tensor]) -> tuple[Float[Tensor, "N V W"], Bool[Tensor, "N V"]]:
        pixels = rows["frames"].permute(0, 4, 1, 2, 3).to(self.place.dtype) / 127.5 - 1
        x = self.tubelets(pixels).flatten(3).permute(0, 2, 3, 1)
        x = x + self.moment[: x.shape[1], None] + self.place
        moments = torch.arange(x.shape[1], device=x.device) < (rows["count"] // self.spec.span)[:, None]
        moving = self.motion(rows["motion"]) + self.frame
        shown = torch.arange(len(self.frame), device=x.device) < rows["shown"][:, None]
        x_NVW = torch.cat([x.flatten(1, 2), moving], 1)
        real_NV = torch.cat([moments.repeat_interleave(x.shape[2], 1), shown], 1)
        if self.prior is None:
            return x_NVW, real_NV
        seen = self.seen(rows["seen"])
        return torch.cat([x_NVW, seen], 1), torch.cat([real_NV, _ones(len(x), FRAMES, x.device)], 1)

    def _prompt(self, rows: Mapping[str, Tensor]) -> tuple[Float[Tensor, "N T W"], Bool[Tensor, "N T"]]:
        words_NTW, real_NT = self.embedding(rows["words"]) + self.turn, rows["words"] != PAD
        if self.prior is None:
            return words_NTW, real_NT
        read, agreed = rows["read"][:, None], rows["read"][:, None] * rows["seen"]
        known = torch.cat([self.read(read), self.agree(agreed)], 1)
        return torch.cat([words_NTW, known], 1), torch.cat(
            [real_NT, _ones(len(known), known.shape[1], known.device)], 1
        )

    def keep(self, folder: Path) -> None:
        self.words.save(folder)


def _ones(rows: int, columns: int, device: torch.device) -> Bool[Tensor, "N L"]:
    return torch.ones(rows, columns, dtype=torch.bool, device=device)


def _order(lengths: tuple[int, ...], device: torch.device) -> Bool[Tensor, "L L"]:
    """Who may look at whom: the clip at itself both ways, everything else at itself and what stands before it."""
    total = sum(lengths)
    allowed = torch.ones(total, total, dtype=torch.bool, device=device).tril()
    allowed[: lengths[0], : lengths[0]] = True
    return allowed
