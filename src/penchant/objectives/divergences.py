"""f-divergences that keep the policy near its reference (f-DPO, Wang et al., arXiv 2309.16240, table 1).

DPO penalises the reverse KL divergence. With another f a sample's reward is f'(pi / ref) in place of its log-ratio:

| object                 | f'(t), t = pi / ref         | a sample gains at most        |
|------------------------|-----------------------------|-------------------------------|
| ReverseKL()            | log t                       | without bound: DPO            |
| JensenShannon()        | log 2t / (1 + t)            | log 2                         |
| AlphaDivergence(alpha) | (t^(alpha-1) - 1)/(alpha-1) | 1 / (1 - alpha), if alpha < 1 |
| ForwardKL()            | 1 - 1 / t                   | 1                             |

`alpha` is TRL's, 1 minus the paper's: 0 is the forward and 1 the reverse KL divergence. Constants are kept: they cancel
in a margin, but not where each side is divided by its own length.

Where we differ: TRL cuts exp off at 80 for the alpha divergence, where the gradient ends, and lets it overflow for the
forward KL; here exp goes on as its tangent (`numerics.power_log`), so a sample that the policy has lost is still pulled
back. TRL's alpha divergence also refuses float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from penchant.objectives.numerics import power_log


class Divergence(ABC):
    """What the distance of the policy from its reference is measured by."""

    cite: ClassVar[tuple[str, ...]] = ("wang2024fdpo",)

    @abstractmethod
    def __call__(self, log_ratio: Tensor) -> Tensor:
        """f'(exp(log_ratio)), elementwise and rising; its slope at log_ratio = 0 is 1, for JensenShannon 1/2."""


@dataclass(frozen=True, kw_only=True)
class ReverseKL(Divergence):
    """KL(pi || ref), the choice of DPO: the log-ratio itself."""

    cite: ClassVar[tuple[str, ...]] = ()

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return log_ratio


@dataclass(frozen=True, kw_only=True)
class ForwardKL(Divergence):
    """KL(ref || pi): covers what the reference does, and never lets a sample go."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return power_log(log_ratio, -1.0)


@dataclass(frozen=True, kw_only=True)
class JensenShannon(Divergence):
    """The Jensen-Shannon divergence: bounded above like the forward KL, a log-ratio below like the reverse."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return math.log(2) + logsigmoid(log_ratio)


@dataclass(frozen=True, kw_only=True)
class AlphaDivergence(Divergence):
    """Between the two KL divergences.

    Args:
        alpha: 0 is the forward KL, 1 the reverse KL.
    """

    alpha: float = 0.5

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return power_log(log_ratio, self.alpha - 1)
