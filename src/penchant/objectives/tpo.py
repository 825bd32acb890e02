"""Triple Preference Optimization, without a reference model (TPO, Saeidi et al., arXiv 2405.16681).

    loss = preference(y_w, y_l) - alpha * (log pi_gold) / |y_gold|

Three answers a prompt: the gold one, which is imitated, and two more, of which one is preferred. The gold answer is the
group's best and takes no part in the comparison.

The preference is any objective: `ReferenceFree(objective=DPO(beta))` (TRL's sigmoid, the default), or `Hinge`, or `IPO`
in the same place, or `SimPO` for TPO-L.

Where we differ:

1. The imitation is a mean over each gold answer's tokens, then over groups; TRL averages over all tokens of the batch.
2. More than three candidates: the best is gold and the preference is among all others.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from penchant.objectives.composed import declare, least_tie_credit
from penchant.objectives.dpo import DPO
from penchant.objectives.pairs import extremes
from penchant.objectives.reference_free import ReferenceFree
from penchant.objectives.sft import SFT
from penchant.objectives.simpo import SimPO
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class TPO(Objective):
    """Imitates each group's best candidate and learns a preference among the others.

    Args:
        preference: what is minimised among the candidates that are not gold.
        alpha: weight of the gold answer's negative log-prob per token.
    """

    needs: ClassVar[Needs] = Needs(min_candidates=3)
    cite: ClassVar[tuple[str, ...]] = ("saeidi2024tpo",)

    preference: Objective = field(default_factory=lambda: ReferenceFree(objective=DPO(beta=0.1)))
    alpha: float = 1.0

    def __post_init__(self) -> None:
        needs = self.preference.needs
        declare(self, replace(needs, min_candidates=max(3, needs.min_candidates + 1)))

    @classmethod
    def length_controlled(cls, beta: float = 2.0, gamma: float = 0.5, alpha: float = 1.0) -> TPO:
        """TPO-L: length-normalised log-probs and a target margin."""
        return cls(preference=SimPO(beta=beta, gamma=gamma), alpha=alpha)

    @property
    def tie_credit(self) -> float | None:
        """That of the preference, if it has one."""
        return least_tie_credit([self.preference])

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        best_BK, worst_BK = extremes(inputs.scores_BK, inputs.mask_BK)
        # A group of equals has no gold.
        gold_BK = best_BK & ~worst_BK
        preferred = self.preference(replace(inputs, mask_BK=inputs.mask_BK & ~gold_BK))
        imitated = SFT(reduce="mean")(replace(inputs, mask_BK=gold_BK))
        metrics = preferred.metrics | {"loss/gold": imitated.loss.detach()}
        return ObjectiveOutput(loss_B=preferred.loss_B + self.alpha * imitated.loss_B, metrics=metrics)
