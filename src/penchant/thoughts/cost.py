"""What thinking costs: attention FLOPs, which grow with the square of the length, and tokens, which do not.

    generating n tokens after p:  sum over i = 1..n of 4 * layers * width * (p + i)
    prefilling p tokens:          sum over i = 1..p of 4 * layers * width * i

A token attends to itself and everything before it: scores and values are two products of `width` multiply-adds a
position and layer, a multiply-add counts as 2. Projections and the feed-forward layers are left out, as in the paper
(DTO, arXiv 2505.21765): they cost the same for every token. So a cut of 40 % of the tokens is a larger one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from penchant.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What of a decoder decides the cost of its attention.

    Attributes:
        layers: decoder layers.
        width: query heads times head size; nearly always the hidden size.
    """

    layers: int
    width: int

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise RecipeError("a decoder has layers and a width.", field="layers, width", remedy="use 1 or more.")


def attention_flops(shape: ModelShape, *, prompt: int, generated: int) -> float:
    """Attention FLOPs of `generated` tokens that follow `prompt` tokens already in the cache.

    The worked example of DeepSeek-R1-Distill-Qwen-1.5B's shape:

        >>> shape = ModelShape(layers=28, width=1536)
        >>> f"{attention_flops(shape, prompt=100, generated=5000):.4e}"
        '2.2368e+12'
    """
    positions = generated * prompt + generated * (generated + 1) // 2
    return 4.0 * shape.layers * shape.width * positions


def prefill_flops(shape: ModelShape, *, prompt: int) -> float:
    """Attention FLOPs of reading `prompt` tokens into an empty cache."""
    return attention_flops(shape, prompt=0, generated=prompt)
