"""`AsFlow`: a step made for flows, on the path of a diffusion model.

Every path x = a x0 + s e is a straight one, walked at another speed and in another scale:

    y = x / (a + s) = (1 - t) x0 + t e,   t = s / (a + s)

so a flow's step from y_t to y_t' gives one from x to x' = (a' + s') y_t'. Flow-GRPO and DanceGRPO then train Stable
Diffusion as they train a flow; on a flow nothing changes. The rewriting is ours, no paper's.

Shape legend: N rows, `...` the shape of a latent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import RecipeError
from penchant.likelihoods import gaussian
from penchant.likelihoods.gaussian import across, at_least_float32
from penchant.likelihoods.transitions import FlowSDE, Step, Transition

# Schedulers of zero terminal SNR may keep 2^-12 of the data, where Flow-GRPO's noise would burst: that is pure noise.
_NO_DATA = 1e-3


@final
@dataclass(frozen=True, kw_only=True)
class AsFlow(Transition):
    """The step of a flow, for any model.

    Args:
        step: a step for flows: `FlowSDE` or `DanceSDE`.

    Raises:
        RecipeError: the step walks any path.
    """

    flows_only: ClassVar[bool] = False
    noisy_at_data: ClassVar[bool] = True

    step: Transition = field(default_factory=FlowSDE)

    def __post_init__(self) -> None:
        if not self.step.flows_only:
            raise RecipeError(
                f"{type(self.step).__name__} walks every path as it is.", field="step", remedy="leave AsFlow out."
            )

    @property
    def strength(self) -> float:
        """The step's."""
        return self.step.strength

    def std(self, step: Step) -> Float[Tensor, " N"]:
        """(a' + s') times the flow's."""
        return self.step.std(_straight(step)) * (step.next_a_N + step.next_s_N)

    def mean(self, step: Step, prediction_N: Tensor, noisy_N: Tensor, quantity: gaussian.Quantity) -> Tensor:
        """(a' + s') times the flow's, from the velocity e - x0 that the prediction implies."""
        wide_N = at_least_float32(noisy_N)
        x0_N, noise_N = gaussian.to_data_and_noise(at_least_float32(prediction_N), wide_N, step.a_N, step.s_N, quantity)
        straight_N = wide_N / across(step.a_N + step.s_N, wide_N)
        mean_N = self.step.mean(_straight(step), noise_N - x0_N, straight_N, "velocity")
        return mean_N * across(step.next_a_N + step.next_s_N, mean_N)

    def kl_std(self, step: Step) -> Float[Tensor, " N"]:
        """(a' + s') times the flow's: a KL does not know the scale."""
        return self.step.kl_std(_straight(step)) * (step.next_a_N + step.next_s_N)


def _straight(step: Step) -> Step:
    """The same noise levels on the straight path."""
    time_N = torch.where(step.a_N < _NO_DATA, 1.0, step.s_N / (step.a_N + step.s_N))
    next_time_N = step.next_s_N / (step.next_a_N + step.next_s_N)
    return Step(a_N=1 - time_N, s_N=time_N, next_a_N=1 - next_time_N, next_s_N=next_time_N)
