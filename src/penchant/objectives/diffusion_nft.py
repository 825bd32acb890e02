"""DiffusionNFT: online RL on the forward process, from good and bad directions (Zheng et al., arXiv 2509.16117).

    r  = clip(A / 5, -1, 1) / 2 + 1/2                               how likely a sample is to be good
    v+ = (1 - b) v_old + b v,   v- = (1 + b) v_old - b v            the new velocity, and its mirror image about the old
    loss = [ r ||v+ - target||^2 + (1 - r) ||v- - target||^2 ] * 5 / b

Good samples pull the policy's velocity towards the target, bad ones its mirror image, so the policy away. Multiplying
out, with e and e_old the two models' errors (-2 log-prob) and d the mean squared distance of their predictions,

    ||v+ - target||^2 = (1 - b) e_old + b e - b (1 - b) d
    ||v- - target||^2 = (1 + b) e_old - b e + b (1 + b) d

so that the objective needs log-probs and one divergence and no prediction. `reference` is the *old* policy, which drew
the samples and follows the policy slowly: old <- decay * old + (1 - decay) * policy. At policy = old the gradient is
that of A * e (with A held in [-5, 5]), whatever b is.

Where we differ:

1. `adaptive` divides both errors by their own size, without gradient, as the authors' code does. There the size is the
   mean absolute error of the clean latents, here the root of the mean squared error of the predictions, which log-probs
   give; the code's further factor t (from clean latents to velocities) is left to the likelihood's weight.
2. The code's KL term to the base model (1e-4) is left out: there is one reference, and it is the old policy.
3. Off, `adaptive` gives the paper's loss times 5 / b, the code's factor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.advantages import Advantage, GroupRelative, advantages
from penchant.objectives.composed import declare
from penchant.objectives.metrics import mean_where, pair_metrics
from penchant.objectives.policy_gradient import advantage_metrics, normalised
from penchant.objectives.ratios import counted_steps, policy_steps
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class DiffusionNFT(Objective):
    """Contrast between good and bad samples of the old policy, without trajectories and ratios.

    Args:
        beta: how far the two directions lean out: 1, or 0.1 for OCR and several rewards, in the authors' configuration.
        advantage: how rewards become advantages; by group means and the deviation of all in the code.
        largest: the advantage at which a sample is surely good; 5 in the code.
        adaptive: divide each error by its own size.
        smallest: floor of that size; 1e-5 in the code.
    """

    needs: ClassVar[Needs] = Needs(reference=True, divergence=True, density=frozenset({"bound"}), scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("zheng2025diffusionnft",)

    beta: float = 1.0
    advantage: Advantage = field(default_factory=lambda: GroupRelative(scale="batch"))
    largest: float = 5.0
    adaptive: bool = True
    smallest: float = 1e-5

    def __post_init__(self) -> None:
        if min(self.beta, self.largest, self.smallest) <= 0:
            raise ValueError(f"beta {self.beta}, largest {self.largest} and smallest {self.smallest} must be > 0.")
        least = self.advantage.min_candidates
        needs = Needs(
            reference=True, divergence=True, min_candidates=least, density=frozenset({"bound"}), scores="reward"
        )
        declare(self, needs)

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        advantage_BK = advantages(inputs, self.advantage)
        good_BK1 = ((advantage_BK / self.largest).clamp(-1, 1) / 2 + 0.5)[:, :, None]
        towards_BKT, away_BKT = self.errors(inputs)
        if self.adaptive:
            towards_BKT, away_BKT = self._by_size(towards_BKT), self._by_size(away_BKT)
        loss_BKT = (good_BK1 * towards_BKT + (1 - good_BK1) * away_BKT) * self.largest / self.beta
        metrics = pair_metrics(inputs, read.log_prob(inputs)) | advantage_metrics(inputs, advantage_BK)
        steps_BKT = counted_steps(inputs)
        metrics |= {"nft/towards": mean_where(towards_BKT, steps_BKT), "nft/away": mean_where(away_BKT, steps_BKT)}
        loss_BKT = torch.where(steps_BKT, loss_BKT, 0)
        return ObjectiveOutput(loss_B=normalised(loss_BKT, inputs, "sequence"), metrics=metrics)

    def errors(self, inputs: ObjectiveInputs) -> tuple[Tensor, Tensor]:
        """(||v+ - target||^2, ||v- - target||^2) of every draw [B, K, T], zeros where one does not count."""
        if inputs.reference is None:
            raise ValueError("DiffusionNFT contrasts with the old policy: give ObjectiveInputs(reference=...).")
        if inputs.divergence_BKT is None:
            raise ValueError(
                "DiffusionNFT needs the distance to the old policy: give ObjectiveInputs(divergence_BKT=...)."
            )
        b, steps_BKT = self.beta, counted_steps(inputs)
        error_BKT = -2 * policy_steps(inputs)
        old_BKT = torch.where(steps_BKT, -2 * read.at_least_float32(inputs.reference.step_BKT.detach()), 0)
        far_BKT = torch.where(steps_BKT, read.at_least_float32(inputs.divergence_BKT), 0)
        towards_BKT = (1 - b) * old_BKT + b * error_BKT - b * (1 - b) * far_BKT
        return towards_BKT, (1 + b) * old_BKT - b * error_BKT + b * (1 + b) * far_BKT

    def _by_size(self, error_BKT: Tensor) -> Tensor:
        # Rounding may leave an error of nearly zero below it.
        return error_BKT / error_BKT.detach().clamp(min=0).sqrt().clamp(min=self.smallest)
