"""Reward-weighted regression: imitation in which each sample counts by its reward.

    loss = - w(r) * log pi,     averaged over a group's candidates

On a flow bound with w = exp(r) this is Flow-RWR (VideoAlign, arXiv 2501.13918), after Peters and Schaal (ICML 2007):
the policy that maximises E[r] under a KL penalty is the data's times exp(r / temperature), and imitation with such
weights fits it. K = 1 is enough: rewards need no second candidate.

Where we differ:

1. Log-probs carry the factor 1/2, so the loss is half the paper's weighted error; Adam does not notice.
2. The paper leaves the weight's temperature, clip and normalisation open: see `penchant.objectives.reward_weights`. Its
   factor (1 - t)^2 is dropped there on purpose, so a recipe takes `FlowMatching(weight="constant")`.
3. A candidate whose reward is not a number counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.metrics import mean_where, pair_metrics
from penchant.objectives.reward_weights import ExpWeight, RewardWeight
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class RWR(Objective):
    """Maximum likelihood with weights made of rewards; every candidate counts, not only the best.

    Args:
        weight: what a reward is worth.
        reduce: the "total" log-prob of a completion, or its "mean" over tokens.

    A sample whose reward is higher by log 2 counts twice as much:

        >>> import math
        >>> from penchant.types import LogProbs
        >>> log_probs = LogProbs(
        ...     step_BKT=torch.tensor([[[-0.1], [-0.1]]]), mask_BKT=torch.ones(1, 2, 1).bool(), density="bound"
        ... )
        >>> scores, mask = torch.tensor([[math.log(2), 0.0]]), torch.ones(1, 2).bool()
        >>> RWR()(ObjectiveInputs(policy=log_probs, scores_BK=scores, mask_BK=mask)).loss
        tensor(0.1500)
    """

    needs: ClassVar[Needs] = Needs(min_candidates=1, scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("peters2007rwr",)

    weight: RewardWeight = field(default_factory=ExpWeight)
    reduce: read.Reduce = "total"

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        logp_BK = read.log_prob(inputs, self.reduce)
        known_BK = inputs.mask_BK & ~inputs.scores_BK.isnan()
        reward_BK = torch.where(known_BK, inputs.scores_BK.to(logp_BK.dtype), 0)
        weight_BK = torch.where(known_BK, self.weight(reward_BK, known_BK), 0)
        loss_B = -(weight_BK * logp_BK).sum(-1) / known_BK.sum(-1).clamp(min=1)
        metrics = pair_metrics(inputs, logp_BK) | _weight_metrics(weight_BK, known_BK)
        return ObjectiveOutput(loss_B=loss_B, metrics=metrics)


def _weight_metrics(weight_BK: Tensor, known_BK: Tensor) -> dict[str, Tensor]:
    """`weights/effective`: the share of samples that would say as much with equal weights, (sum w)^2 / (n sum w^2)."""
    size_BK = weight_BK.abs()
    return {
        "weights/mean": mean_where(weight_BK, known_BK),
        "weights/largest": size_BK.max(),
        "weights/effective": mean_where(size_BK, known_BK).square() / mean_where(size_BK.square(), known_BK),
    }
