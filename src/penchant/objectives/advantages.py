"""From rewards to advantages: how much better a sample did than what was to be expected.

| object                       | advantage of candidate k           | who                                        |
|------------------------------|------------------------------------|--------------------------------------------|
| GroupRelative(scale="group") | (r - mean of group) / std of group | GRPO, arXiv 2402.03300, section 4.1.2      |
| GroupRelative(scale="batch") | (r - mean of group) / std of all   | Lite PPO, arXiv 2508.08221; Flow-GRPO      |
| GroupRelative(scale="none")  | r - mean of group                  | Dr. GRPO, arXiv 2503.20783                 |
| LeaveOneOut()                | r - mean of the group's others     | RLOO, arXiv 2402.14740                     |
| Whitened()                   | (r - mean of all) / std of all     | DDPO while a prompt has too little history |
| RawAdvantage()               | r                                  | REINFORCE without baseline; see below      |
| ClippedAdvantage()           | another's, held in [-5, 5]         | DDPO's and Flow-GRPO's code                |

"All" are the rollouts that were collected together (`Statistics`) or, where nothing is known of those, the batch at
hand. `RawAdvantage` is also for scores that are advantages already: those of `penchant.objectives.prompt_history`,
DDPO's form over a prompt's past rewards, and those of several rewards that `decoupled` has brought to one unit.

Where we differ: a sample whose reward is not a number has the advantage 0 and is in no mean, as in TRL; a group of one
known reward has nothing to be compared with, so its advantage is 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.types import ObjectiveInputs, Statistics

Scale = Literal["group", "batch", "none"]


class Advantage(ABC):
    """What a reward is worth beside those that it was collected with."""

    cite: ClassVar[tuple[str, ...]] = ()
    # Candidates that a group must have for an advantage to differ from zero.
    min_candidates: ClassVar[int] = 1

    @abstractmethod
    def __call__(
        self, reward_BK: Float[Tensor, "B K"], known_BK: Bool[Tensor, "B K"], statistics: Statistics | None = None
    ) -> Float[Tensor, "B K"]:
        """The advantage of every candidate, 0 where `known_BK` is False (there the reward is not read)."""


@dataclass(frozen=True, kw_only=True)
class GroupRelative(Advantage):
    """r minus the mean of its group, over a standard deviation plus `eps`.

    Args:
        scale: whose deviation: that of the "group", of all in the "batch", or "none".
        eps: what keeps equal rewards from dividing by zero: 1e-4 in TRL and flow_grpo, 1e-8 in DanceGRPO.
        correction: the deviation divides by n - correction: 1 in TRL, 0 in flow_grpo. That of `Statistics` has 1.
    """

    cite: ClassVar[tuple[str, ...]] = ("shao2024deepseekmath",)
    min_candidates: ClassVar[int] = 2

    scale: Scale = "group"
    eps: float = 1e-4
    correction: int = 1

    def __call__(self, reward_BK: Tensor, known_BK: Tensor, statistics: Statistics | None = None) -> Tensor:
        away_BK = _centred(reward_BK, known_BK, -1)
        if self.scale == "none":
            return away_BK
        if self.scale == "group":
            return away_BK / (_deviation(reward_BK, known_BK, self.correction, -1) + self.eps)
        if statistics is not None:
            return away_BK / (statistics.std + self.eps)
        return away_BK / (_deviation(reward_BK, known_BK, self.correction, (-2, -1)) + self.eps)


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(Advantage):
    """r minus the mean of the *other* rewards of its group: K / (K - 1) times (r - mean of the group).

    Args:
        whiten: bring the advantages of the batch at hand to mean 0 and deviation 1, as TRL's option does; the loss then
            depends on how groups are put into micro-batches.
        eps: added to that deviation.
    """

    cite: ClassVar[tuple[str, ...]] = ("ahmadian2024rloo",)
    min_candidates: ClassVar[int] = 2

    whiten: bool = False
    eps: float = 1e-4

    def __call__(self, reward_BK: Tensor, known_BK: Tensor, statistics: Statistics | None = None) -> Tensor:
        count_B1 = known_BK.sum(-1, keepdim=True).to(reward_BK.dtype)
        advantage_BK = _centred(reward_BK, known_BK, -1) * count_B1 / (count_B1 - 1).clamp(min=1)
        return whitened(advantage_BK, known_BK, eps=self.eps) if self.whiten else advantage_BK


@dataclass(frozen=True, kw_only=True)
class Whitened(Advantage):
    """r minus the mean of all rewards, over their standard deviation: prompts are compared with each other.

    Args:
        eps: added to the deviation.
        correction: the deviation divides by n - correction, where no `Statistics` are given.
    """

    eps: float = 1e-4
    correction: int = 1

    def __call__(self, reward_BK: Tensor, known_BK: Tensor, statistics: Statistics | None = None) -> Tensor:
        return whitened(reward_BK, known_BK, statistics, eps=self.eps, correction=self.correction)


@dataclass(frozen=True, kw_only=True)
class RawAdvantage(Advantage):
    """The reward itself."""

    def __call__(self, reward_BK: Tensor, known_BK: Tensor, statistics: Statistics | None = None) -> Tensor:
        return torch.where(known_BK, reward_BK, 0)


@dataclass(frozen=True, kw_only=True)
class ClippedAdvantage(Advantage):
    """Another's advantages held in [-largest, largest].

    Args:
        advantage: the advantages before.
        largest: 5 in DDPO's and Flow-GRPO's code.
    """

    advantage: Advantage = field(default_factory=GroupRelative)
    largest: float = 5.0

    def __post_init__(self) -> None:
        if self.largest <= 0:
            raise ValueError(f"advantages held in [-{self.largest}, {self.largest}] say nothing: largest must be > 0.")
        object.__setattr__(self, "min_candidates", self.advantage.min_candidates)

    def __call__(self, reward_BK: Tensor, known_BK: Tensor, statistics: Statistics | None = None) -> Tensor:
        return self.advantage(reward_BK, known_BK, statistics).clamp(-self.largest, self.largest)


def advantages(
    inputs: ObjectiveInputs, advantage: Advantage, penalty_BK: Float[Tensor, "B K"] | None = None
) -> Float[Tensor, "B K"]:
    """The advantage of every candidate, without gradient, in at least float32; 0 for missing and unscorable ones.

    `penalty_BK` is taken off the rewards first (a KL penalty in the reward).
    """
    dtype = read.at_least_float32(inputs.policy.step_BKT.detach()).dtype
    known_BK = inputs.mask_BK & ~inputs.scores_BK.isnan()
    reward_BK = torch.where(known_BK, inputs.scores_BK, 0).to(dtype)
    if penalty_BK is not None:
        reward_BK = reward_BK - torch.where(known_BK, penalty_BK.detach(), 0)
    return advantage(reward_BK, known_BK, inputs.statistics)


def whitened(
    value: Tensor, where: Tensor, statistics: Statistics | None = None, *, eps: float = 1e-4, correction: int = 1
) -> Tensor:
    """The counted values brought to mean 0 and deviation 1, by their own or by a collection's statistics."""
    if statistics is not None:
        return torch.where(where, value - statistics.mean, 0) / (statistics.std + eps)
    every = tuple(range(value.dim()))
    return _centred(value, where, every) / (_deviation(value, where, correction, every) + eps)


