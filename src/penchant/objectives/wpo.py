"""Weighted Preference Optimization (WPO, Zhou et al., arXiv 2406.11827, eq. 2 with sampled alignment).

    w(y) = exp( mean over tokens of [ log pi(y_t) - log sum_v pi(v)^2 ] ),   loss = w(y_w) * w(y_l) * loss of the pair

Off-policy pairs are weighed by how likely the policy would write them itself. A token's probability is measured against
sum_v pi(v)^2, what a token that the policy draws has on average, so that an answer drawn on-policy weighs about 1.
Weights carry no gradient.

Where we differ: any objective may be weighed; in a group of more than two candidates each strictly ordered pair has a
weight of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.composed import declare, least_tie_credit
from penchant.objectives.dpo import DPO
from penchant.objectives.pairs import Pairing, pair_weights
from penchant.types import LogProbs, Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class WPO(Objective):
    """Another objective on each pair of a group, times how on-policy its two answers are.

    Args:
        objective: what is minimised on a pair; its own `pairing` says nothing there.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
    """

    needs: ClassVar[Needs] = Needs(reference=True, collision=True, density=frozenset({"exact"}))
    cite: ClassVar[tuple[str, ...]] = ("zhou2024wpo",)

    objective: Objective = field(default_factory=lambda: DPO(beta=0.1))
    pairing: Pairing = "all"

    def __post_init__(self) -> None:
        needs, name = self.objective.needs, type(self.objective).__name__
        if needs.min_candidates > 2 or needs.behavior or needs.mismatched or needs.divergence or needs.value:
            raise ValueError(f"{name} needs more than the log-probs of a pair, so no pair of it can be weighed.")
        declare(self, needs, Needs(collision=True, density=frozenset({"exact"})))

    @property
    def tie_credit(self) -> float | None:
        """That of the objective, if it has one."""
        return least_tie_credit([self.objective])

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        typical_BK = on_policy_weight(inputs)
        # A tied pair counts if the objective has a loss for it, which then carries the credit.
        ties = 0.5 if self.tie_credit else 0.0
        weight_BKK = pair_weights(
            inputs.scores_BK, inputs.mask_BK, pairing=self.pairing, tie_credit=ties, dtype=typical_BK.dtype
        )
        B, K = inputs.scores_BK.shape
        first, second = torch.triu_indices(K, K, 1, device=inputs.scores_BK.device)
        loss_BP = self.objective(_split(inputs, torch.stack([first, second], -1))).loss_B.reshape(B, -1)
        counted_BP = (weight_BKK + weight_BKK.mT)[:, first, second]
        both_BP = typical_BK[:, first] * typical_BK[:, second]
        metrics = self.objective(inputs).metrics
        metrics["weights/pairs"] = (counted_BP * both_BP).sum() / counted_BP.sum()
        return ObjectiveOutput(loss_B=(counted_BP * both_BP * loss_BP).sum(-1), metrics=metrics)


def on_policy_weight(inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """w(y) of every candidate, without gradient; 1 where a candidate is missing."""
    policy = inputs.policy
    if policy.collision_BKT is None:
        raise ValueError("WPO weighs by how peaked the policy is: give LogProbs(collision_BKT=...).")
    collision_BKT = read.at_least_float32(policy.collision_BKT.detach())
    relative = replace(policy, step_BKT=policy.step_BKT.detach() - collision_BKT)
    return torch.exp(read.present(relative.mean(), inputs))


def _split(inputs: ObjectiveInputs, ends_P2: Tensor) -> ObjectiveInputs:
    """The pairs of every group as groups of two: B * P groups with K = 2."""

    def ends(value: LogProbs) -> LogProbs:
        step_BKT, mask_BKT = (x[:, ends_P2].flatten(0, 1) for x in (value.step_BKT, value.mask_BKT))
        return replace(value, step_BKT=step_BKT, mask_BKT=mask_BKT, output=None, collision_BKT=None)

    return ObjectiveInputs(
        policy=ends(inputs.policy),
        reference=None if inputs.reference is None else ends(inputs.reference),
        scores_BK=inputs.scores_BK[:, ends_P2].flatten(0, 1),
        mask_BK=inputs.mask_BK[:, ends_P2].flatten(0, 1),
    )
