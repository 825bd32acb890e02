"""Losses of reward models: what two samples of a prompt are worth, given which one people preferred, or their ratings.

d = r_A - r_B in one dimension; each dimension of a pair is labelled "A better", "B better", "same" or not at all.

Where VideoAlign's paper and code disagree, or we with either:

1. Eq. 1 of the paper prints the "A better" branch with theta on the wrong term: exp(r_A) / (exp(r_B) + theta exp(r_A)).
   The three branches then do not add up to 1. The code, and this file, have Rao and Kupper's form.
2. The code averages over all B x D entries, those without a label included as zeros: `reduction="all"`. A dimension
   that is rarely labelled then weighs little and the step size depends on how much is missing, so the default here is
   the mean over the entries that take part: `reduction="labelled"`.

Shapes: B pairs, D dimensions, E = B (losses of pairs) or 2 B (losses of samples).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from penchant.errors import RecipeError

# VideoAlign's code of a label, `data.py`: what is not judged is 22.
A_BETTER, B_BETTER, SAME, UNLABELLED = 1, -1, 0, 22

Reduction = Literal["labelled", "all"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparisons:
    """B pairs of samples: the rewards that a model gives them, and what people said.

    `label_BD` holds the codes above; ratings are 1 to 5, and 0 where there is none.
    """

    reward_A_BD: Float[Tensor, "B D"]
    reward_B_BD: Float[Tensor, "B D"]
    label_BD: Int[Tensor, "B D"]
    rating_A_BD: Float[Tensor, "B D"]
    rating_B_BD: Float[Tensor, "B D"]

    def difference(self) -> Float[Tensor, "B D"]:
        """d = r_A - r_B."""
        return self.reward_A_BD - self.reward_B_BD

    def won(self) -> Float[Tensor, "B D"]:
        """By how much the winner's reward is larger; where nobody won, d."""
        return torch.where(self.label_BD == B_BETTER, -self.difference(), self.difference())

    def won_rating(self) -> Float[Tensor, "B D"]:
        """The same of the ratings."""
        gap_BD = self.rating_A_BD - self.rating_B_BD
        return torch.where(self.label_BD == B_BETTER, -gap_BD, gap_BD)

    def decided(self) -> Bool[Tensor, "B D"]:
        """Where one of the two was preferred."""
        return (self.label_BD == A_BETTER) | (self.label_BD == B_BETTER)


