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

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.divergences import Divergence, ReverseKL
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class IPO(Objective):
    """A regression of the margin to 1 / (2 beta): confident labels do not drive it without end.

    Args:
        beta: strength of the pull to the reference; the target margin is 1 / (2 beta).
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
        divergence: what keeps the policy near its reference, as in `DPO`; its reward is divided by the length.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("azar2024ipo",)

    beta: float = 5000.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0
    divergence: Divergence = field(default_factory=ReverseKL)

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def loss(won: Tensor, lost: Tensor) -> Tensor:
            return ((won - lost - 0.5) / self.beta).square()

        reward_BK = self.beta * read.per_step(self.divergence(read.log_ratio(inputs)), inputs)
        # Relative to a start at the reference: the slope in beta * margin is 1 / beta^2 there.
        unit = 1 / self.beta**2
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit, unit=unit)
