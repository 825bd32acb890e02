"""An objective without its reference: every answer is as likely as any other beforehand.

    log ref = 0, so that log pi - log ref = log pi

CPO (arXiv 2401.08417) derives this as DPO with a uniform reference; TRL's CPO and TPO trainers have the hinge and IPO
forms. A third of a step's work falls away, and with it what held the policy where it started: mix it with `SFT`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from penchant.objectives.composed import declare, least_tie_credit
from penchant.objectives.dpo import DPO
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class ReferenceFree(Objective):
    """Another objective, on the policy's log-probs alone.

    Args:
        objective: one that compares with a reference, and reads nothing else of it than its log-probs.
    """

    needs: ClassVar[Needs] = Needs()
    cite: ClassVar[tuple[str, ...]] = ("xu2024cpo",)

    objective: Objective = field(default_factory=lambda: DPO(beta=0.1))

    def __post_init__(self) -> None:
        needs, name = self.objective.needs, type(self.objective).__name__
        if not needs.reference or needs.mismatched or needs.divergence:
            raise ValueError(f"{name} has no reference to leave out, or needs more of it than log-probs.")
        declare(self, replace(needs, reference=False))

    @property
    def tie_credit(self) -> float | None:
        """That of the objective, if it has one."""
        return least_tie_credit([self.objective])

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        uniform = replace(inputs.policy, step_BKT=torch.zeros_like(inputs.policy.step_BKT), collision_BKT=None)
        output = self.objective(replace(inputs, reference=uniform))
        metrics = {name: value for name, value in output.metrics.items() if name != "drift/chosen"}
        return replace(output, metrics=metrics)