class RewardLoss(ABC):
    """A loss on `Comparisons`: a frozen dataclass of constants.

    Attributes:
        reads: whether labels, ratings or both must be there.
        reduction: "labelled", the mean over the entries that take part; or "all", the mean over every entry, where
            those that take no part count as zeros.
        zero: what a reward of 0 says in the units of the ratings; 0 where a loss has no units.
    """

    zero: ClassVar[float] = 0.0
    reads: ClassVar[frozenset[Literal["labels", "ratings"]]] = frozenset({"labels"})
    cite: ClassVar[tuple[str, ...]] = ("liu2025videoalign",)
    reduction: Reduction

    @abstractmethod
    def entries(self, pairs: Comparisons) -> tuple[Float[Tensor, "E D"], Bool[Tensor, "E D"]]:
        """The loss of every entry, and which entries take part."""

    def total(self, pairs: Comparisons) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The sum of the losses, and what it is to be divided by; both add up over micro-batches.

        The divisor depends on labels and ratings alone.
        """
        loss_ED, part_ED = self.entries(pairs)
        count = part_ED.sum() if self.reduction == "labelled" else torch.tensor(part_ED.numel())
        return torch.where(part_ED, loss_ED, 0).sum(), count.to(loss_ED.dtype)

    def __call__(self, pairs: Comparisons) -> Float[Tensor, ""]:
        """The mean loss; zero where nothing takes part."""
        loss, count = self.total(pairs)
        return loss / count.clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class BradleyTerry(RewardLoss):
    """-log sigmoid(r_w - r_l); what is tied is left out.

    >>> import torch
    >>> zero, label = torch.zeros(1, 1), torch.tensor([[A_BETTER]])
    >>> pair = Comparisons(
    ...     reward_A_BD=zero, reward_B_BD=zero, label_BD=label, rating_A_BD=zero, rating_B_BD=zero
    ... )
    >>> BradleyTerry()(pair)
    tensor(0.6931)
    """

    reduction: Reduction = "labelled"

    def entries(self, pairs: Comparisons) -> tuple[Tensor, Tensor]:
        return -logsigmoid(pairs.won()), pairs.decided()


@dataclass(frozen=True, kw_only=True)
class Logistic(RewardLoss):
    """-log sigmoid(r_w) for the better sample and -log sigmoid(-r_l) for the worse; what is tied is left out.

    Each sample by itself is right or wrong for its prompt, as in SigLIP's loss of pictures and texts (Zhai et al. 2023,
    arXiv 2303.15343, eq. 1), so that rewards compare between prompts, too.
    """

    cite: ClassVar[tuple[str, ...]] = ("zhai2023siglip",)

    reduction: Reduction = "labelled"

    def entries(self, pairs: Comparisons) -> tuple[Tensor, Tensor]:
        won_BD = torch.where(pairs.label_BD == B_BETTER, pairs.reward_B_BD, pairs.reward_A_BD)
        lost_BD = torch.where(pairs.label_BD == B_BETTER, pairs.reward_A_BD, pairs.reward_B_BD)
        return torch.cat([-logsigmoid(won_BD), -logsigmoid(-lost_BD)]), pairs.decided().repeat(2, 1)


@dataclass(frozen=True, kw_only=True)
class BradleyTerryTies(RewardLoss):
    """Bradley and Terry's model with ties of Rao and Kupper (1967), VideoAlign's loss.

        P(A) = sigmoid(d - ln theta)    P(B) = sigmoid(-d - ln theta)    P(same) = (theta^2 - 1) P(A) P(B)

    theta = 1 knows no ties and is `BradleyTerry`. At d = 0 the probability of a tie is (theta - 1) / (theta + 1).

    Args:
        theta: how large the advantage must be to be noticed; 5 in VideoAlign (code: `k`), where 2/3 of equals tie.
        reduction: see `RewardLoss`.
    """

    cite: ClassVar[tuple[str, ...]] = ("liu2025videoalign", "rao1967ties")

    theta: float = 5.0
    reduction: Reduction = "labelled"

    def __post_init__(self) -> None:
        if not self.theta > 1:
            raise RecipeError(
                f"theta is {self.theta}, and a tie then has no probability.",
                field="loss.theta",
                remedy="use more than 1, or the loss bradley_terry, which leaves ties out.",
            )

    def log_probabilities(self, difference: Float[Tensor, ...]) -> Float[Tensor, "... 3"]:
        """log P of "A better", "B better" and "same" at differences d."""
        first = logsigmoid(difference - math.log(self.theta))
        second = logsigmoid(-difference - math.log(self.theta))
        return torch.stack([first, second, first + second + math.log(self.theta**2 - 1)], dim=-1)

    def entries(self, pairs: Comparisons) -> tuple[Tensor, Tensor]:
        first_BD, second_BD, same_BD = self.log_probabilities(pairs.difference()).unbind(-1)
        likelihood_BD = torch.where(pairs.label_BD == B_BETTER, second_BD, first_BD)
        likelihood_BD = torch.where(pairs.label_BD == SAME, same_BD, likelihood_BD)
        return -likelihood_BD, pairs.decided() | (pairs.label_BD == SAME)


@dataclass(frozen=True, kw_only=True)
class Regression(RewardLoss):
    """(r - (rating - 3))^2 of both samples of a pair; without a rating a sample takes no part (VideoAlign's "reg")."""

    zero: ClassVar[float] = 3.0
    reads: ClassVar[frozenset[Literal["labels", "ratings"]]] = frozenset({"ratings"})

    reduction: Reduction = "labelled"

    def entries(self, pairs: Comparisons) -> tuple[Tensor, Tensor]:
        reward_ED = torch.cat([pairs.reward_A_BD, pairs.reward_B_BD])
        rating_ED = torch.cat([pairs.rating_A_BD, pairs.rating_B_BD]).to(reward_ED.dtype)
        return (reward_ED - (rating_ED - self.zero)).square(), rating_ED != 0


@dataclass(frozen=True, kw_only=True)
class RatedMargin(RewardLoss):
    """-log sigmoid((r_w - r_l) - (rating_w - rating_l)); what is tied is left out (VideoAlign's "margin")."""

    reads: ClassVar[frozenset[Literal["labels", "ratings"]]] = frozenset({"labels", "ratings"})

    reduction: Reduction = "labelled"

    def entries(self, pairs: Comparisons) -> tuple[Tensor, Tensor]:
        return -logsigmoid(pairs.won() - pairs.won_rating()), pairs.decided()


@dataclass(frozen=True, kw_only=True)
class ConstantMargin(RewardLoss):
    """-log sigmoid((r_w - r_l) - margin); what is tied is left out (VideoAlign's "constant_margin", 0.57)."""

    margin: float = 0.57
    reduction: Reduction = "labelled"

    def entries(self, pairs: Comparisons) -> tuple[Tensor, Tensor]:
        return -logsigmoid(pairs.won() - self.margin), pairs.decided()


@dataclass(frozen=True, kw_only=True)
class RatedScale(RewardLoss):
    """(rating_w - rating_l) * -log sigmoid(r_w - r_l); what is tied is left out (VideoAlign's "scaled").

    Where ratings contradict the label the weight is negative and the loss pushes against the label, as the code's does.
    """

    reads: ClassVar[frozenset[Literal["labels", "ratings"]]] = frozenset({"labels", "ratings"})

    reduction: Reduction = "labelled"

    def entries(self, pairs: Comparisons) -> tuple[Tensor, Tensor]:
        return pairs.won_rating() * -logsigmoid(pairs.won()), pairs.decided()


LOSSES: dict[str, type[RewardLoss]] = {
    "bradley_terry": BradleyTerry,
    "bradley_terry_ties": BradleyTerryTies,
    "logistic": Logistic,
    "regression": Regression,
    "rated_margin": RatedMargin,
    "constant_margin": ConstantMargin,
    "rated_scale": RatedScale,
}
