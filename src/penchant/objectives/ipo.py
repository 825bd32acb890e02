"""Identity Preference Optimization (Azar et al., arXiv 2310.12036, eq. 17).

    loss = ( [ (log pi_w - log ref_w) - (log pi_l - log ref_l) ] - 1 / (2 beta) )^2

Where we differ:

1. The log-ratios are per step (mean over tokens or transitions), as the authors told TRL to do; for a denoising bound
   the mean is the log-prob itself.
2. diffusers' `ipo` squares (2h - 1/(2 beta)) with h our margin: four times this loss at `convert(beta,
   source="diffusers")`. As shipped it reads an argument that its parser never defines.
3. Groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penchant.objectives import inputs as read
from penchant.objectives.metrics import pair_metrics
from penchant.objectives.pairs import Pairing, margins, pair_weights
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class IPO(Objective):
    """A regression of the margin to 1 / (2 beta): confident labels do not drive it without end.

    Args:
        beta: strength of the pull to the reference; the target margin is 1 / (2 beta).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("azar2024ipo",)

    beta: float = 5000.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        ratio_BK = read.mean_log_ratio(inputs)
        weight_BKK = pair_weights(
            inputs.scores_BK, inputs.mask_BK, pairing=self.pairing, tie_credit=self.tie_credit, dtype=ratio_BK.dtype
        )
        margin_BKK = margins(ratio_BK, weight_BKK)
        loss_BKK = (margin_BKK - 1 / (2 * self.beta)).square()
        # Relative to a start at the reference, where it is 1.
        factor_BKK = (1 - 2 * self.beta * margin_BKK).abs()
        metrics = pair_metrics(inputs, self.beta * ratio_BK, factor_BKK=factor_BKK, weight_BKK=weight_BKK)
        return ObjectiveOutput(loss_B=(weight_BKK * loss_BKK).sum((-1, -2)), metrics=metrics)
