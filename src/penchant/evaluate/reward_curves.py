"""Rewards in training: which curves they are, whether one falls while another rises, and what they cost in KL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penchant.evaluate.curves import TAIL, Curve

MEAN = "rewards/mean"
"""What a run that draws its own samples logs: the mean of what it maximises."""

# Of pairs, or moments of the rewards: none is one reward of several.
_OTHERS = frozenset(
    {"mean", "std", "spread", "flat", "min", "max", "chosen", "rejected", "margins", "accuracies", "value"}
)

_CERTAIN = 3.0
"""Standard errors that a rise or fall must exceed: the best of ten windows is looked for, so two would be too few."""


@dataclass(frozen=True, kw_only=True)
class Movement:
    """How a reward moved in a run: the mean of its first, best and last tenth, and the errors of the differences."""

    name: str
    start: float
    best: float
    end: float
    rise_error: float
    fall_error: float

    @property
    def rose(self) -> bool:
        """The end lies above the start beyond `_CERTAIN` standard errors."""
        return self.end - self.start > _CERTAIN * self.rise_error

    @property
    def fell(self) -> bool:
        """The end lies below the best tenth beyond `_CERTAIN` standard errors."""
        return self.best - self.end > _CERTAIN * self.fall_error


def reward_names(curves: Mapping[str, Curve]) -> list[str]:
    """The rewards that a run logged one by one, without their `rewards/`; none where it drew no samples."""
    if MEAN not in curves:
        return []
    names = [name.removeprefix("rewards/") for name in curves if name.startswith("rewards/")]
    return sorted(name for name in names if name not in _OTHERS)


def movements(curves: Mapping[str, Curve]) -> list[Movement]:
    """How each reward of `reward_names`, and their mean, moved."""
    names = [*reward_names(curves), *(["mean"] if MEAN in curves else [])]
    return [found for name in names if (found := _movement(name, curves[f"rewards/{name}"])) is not None]


def against(x: Curve, y: Curve) -> list[tuple[float, float]]:
    """y over x at the steps that both logged with finite values, in their order, both as centred moving means over a
    tenth of the run."""
    own = dict(zip(x.steps, x.values, strict=True))
    pairs = [(own[s], v) for s, v in zip(y.steps, y.values, strict=True) if s in own]
    pairs = [(a, b) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
    half = max(1, len(pairs) // 20)
    windows = [pairs[max(0, i - half) : i + half + 1] for i in range(len(pairs))]
    return [(_mean([a for a, _ in w]), _mean([b for _, b in w])) for w in windows]


def _movement(name: str, curve: Curve) -> Movement | None:
    values = [v for v in curve.values if math.isfinite(v)]
    width = max(2, round(TAIL * len(values)))
    if len(values) < 2 * width:
        return None
    windows = [values[i : i + width] for i in range(0, len(values) - width + 1, width)]
    first, last = values[:width], values[-width:]
    best = max((*windows, last), key=_mean)
    return Movement(
        name=name,
        start=_mean(first),
        best=_mean(best),
        end=_mean(last),
        rise_error=math.hypot(_error(first), _error(last)),
        fall_error=math.hypot(_error(best), _error(last)),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _error(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