def decoupled(
    reward_BKD: Float[Tensor, "B K D"], weight_D: Float[Tensor, " D"], mask_BK: Bool[Tensor, "B K"]
) -> Float[Tensor, "B K"]:
    """One reward of several, each brought to its group's unit first (GDPO, arXiv 2601.05242).

    sum_d w_d (r_d - mean of group) / (std of group + 1e-4), so that no reward rules by its scale. Follow it with
    `Whitened`. A sample with none of its rewards known is not a number; a single missing reward counts 0.
    """
    known_BKD = mask_BK[:, :, None] & ~reward_BKD.isnan()
    relative_BKD = _centred(reward_BKD, known_BKD, 1) / (_deviation(reward_BKD, known_BKD, 1, 1) + 1e-4)
    return torch.where(known_BKD.any(-1), (relative_BKD * weight_D).sum(-1), torch.nan)


def _centred(value: Tensor, where: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """The counted values minus their mean; zeros elsewhere."""
    mean = torch.where(where, value, 0).sum(dim, keepdim=True) / where.sum(dim, keepdim=True).clamp(min=1)
    return torch.where(where, value - mean, 0)


def _deviation(value: Tensor, where: Tensor, correction: int, dim: int | tuple[int, ...]) -> Tensor:
    """Standard deviation of the counted values; 0 for a single one."""
    free = (where.sum(dim, keepdim=True) - correction).clamp(min=1)
    return (_centred(value, where, dim).square().sum(dim, keepdim=True) / free).sqrt()
