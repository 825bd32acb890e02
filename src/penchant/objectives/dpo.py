"""Direct Preference Optimization (Rafailov et al., arXiv 2305.18290, eq. 7), on any likelihood.

    loss = -log sigmoid( beta * [ (log pi_w - log ref_w) - (log pi_l - log ref_l) ] )

On a diffusion bound this is Diffusion-DPO (Wallace et al., arXiv 2311.12908), on a flow bound Flow-DPO (VideoAlign,
arXiv 2501.13918), on token log-probs the language-model loss. Beta: see `penchant.objectives.beta`.

Where we differ:

1. Groups of more than two candidates give the mean over all strictly ordered pairs.
2. Tied pairs are left out by default. diffusers' scripts train them as "the first image wins".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import softplus

from penchant.objectives import inputs as read
from penchant.objectives.metrics import pair_metrics
from penchant.objectives.pairs import Pairing, margins, pair_weights
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class DPO(Objective):
    """The sigmoid loss of DPO; with label smoothing, conservative DPO (cDPO).

    Args:
        beta: temperature. 5000 for denoising models (Diffusion-DPO train.py), 100 to 500 for flows (flow_grpo,
            VideoAlign table 10), 0.1 for text (TRL).
        label_smoothing: share e of labels believed to be flipped; loss = (1 - e) * l(z) + e * l(-z).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.

    A policy that equals its reference has learnt nothing yet; its loss is log 2:

        >>> from penchant.types import LogProbs
        >>> log_probs = LogProbs(
        ...     step_BKT=torch.tensor([[[-0.1], [-0.2]]]), mask_BKT=torch.ones(1, 2, 1).bool(), density="bound"
        ... )
        >>> scores, mask = torch.tensor([[1.0, 0.0]]), torch.ones(1, 2).bool()
        >>> inputs = ObjectiveInputs(policy=log_probs, reference=log_probs, scores_BK=scores, mask_BK=mask)
        >>> DPO(beta=5000.0)(inputs).loss
        tensor(0.6931)
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("rafailov2023dpo", "wallace2024diffusiondpo", "liu2025videoalign")

    beta: float = 5000.0
    label_smoothing: float = 0.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        reward_BK = self.beta * read.log_ratio(inputs)
        weight_BKK = pair_weights(
            inputs.scores_BK, inputs.mask_BK, pairing=self.pairing, tie_credit=self.tie_credit, dtype=reward_BK.dtype
        )
        logit_BKK = margins(reward_BK, weight_BKK)
        e = self.label_smoothing
        loss_BKK = (1 - e) * softplus(-logit_BKK) + e * softplus(logit_BKK)
        factor_BKK = (torch.sigmoid(-logit_BKK) - e).abs()
        metrics = pair_metrics(inputs, reward_BK, factor_BKK=factor_BKK, weight_BKK=weight_BKK)
        return ObjectiveOutput(loss_B=(weight_BKK * loss_BKK).sum((-1, -2)), metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class RobustDPO(Objective):
    """DPO that is unbiased under label noise (Chowdhury et al., arXiv 2403.00409, eq. 12).

        loss = [ (1 - e) * l(z) - e * l(-z) ] / (1 - 2 e),    l(z) = -log sigmoid(z)

    If labels are flipped with probability e, its expectation is the clean DPO loss. It is unbounded below.

    Args:
        beta: temperature, as in `DPO`.
        label_smoothing: the flip probability e, below 1/2.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("chowdhury2024robustdpo",)

    beta: float = 5000.0
    label_smoothing: float = 0.1
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing {self.label_smoothing} must lie in [0, 0.5): half noise is no signal.")

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        reward_BK = self.beta * read.log_ratio(inputs)
        weight_BKK = pair_weights(
            inputs.scores_BK, inputs.mask_BK, pairing=self.pairing, tie_credit=self.tie_credit, dtype=reward_BK.dtype
        )
        logit_BKK = margins(reward_BK, weight_BKK)
        e = self.label_smoothing
        loss_BKK = ((1 - e) * softplus(-logit_BKK) - e * softplus(logit_BKK)) / (1 - 2 * e)
        factor_BKK = ((1 - e) * torch.sigmoid(-logit_BKK) + e * torch.sigmoid(logit_BKK)) / (1 - 2 * e)
        metrics = pair_metrics(inputs, reward_BK, factor_BKK=factor_BKK, weight_BKK=weight_BKK)
        return ObjectiveOutput(loss_B=(weight_BKK * loss_BKK).sum((-1, -2)), metrics=metrics)
