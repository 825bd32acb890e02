"""KL-regularised REINFORCE with a learned baseline: MusicRL's (Cideron et al., arXiv 2402.04229, section 3.2).

    loss  = - (1 - alpha) * sum_t log pi(a_t | s_t) * sg[ R - V(s_t) ]  +  alpha * sum_t KL( pi(.|s_t) || ref(.|s_t) )
    value loss = sum_t ( R - V(s_t) )^2

Rewards are of whole sequences, so the return to go is R at every step. No ratio, no clip, one update a batch. The KL
term is the exact sum over the vocabulary at every visited state and is differentiated directly: a part of the loss, not
of the reward.

Where we differ:

1. The paper prints the KL term without the weight pi(a | s_t) of its sum; its text says KL-regularised, so it is the KL
   divergence here.
2. alpha and the weight of the value loss are not stated. The paper's two networks share no weight, so one sum with
   weight 1 gives each of them its own gradient.
3. `whiten_rewards` and `whiten_advantages` are ours and off. Whitened advantages are those of the batch at hand, so
   micro-batches then no longer add up exactly.
4. A sample whose reward is not a number has no policy term and no value term; its KL term stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from penchant.objectives import inputs as read
from penchant.objectives.advantages import RawAdvantage, Whitened, advantages, whitened
from penchant.objectives.composed import declare
from penchant.objectives.metrics import mean_where, pair_metrics, std_where
from penchant.objectives.ratios import counted_steps, kl_needs, kl_steps, policy_steps
from penchant.objectives.values import VALUE, value_metrics, value_steps
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class REINFORCE(Objective):
    """Policy gradient with a value baseline and an exact KL term; K = 1 is enough.

    Args:
        alpha: share of the KL term, in [0, 1); the reward has the rest. Not stated in the paper: ours is 0.05. At 0 no
            reference is read.
        value_weight: weight of the value loss.
        reduce: the "sum" over a sample's tokens, as the paper writes it, or their "mean".
        whiten_rewards: bring rewards to mean 0 and deviation 1 first; the value network then forecasts those.
        whiten_advantages: bring the advantages of all tokens of the batch at hand to mean 0 and deviation 1.
    """

    needs: ClassVar[Needs] = replace(VALUE, reference=True, divergence=True)
    cite: ClassVar[tuple[str, ...]] = ("cideron2024musicrl", "williams1992reinforce")

    alpha: float = 0.05
    value_weight: float = 1.0
    reduce: Literal["sum", "mean"] = "sum"
    whiten_rewards: bool = False
    whiten_advantages: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha {self.alpha} is the share of the KL term and must lie in [0, 1).")
        declare(self, kl_needs(self.alpha, "exact"), VALUE)

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        steps_BKT, value_BKT = counted_steps(inputs), value_steps(inputs)
        known_BKT = steps_BKT & ~inputs.scores_BK.isnan()[:, :, None]
        return_BK = advantages(inputs, Whitened() if self.whiten_rewards else RawAdvantage())
        error_BKT = torch.where(known_BKT, return_BK[:, :, None] - value_BKT, 0)
        advantage_BKT = error_BKT.detach()
        if self.whiten_advantages:
            advantage_BKT = whitened(advantage_BKT, known_BKT)
        loss_BKT = -(1 - self.alpha) * policy_steps(inputs) * advantage_BKT
        loss_BKT = loss_BKT + self.value_weight * error_BKT.square()
        metrics = pair_metrics(inputs, read.log_prob(inputs))
        if self.alpha > 0:
            kl_BKT = kl_steps(inputs, "exact")
            loss_BKT = loss_BKT + self.alpha * kl_BKT
            metrics["kl"] = mean_where(kl_BKT, steps_BKT)
            metrics["kl/sequence"] = mean_where(kl_BKT.sum(-1), inputs.mask_BK)
        metrics["advantages/mean"] = mean_where(advantage_BKT, known_BKT)
        metrics["advantages/std"] = std_where(advantage_BKT, known_BKT)
        metrics["loss/value"] = mean_where(error_BKT.square(), known_BKT)
        metrics |= value_metrics(value_BKT, return_BK[:, :, None].expand_as(value_BKT), known_BKT)
        divisor_BK = steps_BKT.sum(-1).clamp(min=1) if self.reduce == "mean" else 1
        loss_B = (loss_BKT.sum(-1) / divisor_BK).sum(-1) / inputs.mask_BK.sum(-1).clamp(min=1)
        return ObjectiveOutput(loss_B=loss_B, metrics=metrics)
