"""How objectives read their inputs: at least float32, and exactly zero where a candidate is missing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.types import LogProbs, ObjectiveInputs


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision becomes float32; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()


def present(value_BK: Tensor, inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """`value_BK` in at least float32; missing candidates are zeros without gradient."""
    return torch.where(inputs.mask_BK, at_least_float32(value_BK), 0)


def log_prob(inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """log pi of every candidate."""
    return present(inputs.policy.total(), inputs)


def reference_log_prob(inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """log ref of every candidate, without gradient."""
    return present(_reference(inputs).total().detach(), inputs)


def log_ratio(inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """log pi - log ref of every candidate.

    Taken candidate by candidate before any margin: near the reference this difference of close numbers is exact.
    """
    return log_prob(inputs) - reference_log_prob(inputs)


def mean_log_ratio(inputs: ObjectiveInputs) -> Float[Tensor, "B K"]:
    """log pi - log ref per step (token, transition), for losses that are not invariant to length."""
    policy_BK = present(inputs.policy.mean(), inputs)
    return policy_BK - present(_reference(inputs).mean().detach(), inputs)


def _reference(inputs: ObjectiveInputs) -> LogProbs:
    if inputs.reference is None:
        raise ValueError("this objective compares with a reference: give ObjectiveInputs(reference=...).")
    return inputs.reference
