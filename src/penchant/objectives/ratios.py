"""Importance ratios between the policy and the one that drew the samples, and estimates of its KL divergence.

    token      rho_t = pi(a_t | s_t) / mu(a_t | s_t)
    sequence   (prod_t rho_t)^(1/n): the geometric mean (GSPO, arXiv 2507.18071, eq. 7)
    joint      prod_t rho_t: the ratio of whole samples (RLOO)

mu is the behavior: `ObjectiveInputs.behavior`, or the policy itself, detached, where the batch does not carry one. Then
the update is on-policy: every ratio is 1 and its gradient is that of log pi.

On a denoising path a step is a transition and its log-prob a mean over dimensions, as in DDPO's and Flow-GRPO's code.
On a bound a step is one draw, with behavior = the old policy on the same draw; there `joint` is the mean over draws.

KL(policy || reference) of each step, with d = log ref - log pi at the sampled step (Schulman, "Approximating KL
divergence", 2020):

    k1           -d                   unbiased, high variance; as a loss its expected gradient is zero
    k2           d^2 / 2              biased; on-policy its gradient is that of the divergence
    k3           exp(d) - d - 1       unbiased, never negative (GRPO, arXiv 2402.03300, eq. 4)
    weighted_k3  rho * k3             unbiased off-policy too (DeepSeek-V3.2, arXiv 2512.02556)
    exact        ObjectiveInputs.divergence_BKT: summed over the vocabulary or in closed form

Where we differ: a logarithm is held in [-20, 20] before it is raised, so that ratios stay finite (verl does the same).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.types import Needs, ObjectiveInputs

Level = Literal["token", "sequence", "joint"]
Estimator = Literal["k1", "k2", "k3", "weighted_k3", "exact"]
# e^20 = 5e8: far beyond any ratio that still says something, and finite in float32.
LARGEST_LOG = 20.0


def counted_steps(inputs: ObjectiveInputs) -> Bool[Tensor, "B K T"]:
    """Steps that count: unmasked ones of present candidates."""
    return inputs.policy.mask_BKT & inputs.mask_BK[:, :, None]


def policy_steps(inputs: ObjectiveInputs) -> Float[Tensor, "B K T"]:
    """log pi of every step in at least float32; zeros without gradient where a step does not count."""
    return torch.where(counted_steps(inputs), read.at_least_float32(inputs.policy.step_BKT), 0)


def behavior_steps(inputs: ObjectiveInputs) -> Float[Tensor, "B K T"]:
    """log mu of every step, without gradient: the behavior's, or the policy's own."""
    behavior = inputs.policy if inputs.behavior is None else inputs.behavior
    return torch.where(counted_steps(inputs), read.at_least_float32(behavior.step_BKT.detach()), 0)


def log_ratio_steps(inputs: ObjectiveInputs) -> Float[Tensor, "B K T"]:
    """log pi - log mu of every step."""
    return policy_steps(inputs) - behavior_steps(inputs)


def ratios(inputs: ObjectiveInputs, level: Level) -> Float[Tensor, "B K t"]:
    """Importance ratios: one a step (t = T) at the level "token", else one a sample (t = 1)."""
    log_BKT = log_ratio_steps(inputs)
    if level == "token":
        return raised(log_BKT)
    total_BK1 = log_BKT.sum(-1, keepdim=True)
    if level == "joint" and inputs.policy.density != "bound":
        return raised(total_BK1)
    return raised(total_BK1 / counted_steps(inputs).sum(-1, keepdim=True).clamp(min=1))


def raised(log: Tensor) -> Tensor:
    """exp, with its argument held in [-20, 20]."""
    return log.clamp(-LARGEST_LOG, LARGEST_LOG).exp()


def kl_steps(inputs: ObjectiveInputs, estimator: Estimator) -> Float[Tensor, "B K T"]:
    """The policy's divergence from the reference at each step, with gradient; zeros where a step does not count.

    Raises:
        ValueError: what the estimator reads is missing.
    """
    steps_BKT = counted_steps(inputs)
    if estimator == "exact":
        if inputs.reference is None:
            raise ValueError("a KL term compares with a reference: give ObjectiveInputs(reference=...).")
        if inputs.divergence_BKT is None:
            raise ValueError("an exact KL term needs the divergence: give ObjectiveInputs(divergence_BKT=...).")
        return torch.where(steps_BKT, read.at_least_float32(inputs.divergence_BKT), 0)
    away_BKT = -torch.where(steps_BKT, read.step_log_ratio(inputs), 0)
    if estimator == "k1":
        return -away_BKT
    if estimator == "k2":
        return away_BKT.square() / 2
    k3_BKT = raised(away_BKT) - away_BKT - 1
    return k3_BKT if estimator == "k3" else ratios(inputs, "token") * k3_BKT


def kl_needs(beta: float, estimator: Estimator, min_candidates: int = 1) -> Needs:
    """What a loss on rewards with a KL term of this weight reads: no reference at 0."""
    if beta < 0:
        raise ValueError(f"a KL term of weight {beta} would drive the policy away: beta must be >= 0.")
    exact = beta > 0 and estimator == "exact"
    return Needs(reference=beta > 0, divergence=exact, min_candidates=min_candidates, scores="reward")
