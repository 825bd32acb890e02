"""Autoregressive likelihood: the log-probs of a completion's tokens, given the prompt and the tokens before.

    log p(y | c) = sum_t log p(y_t | c, y_<t)

The density is exact and nothing is drawn. `total()` is the sum over tokens, `mean()` the length-normalised log-prob.

Two paths give the same numbers. "tree" is the fast one: the prompt is computed once for all candidates of a group
(`packing`), and the head only sees completion tokens, tile by tile (`token_log_probs`). "plain" is one padded row a
candidate and a full log-softmax: what everybody else does, and what the tests compare with. A model whose attention is
not known to follow a mask of ours exactly is scored on the plain path; it says so when it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import RecipeError
from penchant.likelihoods.packing import pack
from penchant.types import CandidateBatch, Density, Draw, Likelihood, LogProbs


@dataclass(frozen=True, kw_only=True)
class Autoregressive(Likelihood):
    """Token log-probs of a causal language model.

    Args:
        path: "tree" (shared prompt, tiled head) or "plain" (one row a candidate, full logits).
        row_tokens: tokens packed into one row of the tree path; None takes 1024 on a CPU, 4096 on a GPU.
    """

    density: ClassVar[Density] = "exact"

    path: Literal["tree", "plain"] = "tree"
    row_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.path not in ("tree", "plain"):
            raise RecipeError(f"no path is called '{self.path}'.", field="path", remedy="use tree or plain.")
        if self.row_tokens is not None and self.row_tokens < 1:
            raise RecipeError("a row holds at least one token.", field="row_tokens", remedy="use 1024, or None.")

    def draw(self, batch: CandidateBatch, *, seed: int, epoch: int) -> Draw:
        """Nothing is drawn."""
        return Draw(key_B=("",) * batch.shape[0])

    def log_prob(self, model: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False) -> LogProbs:
        """Log-prob of every completion token [B, K, T], differentiable in the model's parameters.

        `keep_output` keeps `collision_BKT` for objectives that weigh by how peaked the policy is.
        """
        length_BK = torch.where(batch.mask_BK, batch.candidates["length"], 0)
        mask_BKT = torch.arange(batch.candidates["tokens"].shape[-1], device=length_BK.device) < length_BK[..., None]
        if self.path == "tree" and model.follows_masks:
            step_BKT, collision_BKT = self._tree(model, batch, length_BK, keep_output)
        else:
            step_BKT, collision_BKT = model.score_plain(batch, collision=keep_output)
        return LogProbs(step_BKT=step_BKT, mask_BKT=mask_BKT, density="exact", collision_BKT=collision_BKT)

    def _tree(
        self, model: Any, batch: CandidateBatch, length_BK: Tensor, collision: bool
    ) -> tuple[Tensor, Tensor | None]:
        packed = pack(
            batch.condition["prompt"],
            batch.condition["prompt_length"],
            batch.candidates["tokens"],
            length_BK,
            row_tokens=self.row_tokens or (1024 if length_BK.device.type == "cpu" else 4096),
        )
        place = packed.place_N3.unbind(-1)
        logp_N, collision_N = model.score_tree(packed, collision=collision)

        def spread(value_N: Tensor) -> Tensor:
            return value_N.new_zeros(batch.candidates["tokens"].shape).index_put(place, value_N)

        return spread(logp_N), None if collision_N is None else spread(collision_N)

    def divergence(self, policy: LogProbs, reference: LogProbs) -> Float[Tensor, "B K"]:
        """Not defined: logits are never held.

        Raises:
            RecipeError: always; `compatible` refuses objectives that would ask.
        """
        raise RecipeError("a text likelihood keeps no predictions to compare.", field="objective", remedy="use DPO.")
