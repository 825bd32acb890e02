"""Proximal Policy Optimization with a value network (Schulman et al., arXiv 1707.06347), as RLHF uses it.

    r_t = - beta * [ log mu(a_t) - log ref(a_t) ]  + R at the last step
    A   = generalised advantages of r with V, gamma and lambda;   target_t = A_t + V(s_t)
    loss = mean over all tokens of [ max(-A rho, -A clip(rho)) + value_weight / 2 * (V - target)^2 ]

(Ziegler et al., arXiv 1909.08593, section 2; Stiennon et al., arXiv 2009.01325.)

Where we differ:

1. Advantages are whitened over the batch at hand only if asked to (`whiten`): then micro-batches no longer add up
   exactly.
2. Without the values of the rollout (`behavior_value_BKT`) advantages and targets come from the value network as it now
   is, recomputed in every pass as Andrychowicz et al. advise (arXiv 2006.05990).
3. The clipped value loss is an option that needs those values, and is off: the same study finds that it hurts.
4. A sample whose reward is not a number has no reward but its KL penalty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.advantages import RawAdvantage, advantages, whitened
from penchant.objectives.composed import declare
from penchant.objectives.metrics import mean_where, pair_metrics, std_where
from penchant.objectives.policy_gradient import clipped, normalised
from penchant.objectives.ratios import behavior_steps, counted_steps, kl_needs, ratios
from penchant.objectives.rloo import sampled_drift
from penchant.objectives.values import VALUE, generalised_advantages, last_steps, value_metrics, value_steps
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class PPO(Objective):
    """The clipped surrogate with advantages over several steps, and a KL penalty a token in the reward.

    Args:
        gamma: discount; 1, for all rewards come at the end.
        lam: lambda of the generalised advantages: 1 is the return minus the value, 0 one step's surprise. 0.95 in TRL.
        clip_low: the ratio is held above 1 - clip_low.
        clip_high: and below 1 + clip_high.
        beta: weight of the KL penalty in the reward; 0 reads no reference. 0.05 in TRL.
        value_weight: weight of the value loss; 0.1 in TRL.
        value_clip: the value may move this far from the rollout's before its gradient ends (0.2 in TRL); None lets it.
        whiten: bring the advantages of the batch at hand to mean 0 and deviation 1, as TRL always does.
    """

    needs: ClassVar[Needs] = replace(VALUE, reference=True)
    cite: ClassVar[tuple[str, ...]] = ("schulman2017ppo", "ziegler2019finetuning", "schulman2016gae")

    gamma: float = 1.0
    lam: float = 0.95
    clip_low: float = 0.2
    clip_high: float = 0.2
    beta: float = 0.05
    value_weight: float = 0.1
    value_clip: float | None = None
    whiten: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.gamma <= 1 and 0 <= self.lam <= 1):
            raise ValueError(f"gamma {self.gamma} and lam {self.lam} must lie in [0, 1].")
        declare(self, kl_needs(self.beta, "k1"), VALUE)

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        steps_BKT, value_BKT = counted_steps(inputs), value_steps(inputs)
        old_BKT = self._old_values(inputs, value_BKT)
        found_BKT = generalised_advantages(self._rewards(inputs), old_BKT, steps_BKT, gamma=self.gamma, lam=self.lam)
        target_BKT = found_BKT + old_BKT
        advantage_BKT = whitened(found_BKT, steps_BKT) if self.whiten else found_BKT
        ratio_BKT = ratios(inputs, "token")
        policy_BKT, cut_BKT = clipped(ratio_BKT, advantage_BKT, low=self.clip_low, high=self.clip_high)
        error_BKT = self._value_loss(value_BKT, old_BKT, target_BKT)
        loss_BKT = torch.where(steps_BKT, policy_BKT + self.value_weight * error_BKT, 0)
        metrics = pair_metrics(inputs, read.log_prob(inputs)) | value_metrics(value_BKT, target_BKT, steps_BKT)
        metrics |= {
            "advantages/mean": mean_where(advantage_BKT, steps_BKT),
            "advantages/std": std_where(advantage_BKT, steps_BKT),
            "ratio/mean": mean_where(ratio_BKT, steps_BKT),
            "ratio/clipped": mean_where(cut_BKT.to(ratio_BKT.dtype), steps_BKT),
            "loss/value": mean_where(error_BKT, steps_BKT),
        }
        if self.beta > 0:
            metrics["kl/sequence"] = mean_where(sampled_drift(inputs), inputs.mask_BK)
        return ObjectiveOutput(loss_B=normalised(loss_BKT, inputs, "batch"), metrics=metrics)

    def _rewards(self, inputs: ObjectiveInputs) -> Tensor:
        """The reward of every step."""
        steps_BKT = counted_steps(inputs)
        whole_BK = advantages(inputs, RawAdvantage())
        reward_BKT = torch.where(last_steps(steps_BKT), whole_BK[:, :, None], 0)
        if self.beta == 0:
            return reward_BKT
        if inputs.reference is None:
            raise ValueError("the KL penalty compares with a reference: give ObjectiveInputs(reference=...).")
        reference_BKT = read.at_least_float32(inputs.reference.step_BKT.detach())
        return reward_BKT - self.beta * torch.where(steps_BKT, behavior_steps(inputs) - reference_BKT, 0)

    def _old_values(self, inputs: ObjectiveInputs, value_BKT: Tensor) -> Tensor:
        """What the value network said at the rollout, as far as that is known."""
        old_BKT = inputs.behavior_value_BKT
        if old_BKT is not None:
            return torch.where(counted_steps(inputs), read.at_least_float32(old_BKT.detach()), 0)
        if self.value_clip is not None:
            raise ValueError(
                "value_clip holds values near those of the rollout: give ObjectiveInputs(behavior_value_BKT=...), or "
                "set value_clip to None."
            )
        return value_BKT.detach()

    def _value_loss(self, value_BKT: Tensor, old_BKT: Tensor, target_BKT: Tensor) -> Tensor:
        """Half the squared error; clipped, the larger one of the value and of the value held near the old one."""
        error_BKT = (value_BKT - target_BKT).square() / 2
        if self.value_clip is None:
            return error_BKT
        held_BKT = old_BKT + (value_BKT - old_BKT).clamp(-self.value_clip, self.value_clip)
        return torch.maximum(error_BKT, (held_BKT - target_BKT).square() / 2)
