"""REINFORCE leave-one-out (Ahmadian et al., arXiv 2402.14740, section 3; Kool et al., 2019).

    r' = r - beta * [ log mu(y) - log ref(y) ],   A = r' - mean of the group's other r'
    loss of a sample = max(-A W, -A clip(W, 1 - low, 1 + high)),   W = pi(y) / mu(y)

The whole completion is one action: its ratio is that of the joint probability, and the KL penalty stands in the reward,
where it carries no gradient. On-policy the gradient is that of -A log pi(y): plain REINFORCE.

Where we differ:

1. The clip is TRL's, for more than one update a rollout; the paper has one update and no ratio.
2. An advantage with a scale "batch" divides by the deviation of a collection's plain rewards, as `Statistics` knows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.advantages import Advantage, LeaveOneOut, advantages
from penchant.objectives.composed import declare
from penchant.objectives.metrics import mean_where
from penchant.objectives.policy_gradient import clipped, policy_gradient
from penchant.objectives.ratios import behavior_steps, kl_needs
from penchant.types import LogProbs, Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class RLOO(Objective):
    """A sample against the mean of the others of its group, as one action.

    Args:
        advantage: how rewards become advantages.
        clip_low: the joint ratio is held above 1 - clip_low.
        clip_high: and below 1 + clip_high.
        beta: weight of the KL penalty in the reward; 0 reads no reference. 0.05 in TRL.
    """

    needs: ClassVar[Needs] = Needs(reference=True, scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("ahmadian2024rloo",)

    advantage: Advantage = field(default_factory=LeaveOneOut)
    clip_low: float = 0.2
    clip_high: float = 0.2
    beta: float = 0.05

    def __post_init__(self) -> None:
        declare(self, kl_needs(self.beta, "k1", self.advantage.min_candidates))

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def surrogate(logp_BKT: Tensor, ratio_BK1: Tensor, advantage_BK1: Tensor) -> tuple[Tensor, Tensor]:
            return clipped(ratio_BK1, advantage_BK1, low=self.clip_low, high=self.clip_high)

        drift_BK = None if self.beta == 0 else sampled_drift(inputs)
        penalty_BK = None if drift_BK is None else self.beta * drift_BK
        output = policy_gradient(inputs, surrogate, advantages(inputs, self.advantage, penalty_BK), level="joint")
        if drift_BK is not None:
            output.metrics["kl/sequence"] = mean_where(drift_BK, inputs.mask_BK)
        return output


def sampled_drift(inputs: ObjectiveInputs) -> Tensor:
    """log mu - log ref of every sample [B, K], without gradient: its KL divergence, estimated at the rollout."""
    policy = inputs.policy
    behavior = LogProbs(step_BKT=behavior_steps(inputs), mask_BKT=policy.mask_BKT, density=policy.density)
    return read.present(behavior.total(), inputs) - read.reference_log_prob(inputs)
