"""Simple Preference Optimization, without a reference model (Meng et al., arXiv 2405.14734, eq. 6), and AlphaPO.

    z = beta * (log pi_w / |y_w| - log pi_l / |y_l|) - gamma,    loss = -log sigmoid(z)

AlphaPO (Gupta et al., arXiv 2501.03884) bends the reward: with p the geometric mean of a completion's token
probabilities, beta * (1 - p^-alpha) / alpha takes the place of beta * log p, which is its limit at alpha = 0.

Where we differ: groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penchant.objectives import inputs as read
from penchant.objectives.dpo import smoothed
from penchant.objectives.numerics import power_log
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class SimPO(Objective):
    """A margin between length-normalised log-probs: what is preferred must be likelier per token, by gamma.

    Args:
        beta: temperature; the authors advise 2 to 10.
        gamma: target margin, in logits; gamma / beta is about 0.5 in the authors' runs, and here.
        alpha: 0 is SimPO, another value AlphaPO's shape of the reward.
        label_smoothing: share of labels believed to be flipped.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.

    A chosen answer of 60 tokens with log-prob -30 against a rejected one of 120 tokens with -80:

        >>> import torch
        >>> from penchant.types import LogProbs
        >>> steps = torch.arange(120) < torch.tensor([60, 120])[:, None]
        >>> each = torch.tensor([-30 / 60, -80 / 120])[:, None].expand(2, 120)
        >>> policy = LogProbs(step_BKT=each[None], mask_BKT=steps[None], density="exact")
        >>> scores, mask = torch.tensor([[1.0, 0.0]]), torch.ones(1, 2).bool()
        >>> SimPO(beta=2.5, gamma=1.25)(ObjectiveInputs(policy=policy, scores_BK=scores, mask_BK=mask)).loss
        tensor(1.1942)
    """

    needs: ClassVar[Needs] = Needs()
    cite: ClassVar[tuple[str, ...]] = ("meng2024simpo", "gupta2025alphapo")

    beta: float = 2.5
    gamma: float = 1.25
    alpha: float = 0.0
    label_smoothing: float = 0.0
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        reward_BK = self.beta * power_log(read.log_prob(inputs, "mean"), -self.alpha)
        loss = smoothed(self.label_smoothing, self.gamma)
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)
