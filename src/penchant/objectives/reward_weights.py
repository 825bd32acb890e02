"""From a reward to the weight of a sample, for reward-weighted regression.

Flow-RWR (VideoAlign, arXiv 2501.13918) writes exp(r) and says nothing of its temperature, of a clip or of a
normalisation; its peers differ. So each reading is an object of its own:

| object                          | weight of candidate k of K            | who                                     |
|---------------------------------|---------------------------------------|-----------------------------------------|
| ExpWeight(temperature, largest) | min(exp(r / temperature), largest)    | the paper's, with a guard               |
| SoftmaxWeight(temperature)      | K * softmax over the group            | flow_grpo's baseline, as its comment    |
| RawWeight()                     | r                                     | flow_grpo's baseline, as its code runs  |
| ClippedWeight(low, high)        | r held in [low, high]                 | ours                                    |
| SelfNormalisedWeight(weight)    | another's, over its mean in the batch | ours: rewards that are not standardised |

All but the last depend on a group alone, so that micro-batches add up exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class RewardWeight(ABC):
    """How much a sample counts."""

    cite: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __call__(self, reward_BK: Float[Tensor, "B K"], known_BK: Bool[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """The weight of every candidate; where `known_BK` is False the reward is 0 and the weight is not read."""


@dataclass(frozen=True, kw_only=True)
class ExpWeight(RewardWeight):
    """min(exp(r / temperature), largest).

    Args:
        temperature: unit of the rewards; 1 is meant for rewards of mean 0 and deviation 1.
        largest: no sample counts for more; at the default only rewards three deviations above the mean are held.
    """

    temperature: float = 1.0
    largest: float = 20.0

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.largest <= 0:
            raise ValueError(f"temperature {self.temperature} and largest {self.largest} must be positive.")

    def __call__(self, reward_BK: Tensor, known_BK: Tensor) -> Tensor:
        # Held before exp, which overflows.
        return (reward_BK / self.temperature).clamp(max=math.log(self.largest)).exp()


@dataclass(frozen=True, kw_only=True)
class SoftmaxWeight(RewardWeight):
    """K times the softmax of a group's rewards, so that the mean weight of every group is 1.

    Only differences within a prompt count: a prompt whose samples are all poor teaches as much as any other. A group of
    one has the weight 1.

    Args:
        temperature: the smaller, the closer to "the best takes all".
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature} must be positive.")

    def __call__(self, reward_BK: Tensor, known_BK: Tensor) -> Tensor:
        low = torch.finfo(reward_BK.dtype).min
        share_BK = (reward_BK / self.temperature).masked_fill(~known_BK, low).softmax(-1)
        return known_BK.sum(-1, keepdim=True) * share_BK


@dataclass(frozen=True, kw_only=True)
class RawWeight(RewardWeight):
    """The reward itself. A negative one pushes its sample away, and nothing holds that push."""

    def __call__(self, reward_BK: Tensor, known_BK: Tensor) -> Tensor:
        return reward_BK


@dataclass(frozen=True, kw_only=True)
class ClippedWeight(RewardWeight):
    """The reward held in [low, high]; at low = 0 samples without reward are left out and none is pushed away.

    Args:
        low: smallest weight.
        high: largest weight.
    """

    low: float = 0.0
    high: float = 5.0

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"between {self.low} and {self.high} there is no weight: low must be below high.")

    def __call__(self, reward_BK: Tensor, known_BK: Tensor) -> Tensor:
        return reward_BK.clamp(self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class SelfNormalisedWeight(RewardWeight):
    """Another's weights over their mean in the batch at hand: self-normalised importance weights.

    The mean is that of the micro-batch, as the baseline of `DiffusionKTO`. A batch of one sample would give it the
    weight 1 whatever its reward, which is plain imitation, so it is refused.

    Args:
        weight: the weights before; never negative.
    """

    weight: RewardWeight = field(default_factory=ExpWeight)

    def __post_init__(self) -> None:
        if isinstance(self.weight, (RawWeight, SelfNormalisedWeight)):
            raise ValueError(
                f"the mean of {type(self.weight).__name__} divides nothing sensibly: use ExpWeight or ClippedWeight."
            )

    def __call__(self, reward_BK: Tensor, known_BK: Tensor) -> Tensor:
        count = known_BK.sum()
        if count == 1:
            raise ValueError(
                "self-normalised weights of one sample are always 1: raise micro_batch, or use ExpWeight or "
                "SoftmaxWeight."
            )
        weight_BK = torch.where(known_BK, self.weight(reward_BK, known_BK), 0)
        return weight_BK * count / weight_BK.sum().clamp(min=torch.finfo(weight_BK.dtype).tiny)
