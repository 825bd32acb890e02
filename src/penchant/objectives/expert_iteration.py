"""Expert iteration: imitate the best of what the policy itself has drawn (Anthony et al., NeurIPS 2017).

    loss = - log pi(y*),   y* = the best of a group's K samples, if its reward is above the threshold

Best-of-N imitation (RAFT, arXiv 2304.06767); with `keep="all"` every sample above the threshold counts, as in rejection
sampling (ReST, arXiv 2308.08998; STaR for right and wrong answers). On a denoising bound it is the best-of-group SFT
that Flow-GRPO compares with.

Where we differ: the threshold is a reward, not a quantile of the collection, so that a group says for itself what it
teaches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from penchant.objectives import inputs as read
from penchant.objectives.metrics import mean_where, pair_metrics
from penchant.objectives.pairs import extremes
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class ExpertIteration(Objective):
    """Maximum likelihood of a group's best sample, if it is good enough.

    Args:
        threshold: rewards must be above it; a group without one teaches nothing.
        keep: the "best" of a group (samples that share the highest reward share the weight) or "all" above the
            threshold.
        reduce: the "total" log-prob of a sample, or its "mean" over tokens.
    """

    needs: ClassVar[Needs] = Needs(min_candidates=1, scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("anthony2017expert", "dong2023raft")

    threshold: float = -math.inf
    keep: Literal["best", "all"] = "best"
    reduce: read.Reduce = "total"

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        logp_BK = read.log_prob(inputs, self.reduce)
        known_BK = inputs.mask_BK & ~inputs.scores_BK.isnan()
        kept_BK = known_BK & (inputs.scores_BK > self.threshold)
        if self.keep == "best":
            kept_BK = kept_BK & extremes(inputs.scores_BK, known_BK)[0]
        share_BK = kept_BK.to(logp_BK.dtype) / kept_BK.sum(-1, keepdim=True).clamp(min=1)
        taught_B = kept_BK.any(-1).to(logp_BK.dtype)
        metrics = pair_metrics(inputs, logp_BK) | {
            "experts/groups": mean_where(taught_B, inputs.mask_BK.any(-1)),
            "experts/logps": mean_where(logp_BK, kept_BK),
        }
        return ObjectiveOutput(loss_B=-torch.where(kept_BK, share_BK * logp_BK, 0).sum(-1), metrics=metrics)
