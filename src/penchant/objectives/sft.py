"""Supervised fine-tuning on what was preferred: the baseline every preference method has to beat.

    loss = -log pi_w            reduce="mean": -(log pi_w) / (number of tokens)

On a denoising bound that is *half* the winner's mean squared error (log-probs carry the 1/2), so a learning rate tuned
on the plain error is doubled for plain SGD; Adam does not notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penchant.objectives import inputs as read
from penchant.objectives.metrics import pair_metrics
from penchant.objectives.pairs import extremes
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class SFT(Objective):
    """Maximum likelihood of each group's best candidate; candidates that share the highest score share the weight.

    Args:
        reduce: the "total" log-prob of a completion, or its "mean" over tokens, so that a long answer weighs no more
            than a short one and the loss can stand beside those of pairs.
    """

    needs: ClassVar[Needs] = Needs(min_candidates=1)
    cite: ClassVar[tuple[str, ...]] = ()

    reduce: read.Reduce = "total"

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        logp_BK = read.log_prob(inputs, self.reduce)
        best_BK, _ = extremes(inputs.scores_BK, inputs.mask_BK)
        share_BK = best_BK.to(logp_BK.dtype) / best_BK.sum(-1, keepdim=True).clamp(min=1)
        return ObjectiveOutput(loss_B=-(share_BK * logp_BK).sum(-1), metrics=pair_metrics(inputs, logp_BK))
