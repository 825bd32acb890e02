"""What losses with a value network share: reading its forecast, advantages over several steps, and metrics.

`value_BKT` is the forecast, before each step, of the reward to come. Metrics: `values/mean`, `values/explained` (the
share of the target's variance that the forecast takes away: 1 is perfect, 0 is a constant, below 0 is worse than one).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from penchant.objectives import inputs as read
from penchant.objectives.metrics import mean_where
from penchant.objectives.ratios import counted_steps
from penchant.types import Needs, ObjectiveInputs

# What they all need: one forecast a step, so steps that are tokens; rewards; no other candidate.
VALUE = Needs(value=True, min_candidates=1, density=frozenset({"exact"}), scores="reward")


def value_steps(inputs: ObjectiveInputs) -> Float[Tensor, "B K T"]:
    """V(s_t) of every step in at least float32, with gradient; zeros where a step does not count.

    Raises:
        ValueError: there is no value network.
    """
    if inputs.value_BKT is None:
        raise ValueError("this objective learns a value network: give ObjectiveInputs(value_BKT=...).")
    return torch.where(counted_steps(inputs), read.at_least_float32(inputs.value_BKT), 0)


def last_steps(steps_BKT: Bool[Tensor, "B K T"]) -> Bool[Tensor, "B K T"]:
    """The last step that counts of every sample."""
    to_come_BKT = steps_BKT.flip(-1).cumsum(-1).flip(-1)
    return steps_BKT & (to_come_BKT == 1)


def generalised_advantages(
    reward_BKT: Float[Tensor, "B K T"],
    value_BKT: Float[Tensor, "B K T"],
    steps_BKT: Bool[Tensor, "B K T"],
    *,
    gamma: float,
    lam: float,
) -> Float[Tensor, "B K T"]:
    """Generalised advantage estimation (Schulman et al., arXiv 1506.02438, eq. 16); zeros where a step does not count.

        delta_t = r_t + gamma V_{t+1} - V_t,   A_t = sum over l of (gamma lam)^l delta_{t+l}

    After the last step the value is 0: a sample that was cut at the limit is taken as ended, for its reward is that of
    what there is.
    """
    ahead_BK = value_next_BK = torch.zeros_like(value_BKT[..., 0])
    found = []
    for t in range(value_BKT.shape[-1] - 1, -1, -1):
        counts_BK, value_BK = steps_BKT[..., t], value_BKT[..., t]
        delta_BK = reward_BKT[..., t] + gamma * value_next_BK - value_BK
        ahead_BK = torch.where(counts_BK, delta_BK + gamma * lam * ahead_BK, ahead_BK)
        value_next_BK = torch.where(counts_BK, value_BK, value_next_BK)
        found.append(ahead_BK)
    return torch.where(steps_BKT, torch.stack(found[::-1], -1), 0)


@torch.no_grad()
def value_metrics(value_BKT: Tensor, target_BKT: Tensor, steps_BKT: Tensor) -> dict[str, Tensor]:
    """How good the forecast is."""
    centre = mean_where(target_BKT, steps_BKT)
    bias = mean_where(target_BKT - value_BKT, steps_BKT)
    spread = mean_where((target_BKT - centre).square(), steps_BKT)
    left = mean_where((target_BKT - value_BKT - bias).square(), steps_BKT)
    return {"values/mean": mean_where(value_BKT, steps_BKT), "values/explained": 1 - left / spread}
