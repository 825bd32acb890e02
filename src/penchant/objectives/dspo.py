"""Direct Score Preference Optimization (Zhu et al., ICLR 2025), from the authors' SD1.5 code.

    z = beta * [ (log pi_w - log ref_w) - (log pi_l - log ref_l) ],   c = beta * (1 - sigmoid(z))
    loss = mean over dims of ( (pred_w - target) - c * (pred_w - ref_w) )^2

The winner's regression target is moved away from the reference by c. Multiplying out, with m = -2 log pi_w and
r = -2 log ref_w the two models' errors and D the mean squared distance of their predictions,

    loss = (1 - c) * m + c * r - c * (1 - c) * D

so that the objective needs two log-probs and one divergence and no prediction.

Where we differ:

1. The SDXL branch of the code is another formula, switched by the size of D in the batch: not implemented.
2. As in the code the gradient flows through z too, although the paper's derivation treats it as a constant.
3. Groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from penchant.objectives import inputs as read
from penchant.objectives.metrics import pair_metrics
from penchant.objectives.pairs import Pairing, margins, pair_weights
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class DSPO(Objective):
    """The winner's denoising error, with a target that a preference moves away from the reference.

    Args:
        beta: temperature of z and strength of the move; 0.001 in the authors' launcher.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True, divergence=True, density=frozenset({"bound"}))
    cite: ClassVar[tuple[str, ...]] = ("zhu2025dspo",)

    beta: float = 0.001
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        if inputs.divergence_BKT is None:
            raise ValueError("DSPO needs the distance to the reference: give ObjectiveInputs(divergence_BKT=...).")
        reward_BK = self.beta * read.log_ratio(inputs)
        weight_BKK = pair_weights(
            inputs.scores_BK, inputs.mask_BK, pairing=self.pairing, tie_credit=self.tie_credit, dtype=reward_BK.dtype
        )
        surprise_BKK = torch.sigmoid(-margins(reward_BK, weight_BKK))
        c_BKK = self.beta * surprise_BKK
        error_BK, reference_BK = -2 * read.log_prob(inputs), -2 * read.reference_log_prob(inputs)
        distance_BK = read.present(read.mean_step(inputs.divergence_BKT, inputs), inputs)
        moved_BKK = (
            (1 - c_BKK) * error_BK[:, :, None]
            + c_BKK * reference_BK[:, :, None]
            - c_BKK * (1 - c_BKK) * distance_BK[:, :, None]
        )
        metrics = pair_metrics(inputs, reward_BK, factor_BKK=surprise_BKK, weight_BKK=weight_BKK)
        return ObjectiveOutput(loss_B=(weight_BKK * moved_BKK).sum((-1, -2)), metrics=metrics)
