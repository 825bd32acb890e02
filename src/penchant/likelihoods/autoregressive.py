"""Autoregressive likelihood: the log-probs of a completion's tokens, given the prompt and the tokens before.

    log p(y | c) = sum_t log p(y_t | c, y_<t)

The density is exact and nothing is drawn. `total()` is the sum over tokens, `mean()` the length-normalised log-prob.

Two paths give the same numbers. "tree" is the fast one: the prompt is computed once for all candidates of a group
(`packing`), and the head only sees completion tokens, tile by tile (`token_log_probs`). "plain" is one padded row a
candidate and a full log-softmax: what everybody else does, and what the tests compare with. A model whose attention is
not known to follow a mask of ours exactly is scored on the plain path; it says so when it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError, RecipeError
from penchant.likelihoods import _denoising
from penchant.likelihoods.packing import Packed, pack
from penchant.types import Asked, CandidateBatch, Density, Draw, Likelihood, LogProbs, TokenScores


@dataclass(frozen=True, kw_only=True)
class Autoregressive(Likelihood):
    """Token log-probs of a causal language model, or of music tokens, a step being a column of codes.

    Args:
        temperature: the logits are divided by it: what the policy *is* when it samples at that temperature. Online RL
            needs the one that its rollouts are drawn with; feedback that others drew is scored at 1.
        caption_dropout: probability that a group is seen without its prompt, for models that are guided away from it
            (MusicGen; 0.1 in its training).
        path: "tree" (shared prompt, tiled head) or "plain" (one row a candidate, full logits).
        row_tokens: tokens packed into one row of the tree path; None takes 1024 on a CPU, 4096 on a GPU.
    """

    density: ClassVar[Density] = "exact"

    temperature: float = 1.0
    caption_dropout: float = 0.0
    path: Literal["tree", "plain"] = "tree"
    row_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.path not in ("tree", "plain"):
            raise RecipeError(f"no path is called '{self.path}'.", field="path", remedy="use tree or plain.")
        if not self.temperature > 0:
            raise RecipeError("not a temperature.", field="temperature", remedy="use 1.0, or what rollouts have.")
        _denoising.check_options(steps=1, caption_dropout=self.caption_dropout, bank=None)
        if self.row_tokens is not None and self.row_tokens < 1:
            raise RecipeError("a row holds at least one token.", field="row_tokens", remedy="use 1024, or None.")

    def draw(self, batch: CandidateBatch, *, seed: int, epoch: int) -> Draw:
        """Nothing but which prompts are dropped, if any are."""
        dropped_B = _denoising.Counted(batch=batch, seed=seed, epoch=epoch).dropped(self.caption_dropout)
        return Draw(
            key_B=("",) * batch.shape[0],
            dropped_B=None if dropped_B is None else dropped_B.to(batch.scores_BK.device),
        )

    def log_prob(self, model: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False) -> LogProbs:
        """Log-prob of every completion token [B, K, T], differentiable in the model's parameters.

        `keep_output` keeps `collision_BKT`, for objectives that weigh by how peaked the policy is, and what
        `divergence` compares.
        """
        if draw.dropped_B is not None:
            batch = _unprompted(model, batch, draw.dropped_B)
        length_BK = torch.where(batch.mask_BK, batch.candidates["length"], 0)
        mask_BKT = torch.arange(batch.candidates["tokens"].shape[-1], device=length_BK.device) < length_BK[..., None]
        asked = Asked(temperature=self.temperature, collision=keep_output, distributions=keep_output)
        if self.path == "tree" and model.follows_masks:
            packed = self._packed(batch, length_BK)
            scores = _spread(model.score_tree(packed, asked), packed, mask_BKT)
        else:
            scores = model.score_plain(batch, asked)
        return LogProbs(
            step_BKT=scores.logp,
            mask_BKT=mask_BKT,
            density="exact",
            output=scores.distributions,
            collision_BKT=scores.collision,
        )

    def value(self, model: Any, batch: CandidateBatch) -> Float[Tensor, "B K T"]:
        """The value network's forecast before every completion token, differentiable in its weights; beyond a
        completion's end anything.

        Raises:
            ModelError: the model has no value network.
        """
        if not model.follows_masks:
            return model.value_plain(batch)
        length_BK = torch.where(batch.mask_BK, batch.candidates["length"], 0)
        packed = self._packed(batch, length_BK)
        value_N = model.value_tree(packed)
        shape = batch.candidates["tokens"].shape
        return value_N.new_zeros(shape).index_put(packed.place_N3.unbind(-1), value_N)

    def _packed(self, batch: CandidateBatch, length_BK: Tensor) -> Packed:
        return pack(
            batch.condition["prompt"],
            batch.condition["prompt_length"],
            batch.candidates["tokens"],
            length_BK,
            row_tokens=self.row_tokens or (1024 if length_BK.device.type == "cpu" else 4096),
        )

    def divergence(self, policy: LogProbs, reference: LogProbs) -> Float[Tensor, "B K T"]:
        """KL(policy || reference) of each token's distribution in nats, over the whole vocabulary."""
        if policy.output is None or reference.output is None:
            raise ValueError("both models' distributions are needed: call log_prob(..., keep_output=True).")
        return torch.where(policy.mask_BKT, policy.output.kl(reference.output), 0)


def _unprompted(model: Any, batch: CandidateBatch, dropped_B: Tensor) -> CandidateBatch:
    """The batch without the prompts that are dropped."""
    if not model.null_prompt:
        raise ModelError(
            "knows no answer without a prompt.", field="likelihood.caption_dropout", remedy="leave it at 0."
        )
    length_B = torch.where(dropped_B, 0, batch.condition["prompt_length"])
    return replace(batch, condition={**batch.condition, "prompt_length": length_B})


@dataclass(frozen=True, kw_only=True, eq=False)
class _Placed:
    """Distributions of the N tokens of packed rows, whose divergence is wanted as [B, K, T]."""

    distributions: Any
    place_N3: Tensor
    shape: torch.Size

    def kl(self, other: _Placed) -> Tensor:
        kl_N = self.distributions.kl(other.distributions)
        return kl_N.new_zeros(self.shape).index_put(self.place_N3.unbind(-1), kl_N)


def _spread(scores: TokenScores, packed: Packed, mask_BKT: Tensor) -> TokenScores:
    """Scores of packed rows, back in [B, K, T]."""
    shape, place = mask_BKT.shape, packed.place_N3.unbind(-1)

    def spread(value_N: Tensor) -> Tensor:
        return value_N.new_zeros(shape).index_put(place, value_N)

    found = scores.distributions
    return TokenScores(
        logp=spread(scores.logp),
        collision=None if scores.collision is None else spread(scores.collision),
        distributions=None if found is None else _Placed(distributions=found, place_N3=packed.place_N3, shape=shape),
    )
