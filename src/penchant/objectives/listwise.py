"""Losses on a whole list: Plackett-Luce (as in Diffusion-LPO) and ListNet.

Plackett-Luce: the best is drawn first, then the best of the rest, each with probability softmax of the rewards
r = beta * (log pi - log ref); Diffusion-LPO (arXiv 2510.01540) puts a diffusion bound into it, DPO's appendix A.3
(arXiv 2305.18290) any likelihood. K = 2 is DPO.

    loss = - sum over i of log [ exp(r_i) / ( exp(r_i) + sum over j ranked below i of exp(r_j) ) ]

ListNet (Cao et al., ICML 2007, eq. 9, top-one probabilities) compares two distributions over the list:

    loss = KL( softmax(scores / temperature) || softmax(r) )

the cross entropy of the paper less the entropy of the target, so that a list which is matched costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from penchant.objectives import inputs as read
from penchant.objectives.metrics import pair_metrics
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class PlackettLuce(Objective):
    """Likelihood of the observed ranking under Plackett and Luce's model; Diffusion-LPO on a denoising bound.

    Candidates that tie do not compete with each other: each is drawn against those ranked below it, so a tie says
    nothing about its members and a list of equals costs nothing.

    Args:
        beta: temperature, in the unit of `DPO`.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("bai2025diffusionlpo", "rafailov2023dpo")

    beta: float = 5000.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        reward_BK = self.beta * read.log_ratio(inputs)
        scores_BK, mask_BK = inputs.scores_BK, inputs.mask_BK
        below_BKK = mask_BK[:, :, None] & mask_BK[:, None, :] & (scores_BK[:, :, None] > scores_BK[:, None, :])
        # Rewards relative to the candidate that is drawn: itself 0, everybody not below it out of the sum.
        relative_BKK = torch.where(below_BKK, reward_BK[:, None, :] - reward_BK[:, :, None], -torch.inf)
        itself_BK = torch.zeros_like(reward_BK)[:, :, None]
        loss_BK = torch.cat([itself_BK, relative_BKK], -1).logsumexp(-1)
        return ObjectiveOutput(loss_B=loss_BK.sum(-1), metrics=pair_metrics(inputs, reward_BK))


@dataclass(frozen=True, kw_only=True)
class ListNet(Objective):
    """Matches the policy's distribution over the list to the one that the scores' *values* give.

    Equal scores are a statement here (equal probability), not a missing one: keep ties with `feedback.ties="keep"`.

    Args:
        beta: temperature of the policy's rewards, in the unit of `DPO`.
        temperature: unit of the scores; the smaller, the closer to "the best takes all".
    """

    needs: ClassVar[Needs] = Needs(reference=True, scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("cao2007listnet",)

    beta: float = 5000.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature} must be positive.")

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        reward_BK = self.beta * read.log_ratio(inputs)
        mask_BK, low = inputs.mask_BK, torch.finfo(reward_BK.dtype).min
        target_BK = (inputs.scores_BK.to(reward_BK.dtype) / self.temperature).masked_fill(~mask_BK, low)
        log_target_BK, log_policy_BK = target_BK.log_softmax(-1), reward_BK.masked_fill(~mask_BK, low).log_softmax(-1)
        each_BK = torch.where(mask_BK, log_target_BK.exp() * (log_target_BK - log_policy_BK), 0)
        return ObjectiveOutput(loss_B=each_BK.sum(-1), metrics=pair_metrics(inputs, reward_BK))
