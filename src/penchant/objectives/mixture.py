"""Several objectives at once, each with a weight.

    loss = sum of weight_i * loss_i

Mixed Preference Optimization (MPO, Wang et al., arXiv 2411.10442) is the default: DPO learns which answer is better,
BCO how good each one is, SFT how to write it. SFT counts per token here, beside losses of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from penchant.objectives.bco import BCO
from penchant.objectives.composed import declare, least_tie_credit
from penchant.objectives.dpo import DPO
from penchant.objectives.sft import SFT
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class Mixture(Objective):
    """A weighted sum; metrics are the first part's, further ones of the others, and each part's loss.

    Args:
        parts: (objective, weight) of each; the default is MPO's 0.8 DPO, 0.2 BCO, 1.0 SFT.
    """

    needs: ClassVar[Needs] = Needs(reference=True)
    cite: ClassVar[tuple[str, ...]] = ("wang2024mpo",)

    parts: tuple[tuple[Objective, float], ...] = (
        (DPO(beta=0.1), 0.8),
        (BCO(beta=0.1), 0.2),
        (SFT(reduce="mean"), 1.0),
    )

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a mixture of nothing has no loss: give at least one (objective, weight).")
        declare(self, *(objective.needs for objective, _ in self.parts))

    @property
    def tie_credit(self) -> float | None:
        """The smallest of the parts that have one."""
        return least_tie_credit([objective for objective, _ in self.parts])

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        outputs = [objective(inputs) for objective, _ in self.parts]
        weighted = [weight * output.loss_B for (_, weight), output in zip(self.parts, outputs, strict=True)]
        metrics = {name: value for output in reversed(outputs) for name, value in output.metrics.items()}
        for i, ((objective, _), output) in enumerate(zip(self.parts, outputs, strict=True)):
            metrics[f"loss/{i}_{type(objective).__name__}"] = output.loss.detach()
        return ObjectiveOutput(loss_B=torch.stack(weighted).sum(0), metrics=metrics)
