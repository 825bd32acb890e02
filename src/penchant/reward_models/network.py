"""The reward network: tokens of a sample and its prompt, one special token a dimension, one linear layer.

    [sample] [tokens of context-agnostic dimensions] [prompt] [tokens of context-aware dimensions]
                          |                                              |
                    one linear layer, W -> D, and of each token its own dimension: the diagonal

As attention is causal over these four parts, the score of a dimension whose token stands before the prompt cannot
depend on the prompt (VideoAlign, arXiv 2501.13918, section 3.2). What the tokens of a sample are, only the backbone
knows: pictures, clips and, one day, sound go through the same network.

Shapes: N (sample, prompt) rows, L positions, W hidden width, D dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

Pooling = Literal["special", "last", "mean"]


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One thing that is judged.

    Attributes:
        name: what feedback calls it, e.g. "VQ".
        sees_prompt: its token stands after the prompt (context-aware), not before it (context-agnostic).
    """

    name: str
    sees_prompt: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """What a backbone makes of N rows: states, which of them are real, and where each dimension's token stands.

    `place_ND` is empty (D = 0) for a backbone that was built without special tokens.
    """

    state_NLW: Float[Tensor, "N L W"]
    mask_NL: Bool[Tensor, "N L"]
    place_ND: Int[Tensor, "N D"]


class Backbone(ABC, nn.Module):
    """From samples and prompts to tokens. A further modality is a further class of these four methods.

    Attributes:
        width: W.
    """

    width: int

    @abstractmethod
    def prepare(self, sample: Any) -> Mapping[str, Tensor]:
        """What the backbone reads of one sample, on the CPU; made once a sample and kept."""

    def preparation(self) -> str | None:
        """Names all that `prepare` depends on beside the sample, where that is dear enough to keep on disk."""
        return None

    @abstractmethod
    def collate(self, prompts: Sequence[str], prepared: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """N rows as tensors."""

    @abstractmethod
    def forward(self, rows: Mapping[str, Tensor]) -> Tokens:
        """The tokens of N rows."""

    def drawn(self, rows: dict[str, Tensor], pairs: Sequence[tuple[str, int]], *, seed: int) -> dict[str, Tensor]:
        """The rows as training shows them, with what is random about it; most backbones draw nothing.

        Args:
            rows: the first samples of B pairs, then their second ones.
            pairs: (id, epoch) of each pair; what is drawn is a function of them and of `seed`.
            seed: seed of the run.
        """
        return rows

    def begin(self, head: nn.Linear) -> None:
        """Sets weights of the head that must not begin at random; most backbones have none."""

    def natural(self, head: nn.Linear) -> tuple[list[float], list[float]]:
        """(shift, scale) of each dimension: (raw score - shift) / scale is in the backbone's own units."""
        return [0.0] * head.out_features, [1.0] * head.out_features

    @abstractmethod
    def keep(self, folder: Path) -> None:
        """Writes what belongs to the backbone beside its weights (its tokenizer) into `folder`."""


class BackboneSpec(ABC):
    """Which backbone, as a frozen dataclass of its sizes.

    Attributes:
        reads: what kinds of samples it takes.
    """

    reads: ClassVar[frozenset[Literal["media", "text"]]] = frozenset({"media"})
    cite: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def build(self, dimensions: Sequence[Dimension], *, prompts: Sequence[str], folder: Path | None) -> Backbone:
        """A new backbone, or with `folder` one ready for the weights that lie there.

        Args:
            dimensions: those that get a special token; none for the poolings "last" and "mean".
            prompts: what a tokenizer of its own is trained on.
            folder: where `keep` wrote.
        """


@final
class RewardNetwork(nn.Module):
    """Scores in D dimensions from one linear layer without bias.

    Pooling "special" reads each dimension at its own token, "last" all of them at the last token, "mean" at the mean of
    all tokens. The last two see the prompt in every dimension.
    """

    def __init__(self, backbone: Backbone, dimensions: Sequence[Dimension], pooling: Pooling) -> None:
        super().__init__()
        self.dimensions, self.pooling = tuple(dimensions), pooling
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, len(self.dimensions), bias=False)
        backbone.begin(self.head)

    def forward(self, rows: Mapping[str, Tensor]) -> Float[Tensor, "N D"]:
        """Raw scores, in float32, not normalised."""
        tokens = self.backbone(rows)
        # Scores are compared: their differences are small beside half precision's steps.
        weight_DW = self.head.weight.float()
        with torch.autocast(tokens.state_NLW.device.type, enabled=False):
            if self.pooling == "special":
                index_NDW = tokens.place_ND[:, :, None].expand(-1, -1, self.backbone.width)
                # The diagonal of [N, D tokens, D dimensions], and nothing beside it.
                return (tokens.state_NLW.float().gather(1, index_NDW) * weight_DW).sum(-1)
            return _pooled(tokens, self.pooling) @ weight_DW.T


def _pooled(tokens: Tokens, pooling: Pooling) -> Float[Tensor, "N W"]:
    state_NLW, mask_NL = tokens.state_NLW.float(), tokens.mask_NL
    if pooling == "mean":
        return (state_NLW * mask_NL[:, :, None]).sum(1) / mask_NL.sum(1, keepdim=True)
    position_L = torch.arange(mask_NL.shape[1], device=mask_NL.device)
    last_N = torch.where(mask_NL, position_L, -1).amax(1)
    return state_NLW[torch.arange(len(last_N), device=mask_NL.device), last_N]
