"""The metrics every objective logs, with the field's names: detached scalars over each group's best and worst.

    rewards/chosen, /rejected, /margins     what the objective's logit is a difference of (DPO: beta * log-ratio)
    rewards/accuracies                      share of groups whose best outranks its worst; equal rewards count half
    logps/chosen, logps/rejected            log pi
    drift/chosen                            log pi - log ref of the best: below zero the winner gets *less* likely
    gradient_factor                         mean |d loss / d logit| over the pairs; DPO starts at 1/2 and ends at 0
    saturated                               share of pairs whose factor is below 0.01

A metric that no group of the batch defines (only ties) is not-a-number; averages over batches skip those.
"""

from __future__ import annotations

import torch
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.pairs import pair_weights, sides
from penchant.types import ObjectiveInputs

SATURATED = 0.01


def mean_where(value: Tensor, where: Tensor) -> Tensor:
    """Mean of the chosen entries; not-a-number when there is none."""
    return torch.where(where, value.detach(), 0).sum() / where.sum()


def std_where(value: Tensor, where: Tensor) -> Tensor:
    """Standard deviation of the chosen entries, dividing by n; not-a-number when there is none."""
    return mean_where((value - mean_where(value, where)).square(), where).sqrt()


def pair_metrics(
    inputs: ObjectiveInputs,
    reward: Tensor,
    *,
    factor_BKK: Tensor | None = None,
    weight_BKK: Tensor | None = None,
) -> dict[str, Tensor]:
    """Metrics of the best against the worst candidate; candidates that share the end are averaged.

    `reward` is of every candidate [B, K], or of every candidate against every other [B, K, K].
    """
    with torch.no_grad():
        ends_BKK = pair_weights(inputs.scores_BK, inputs.mask_BK, pairing="best_worst", dtype=reward.dtype)
        ordered_B = ends_BKK.sum((-1, -2)) > 0

        def best(value: Tensor) -> Tensor:
            return mean_where((ends_BKK * sides(value, ends_BKK)[0]).sum((-1, -2)), ordered_B)

        def worst(value: Tensor) -> Tensor:
            return mean_where((ends_BKK * sides(value, ends_BKK)[1]).sum((-1, -2)), ordered_B)

        won_BKK, lost_BKK = sides(reward, ends_BKK)
        right_BKK = ((won_BKK - lost_BKK).sign() + 1) / 2
        logp_BK = read.log_prob(inputs)
        metrics = {
            "rewards/chosen": best(reward),
            "rewards/rejected": worst(reward),
            "rewards/margins": best(reward) - worst(reward),
            "rewards/accuracies": mean_where((ends_BKK * right_BKK).sum((-1, -2)), ordered_B),
            "logps/chosen": best(logp_BK),
            "logps/rejected": worst(logp_BK),
        }
        if inputs.reference is not None:
            metrics["drift/chosen"] = best(read.log_ratio(inputs))
        if factor_BKK is not None and weight_BKK is not None:
            pairs_BKK = weight_BKK > 0
            metrics["gradient_factor"] = mean_where(factor_BKK, pairs_BKK)
            metrics["saturated"] = mean_where((factor_BKK < SATURATED).to(factor_BKK.dtype), pairs_BKK)
        return metrics


def label_metrics(inputs: ObjectiveInputs, reward_BK: Tensor, desirable_BK: Tensor) -> dict[str, Tensor]:
    """Metrics of unpaired feedback: desirable candidates count as chosen, the others as rejected."""
    with torch.no_grad():
        good_BK, bad_BK = inputs.mask_BK & desirable_BK, inputs.mask_BK & ~desirable_BK
        logp_BK = read.log_prob(inputs)
        right_BK = torch.where(desirable_BK, reward_BK, -reward_BK)
        chosen, rejected = mean_where(reward_BK, good_BK), mean_where(reward_BK, bad_BK)
        return {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": mean_where((right_BK.sign() + 1) / 2, inputs.mask_BK),
            "logps/chosen": mean_where(logp_BK, good_BK),
            "logps/rejected": mean_where(logp_BK, bad_BK),
            "drift/chosen": mean_where(read.log_ratio(inputs), good_BK),
        }
