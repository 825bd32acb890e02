"""iREPO: regression of the implicit reward difference on a soft label (arXiv 2405.15230; no code was released).

    d = beta * [ (log pi_w - log ref_w) - (log pi_l - log ref_l) ]
    loss = ( d - (s_w - s_l) )^2

The scores s are logits: log-strengths of a Bradley-Terry model of the annotators' votes, or a judge's own logits, so
that s_w - s_l = logit P(w beats l). The reference is the last iterate. Unlike DPO the push stops where the soft label
is reached, so a label near 1/2 hardly moves the policy. IPO is the special case in which every pair has the same
target; on differences of rewards in place of logits it is REBEL.

What the paper leaves open, and what we take:

1. `pairing` "best_worst" is the paper's; "all" is the mean over all ordered pairs. Equal strengths give no pair.
2. `reduce="mean"` regresses on log-ratios per token, for answers so long that their sums dwarf any logit: ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class IREPO(Objective):
    """The policy's preference, as a logit, is fitted to the annotators'.

    Args:
        beta: temperature of the implicit reward; 0.1 is ours.
        reduce: the "total" log-ratio of a completion, or its "mean" over tokens.
        pairing: compare only "best_worst" or "all" ordered pairs of a group.
        tie_credit: 0 leaves ties out, 0.5 fits tied pairs to the target zero, half in each direction.
    """

    needs: ClassVar[Needs] = Needs(reference=True, scores="logit")
    cite: ClassVar[tuple[str, ...]] = ("le2024irepo",)

    beta: float = 0.1
    reduce: read.Reduce = "total"
    pairing: Pairing = "best_worst"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        ratio_BK = read.log_ratio(inputs)
        if self.reduce == "mean":
            ratio_BK = read.per_step(ratio_BK, inputs)
        # Scores that are not a number make no pair; as zeros they spoil no other.
        score_BK = read.present(inputs.scores_BK, inputs).nan_to_num().to(ratio_BK.dtype)
        target_BKK = score_BK[:, :, None] - score_BK[:, None, :]

        def loss(won: Tensor, lost: Tensor) -> Tensor:
            return (won - lost - target_BKK).square()

        reward_BK = self.beta * ratio_BK
        return pair_loss(inputs, reward_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit)
