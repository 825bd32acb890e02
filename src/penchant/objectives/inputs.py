"""How objectives read their inputs: at least float32, and exactly zero where a candidate is missing."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.types import LogProbs, ObjectiveInputs

# A completion's log-prob: the sum over its tokens, or the mean over them (length-normalised).
Reduce = Literal["total", "mean"]


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision becomes float32; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()


def present(value_BK: Tensor, inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """`value_BK` in at least float32; missing candidates are zeros without gradient."""
    return torch.where(inputs.mask_BK, at_least_float32(value_BK), 0)


def log_prob(inputs: ObjectiveInputs, reduce: Reduce = "total") -> Float[Tensor, "B K"]:
    """log pi of every candidate; with "mean" per step."""
    policy = inputs.policy
    return present(policy.mean() if reduce == "mean" else policy.total(), inputs)


def reference_log_prob(inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """log ref of every candidate, without gradient."""
    return present(_reference(inputs).total().detach(), inputs)


def log_ratio(inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """log pi - log ref of every candidate.

    Taken candidate by candidate before any margin: near the reference this difference of close numbers is exact.
    """
    return log_prob(inputs) - reference_log_prob(inputs)


def step_log_ratio(inputs: ObjectiveInputs) -> Float[Tensor, "B K T"]:
    """log pi - log ref of every step; zeros without gradient where a step or its candidate is missing."""
    policy_BKT = at_least_float32(inputs.policy.per_step())
    ratio_BKT = policy_BKT - at_least_float32(_reference(inputs).per_step().detach())
    return torch.where(inputs.mask_BK[:, :, None], ratio_BKT, 0)


def per_step(value_BK: Float[Tensor, "B K"], inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """A value of whole candidates divided by their number of steps (tokens, transitions): length-normalised.

    The total of a denoising bound is a mean over its draws already.
    """
    if inputs.policy.density == "bound":
        return value_BK
    return value_BK / inputs.policy.mask_BKT.sum(-1).clamp(min=1)


def mean_step(value_BKT: Float[Tensor, "B K T"], inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """The mean of a value of steps over those that count."""
    mask_BKT = inputs.policy.mask_BKT
    return torch.where(mask_BKT, value_BKT, 0).sum(-1) / mask_BKT.sum(-1).clamp(min=1)


def _reference(inputs: ObjectiveInputs) -> LogProbs:
    if inputs.reference is None:
        raise ValueError("this objective compares with a reference: give ObjectiveInputs(reference=...).")
    return inputs.reference
