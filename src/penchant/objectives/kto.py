"""Kahneman-Tversky Optimization: good or bad, one sample at a time (Ethayarajh et al., arXiv 2402.01306, eq. 7-8).

    h = log pi - log ref,   loss = weight * ( 1 - sigmoid( +-beta * (h - baseline) ) )     + desirable, - undesirable

Three baselines, three objects: `KTO` estimates the KL divergence on unrelated completions (the paper's text form, as
TRL), `DiffusionKTO` takes the batch's own mean (Li et al., arXiv 2404.04465, as its code), `APOZeroUnpaired` takes zero
(D'Oosterlinck et al., arXiv 2408.06266, eq. 7, unpaired as TRL). Baselines are clamped at zero and carry no gradient.

A candidate is desirable when its score exceeds `threshold`. A group's loss is the mean over its candidates.

Where we differ:

1. The baseline is that of the micro-batch at hand; TRL and Diffusion-KTO also average it over processes.
2. Diffusion-KTO's code leaves out the 1/2: its beta is `convert(beta, source="diffusion-kto")` here (1000 is 2000).
   Of its utilities only the sigmoid, the paper's, is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.metrics import label_metrics
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


def _masked_mean(value: Tensor, mask: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    return torch.where(mask, value, 0).sum(dim) / mask.sum(dim).clamp(min=1)


def _prospect(
    inputs: ObjectiveInputs,
    baseline: Tensor,
    *,
    beta: float,
    weights: tuple[float, float],
    threshold: float,
) -> ObjectiveOutput:
    """weight * (1 - sigmoid(+-beta * (h - baseline))), averaged over each group's candidates."""
    ratio_BK = read.log_ratio(inputs)
    desirable_BK = inputs.scores_BK > threshold
    gain_BK = beta * (ratio_BK - baseline)
    loss_BK = torch.where(desirable_BK, weights[0] * torch.sigmoid(-gain_BK), weights[1] * torch.sigmoid(gain_BK))
    metrics = label_metrics(inputs, beta * ratio_BK, desirable_BK) | {"kl": baseline.detach()}
    return ObjectiveOutput(loss_B=_masked_mean(loss_BK, inputs.mask_BK, -1), metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class KTO(Objective):
    """KTO with the KL divergence estimated on mismatched completions.

    Args:
        beta: temperature; 0.1 in the paper and TRL.
        desirable_weight: weight of samples above the threshold.
        undesirable_weight: weight of the others.
        threshold: the score above which a sample is desirable.
    """

    needs: ClassVar[Needs] = Needs(reference=True, mismatched=True, min_candidates=1, scores="label")
    cite: ClassVar[tuple[str, ...]] = ("ethayarajh2024kto",)

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    threshold: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        if inputs.mismatched is None:
            raise ValueError("KTO's baseline is taken on unrelated completions: give ObjectiveInputs(mismatched=...).")
        policy, reference = inputs.mismatched
        drift_BK = read.at_least_float32(policy.total()) - read.at_least_float32(reference.total())
        baseline = _masked_mean(drift_BK.detach(), policy.mask_BKT.any(-1), (0, 1)).clamp(min=0)
        weights = (self.desirable_weight, self.undesirable_weight)
        return _prospect(inputs, baseline, beta=self.beta, weights=weights, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True)
class DiffusionKTO(Objective):
    """KTO with the batch's own mean log-ratio as baseline: no extra forward passes.

    Args:
        beta: temperature; 2000 is the code's 1000 in our unit.
        desirable_weight: weight of samples above the threshold.
        undesirable_weight: weight of the others.
        threshold: the score above which a sample is desirable.
    """

    needs: ClassVar[Needs] = Needs(reference=True, min_candidates=1, scores="label")
    cite: ClassVar[tuple[str, ...]] = ("li2024diffusionkto", "ethayarajh2024kto")

    beta: float = 2000.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    threshold: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        baseline = _masked_mean(read.log_ratio(inputs).detach(), inputs.mask_BK, (0, 1)).clamp(min=0)
        weights = (self.desirable_weight, self.undesirable_weight)
        return _prospect(inputs, baseline, beta=self.beta, weights=weights, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True)
class APOZeroUnpaired(Objective):
    """Anchored preference optimization, unpaired: every good sample up, every bad one down, with no baseline.

    Args:
        beta: temperature; 0.1 in TRL.
        desirable_weight: weight of samples above the threshold.
        undesirable_weight: weight of the others.
        threshold: the score above which a sample is desirable.
    """

    needs: ClassVar[Needs] = Needs(reference=True, min_candidates=1, scores="label")
    cite: ClassVar[tuple[str, ...]] = ("doosterlinck2024apo",)

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    threshold: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        baseline = read.log_ratio(inputs).new_zeros(())
        weights = (self.desirable_weight, self.undesirable_weight)
        return _prospect(inputs, baseline, beta=self.beta, weights=weights, threshold=self.threshold)
