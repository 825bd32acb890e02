"""Odds Ratio Preference Optimization, without a reference model (Hong et al., arXiv 2403.07691, eq. 6-7).

    P(y) = exp( log pi(y) / |y| ),   odds(y) = P(y) / (1 - P(y))
    loss = -log P(y_w) - beta * log sigmoid( log odds(y_w) - log odds(y_l) )

Where we differ:

1. The first term is a mean over each winner's tokens, then over groups, and of the completion alone, as eq. 6 has it;
   TRL's runs over the prompt too and averages over all tokens of the batch.
2. Odds are held where 1 - P falls below the precision of the dtype, instead of becoming infinite.
3. Groups of more than two candidates give the mean over all strictly ordered pairs; ties are left out.

diffusers' ORPO script has the odds term with the wrong sign; this is the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from penchant.objectives import inputs as read
from penchant.objectives.numerics import log1mexp
from penchant.objectives.paired import pair_loss
from penchant.objectives.pairs import Pairing
from penchant.types import Needs, Objective, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class ORPO(Objective):
    """Maximum likelihood of the winner with a penalty on the loser's odds.

    Args:
        beta: weight of the odds ratio (lambda of the paper); 0.1 in the paper and TRL.
        pairing: compare "all" ordered pairs of a group or only "best_worst".
        tie_credit: 0 leaves ties out, 0.5 credits a tied pair half in each direction.
    """

    # A recorded path has densities, which may exceed 1 and have no odds.
    needs: ClassVar[Needs] = Needs(density=frozenset({"exact", "bound"}))
    cite: ClassVar[tuple[str, ...]] = ("hong2024orpo",)

    beta: float = 0.1
    pairing: Pairing = "all"
    tie_credit: float = 0.0

    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        def loss(won: Tensor, lost: Tensor) -> Tensor:
            return self.beta * softplus(lost - won)

        logp_BK = read.log_prob(inputs, "mean")
        log_odds_BK = logp_BK - log1mexp(logp_BK)
        return pair_loss(
            inputs, log_odds_BK, loss, pairing=self.pairing, tie_credit=self.tie_credit, winner_BK=-logp_BK
        )
