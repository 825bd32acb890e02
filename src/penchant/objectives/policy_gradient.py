"""What all policy-gradient losses share: a surrogate at each step, a KL term, a normaliser, and metrics.

    loss = normaliser of [ surrogate_t + beta * KL_t ]

| normaliser | a sample's steps are                                  | who                                        |
|------------|-------------------------------------------------------|--------------------------------------------|
| sequence   | averaged, then its group's samples                    | GRPO, GSPO                                 |
| batch      | summed over the batch and divided by all of its steps | BNPO, DAPO, CISPO: long answers weigh more |
| constant   | summed and divided by a constant, then averaged       | Dr. GRPO: no answer is told how long to be |

A group's loss is such that the mean over groups is the number above. For "batch" that takes the number of steps of all
groups; `Statistics.steps` knows it, so that micro-batches add up. Without, it is that of the batch at hand.

Metrics: `advantages/mean`, `advantages/std`, `advantages/silent` (share of groups whose advantages are all zero, which
teach nothing), `ratio/mean`, `ratio/clipped` (share of ratios without gradient), `kl` (mean a step).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.metrics import mean_where, pair_metrics, std_where
from penchant.objectives.ratios import Estimator, Level, counted_steps, kl_steps, policy_steps, ratios
from penchant.types import ObjectiveInputs, ObjectiveOutput

Normaliser = Literal["sequence", "batch", "constant"]
# (log pi [B, K, T], ratio [B, K, t], advantage [B, K, 1]) -> (loss of each step, which ratios are cut or None)
Surrogate = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]


def policy_gradient(
    inputs: ObjectiveInputs,
    surrogate: Surrogate,
    advantage_BK: Float[Tensor, "B K"],
    *,
    level: Level = "token",
    normaliser: Normaliser = "sequence",
    length: float = 1.0,
    beta: float = 0.0,
    kl: Estimator = "k3",
) -> ObjectiveOutput:
    """A surrogate on ratios and advantages, plus beta times a KL term, normalised.

    `length` is the divisor of the normaliser "constant". With beta = 0 no reference is read.
    """
    ratio_BKt, steps_BKT = ratios(inputs, level), counted_steps(inputs)
    loss_BKT, cut_BKt = surrogate(policy_steps(inputs), ratio_BKt, advantage_BK[:, :, None])
    loss_BKT = torch.where(steps_BKT, loss_BKT, 0)
    metrics = pair_metrics(inputs, read.log_prob(inputs)) | advantage_metrics(inputs, advantage_BK)
    where_BKt = steps_BKT if level == "token" else inputs.mask_BK[:, :, None]
    metrics["ratio/mean"] = mean_where(ratio_BKt, where_BKt)
    if cut_BKt is not None:
        metrics["ratio/clipped"] = mean_where(cut_BKt.to(ratio_BKt.dtype), where_BKt)
    if beta > 0:
        kl_BKT = kl_steps(inputs, kl)
        loss_BKT = loss_BKT + beta * kl_BKT
        metrics["kl"] = mean_where(kl_BKT, steps_BKT)
    return ObjectiveOutput(loss_B=normalised(loss_BKT, inputs, normaliser, length), metrics=metrics)


def normalised(
    loss_BKT: Float[Tensor, "B K T"], inputs: ObjectiveInputs, normaliser: Normaliser, length: float = 1.0
) -> Float[Tensor, " B"]:
    """One loss a group from one a step, zero where a step does not count."""
    steps_BKT = counted_steps(inputs)
    if normaliser == "batch":
        known = inputs.statistics
        a_group = steps_BKT.sum().clamp(min=1) / len(steps_BKT) if known is None else known.steps
        return loss_BKT.sum((-2, -1)) / a_group
    divisor_BK = steps_BKT.sum(-1).clamp(min=1) if normaliser == "sequence" else length
    return (loss_BKT.sum(-1) / divisor_BK).sum(-1) / inputs.mask_BK.sum(-1).clamp(min=1)


def clipped(
    ratio_BKt: Tensor, advantage_BK1: Tensor, *, low: float, high: float, dual: float | None = None
) -> tuple[Tensor, Tensor]:
    """PPO's surrogate max(-A rho, -A clip(rho, 1 - low, 1 + high)), and where it has no gradient.

    Of the two losses the larger: a step that has gone far enough in the good direction is left alone, one that went the
    wrong way is not. `dual` caps the first ratio too (Ye et al., arXiv 1912.09729; TRL's delta), so that a negative
    advantage cannot push without end.
    """
    free_BKt = ratio_BKt if dual is None else ratio_BKt.clamp(max=dual)
    loss_BKt = -torch.minimum(free_BKt * advantage_BK1, ratio_BKt.clamp(1 - low, 1 + high) * advantage_BK1)
    cut_BKt = ((free_BKt > 1 + high) & (advantage_BK1 > 0)) | ((free_BKt < 1 - low) & (advantage_BK1 < 0))
    return loss_BKt, cut_BKt


@torch.no_grad()
def advantage_metrics(inputs: ObjectiveInputs, advantage_BK: Tensor) -> dict[str, Tensor]:
    """Mean and deviation of the advantages, and the share of groups that they say nothing about."""
    silent_B = ((advantage_BK == 0) | ~inputs.mask_BK).all(-1)
    return {
        "advantages/mean": mean_where(advantage_BK, inputs.mask_BK),
        "advantages/std": std_where(advantage_BK, inputs.mask_BK),
        "advantages/silent": mean_where(silent_B.to(advantage_BK.dtype), inputs.mask_BK.any(-1)),
    }
