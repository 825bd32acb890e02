"""Group Relative Policy Optimization (Shao et al., DeepSeekMath, arXiv 2402.03300, eq. 3), in its general form.

    loss = normaliser of [ max(-A rho, -A clip(rho, 1 - low, 1 + high)) + beta * KL(policy || reference) ]

Each of the parts is an option, so that the relatives are this with other constants: `BNPO`, `DrGRPO`, `DAPO`, `GSPO`
and `LUSPO` are. See `penchant.objectives.ratios`, `.advantages` and `.policy_gradient` for what the parts are.

On every likelihood:

- token log-probs: the language-model loss;
- a denoising path, a step being a transition: DDPO (arXiv 2305.13301) and Flow-GRPO (arXiv 2505.05470), with
  `clip_low = clip_high = 1e-4` and `ClippedAdvantage`; `kl="exact"` is Flow-GRPO's KL of the two Gaussians;
- a denoising bound, with behavior = the old policy on the same draw: Advantage Weighted Matching (AWM, arXiv
  2509.25050), with `kl="exact"` the distance of the predictions. AWM's log-prob is -1 times the error, ours -1/2 times.

Where we differ:

1. A group's loss is the mean over its candidates; where groups have unequal sizes TRL weighs candidates equally.
2. Without a behavior the ratio is 1 with the gradient of log pi: one update a rollout.
3. Sampling rules that come with some of the papers (DAPO's dynamic sampling and overlong filter) are not the loss's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from penchant.objectives.advantages import Advantage, GroupRelative, advantages
from penchant.objectives.composed import declare
from penchant.objectives.policy_gradient import Normaliser, clipped, policy_gradient
from penchant.objectives.ratios import Estimator, Level, counted_steps, kl_needs, log_ratio_steps
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class GRPO(Objective):
    """PPO's clipped surrogate with advantages taken from a group, and no value network.

    Args:
        advantage: how rewards become advantages.
        level: one ratio a "token", the geometric mean of a "sequence", or the "joint" ratio of a whole sample.
        clip_low: the ratio is held above 1 - clip_low for samples that were worse than expected.
        clip_high: and below 1 + clip_high for better ones.
        dual_clip: cap of the ratio itself, TRL's delta (INTELLECT-2, arXiv 2505.07291); None for no cap.
        stale: leave out samples with a negative advantage that the policy finds less likely, by more than this a step,
            than the behavior did (DeepSeek-V3.2, arXiv 2512.02556, off-policy sequence masking); None keeps all.
        normaliser: "sequence", "batch" or "constant"; see `penchant.objectives.policy_gradient`.
        length: divisor of the normaliser "constant", usually the longest completion allowed.
        beta: weight of the KL term; 0 reads no reference. 0.04 in the paper, 0 in TRL.
        kl: its estimator, see `penchant.objectives.ratios`.

    On-policy the loss of a group is zero and its gradient is not:

        >>> from penchant.types import LogProbs
        >>> logp = torch.tensor([[[-0.1], [-0.2]]], requires_grad=True)
        >>> policy = LogProbs(step_BKT=logp, mask_BKT=torch.ones(1, 2, 1).bool(), density="exact")
        >>> scores, mask = torch.tensor([[1.0, 0.0]]), torch.ones(1, 2).bool()
        >>> objective = GRPO(advantage=GroupRelative(scale="none"))
        >>> loss = objective(ObjectiveInputs(policy=policy, scores_BK=scores, mask_BK=mask)).loss
        >>> loss.backward()
        >>> loss.item(), logp.grad.flatten().tolist()
        (0.0, [-0.25, 0.25])
    """

    needs: ClassVar[Needs] = Needs(scores="reward")
    cite: ClassVar[tuple[str, ...]] = ("shao2024deepseekmath",)

    advantage: Advantage = field(default_factory=GroupRelative)
    level: Level = "token"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    stale: float | None = None
    normaliser: Normaliser = "sequence"
    length: float = 1.0
    beta: float = 0.0
    kl: Estimator = "k3"

    def __post_init__(self) -> None:
        if min(self.clip_low, self.clip_high) < 0:
            raise ValueError(f"clip_low {self.clip_low} and clip_high {self.clip_high} must be >= 0.")
        if self.length <= 0:
            raise ValueError(f"length {self.length} is a divisor and must be > 0.")
        declare(self, kl_needs(self.beta, self.kl, self.advantage.min_candidates))

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        kept_BK1 = None if self.stale is None else self._fresh(inputs)

        def surrogate(logp_BKT: Tensor, ratio_BKt: Tensor, advantage_BK1: Tensor) -> tuple[Tensor, Tensor]:
            loss, cut = clipped(ratio_BKt, advantage_BK1, low=self.clip_low, high=self.clip_high, dual=self.dual_clip)
            return (loss if kept_BK1 is None else torch.where(kept_BK1 | (advantage_BK1 >= 0), loss, 0)), cut

        return policy_gradient(
            inputs,
            surrogate,
            advantages(inputs, self.advantage),
            level=self.level,
            normaliser=self.normaliser,
            length=self.length,
            beta=self.beta,
            kl=self.kl,
        )

    def _fresh(self, inputs: ObjectiveInputs) -> Tensor:
        """Samples [B, K, 1] that the policy finds nearly as likely, a step, as the behavior did."""
        assert self.stale is not None
        count_BK1 = counted_steps(inputs).sum(-1, keepdim=True).clamp(min=1)
        return -log_ratio_steps(inputs).detach().sum(-1, keepdim=True) / count_BK1 <= self.stale
