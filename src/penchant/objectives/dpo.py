"""Direct Preference Optimization (Rafailov et al., arXiv 2305.18290, eq. 7), on any likelihood.

    loss = -log sigmoid( beta * [ (log pi_w - log ref_w) - (log pi_l - log ref_l) ] )

On a diffusion bound this is Diffusion-DPO (Wallace et al., arXiv 2311.12908), on a flow bound Flow-DPO (VideoAlign,
arXiv 2501.13918), on token log-probs the language-model loss. Beta: see `penchant.objectives.beta`.

Where we differ:

1. Groups of more than two candidates give the mean over all strictly ordered pairs.
2. Tied pairs are left out by default. diffusers' scripts train them as "the first image wins".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from penchant.objectives import inputs as read
from penchant.objectives.divergences import Divergence, ReverseKL
from penchant.objectives.paired import PairLoss, pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


def smoothed(label_smoothing: float, gamma: float = 0.0) -> PairLoss:
    """(1 - e) * l(z) + e * l(-z) with l(z) = -log sigmoid(z) and z = won - lost - gamma."""
    e = label_smoothing

    def loss(won: Tensor, lost: Tensor) -> Tensor:
        logit = won - lost - gamma
        return (1 - e) * softplus(-logit) + e * softplus(logit)

    return loss


@dataclass(frozen=True, kw_only=True)
class DPO(Objective):
    """The sigmoid loss of DPO; with label smoothing, conservative DPO (cDPO).

    Args:
        beta: temperature. 5000 for denoising models (Diffusion-DPO train.py), 100 to 500 for flows (flow_grpo,
            VideoAlign table 10), 0.1 for text (TRL).
        label_smoothing: share e of labels believed to be flipped; loss = (1 - e) * l(z) + e * l(-z).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
        divergence: what keeps the policy near its reference; another one than ReverseKL makes this f-DPO.

    A policy that equals its reference has learnt nothing yet; its loss is log 2:

        >>> import torch
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
    cite: ClassVar[tuple[str, ...]] = ("rafailov2023dpo",)

    beta: float = 5000.0
    label_smoothing: float = 0.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0
    divergence: Divergence = field(default_factory=ReverseKL)

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        reward_BK = self.beta * self.divergence(read.log_ratio(inputs))
        loss = smoothed(self.label_smoothing)
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)


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
        divergence: what keeps the policy near its reference, as in `DPO`.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("chowdhury2024robustdpo",)

    beta: float = 5000.0
    label_smoothing: float = 0.1
    pairing: Pairing = "all"
    tie_credit: float = 0.0
    divergence: Divergence = field(default_factory=ReverseKL)

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing {self.label_smoothing} must lie in [0, 0.5): half noise is no signal.")

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        e = self.label_smoothing

        def loss(won: Tensor, lost: Tensor) -> Tensor:
            return ((1 - e) * softplus(lost - won) - e * softplus(won - lost)) / (1 - 2 * e)

        reward_BK = self.beta * self.divergence(read.log_ratio(inputs))
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)
