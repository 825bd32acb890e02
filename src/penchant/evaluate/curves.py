"""Training curves, read from a run's metrics.jsonl (one JSON object a logged step)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penchant.errors import PenchantError

TAIL = 0.1
"""Share of the logged steps that counts as the start or the end of a run: one step alone is noise."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A metric over optimiser steps; steps ascend, a value may be NaN where training logged NaN."""

    steps: tuple[int, ...]
    values: tuple[float, ...]

    def start(self) -> tuple[float, float]:
        """Mean of the first tenth of the finite values, and its standard error."""
        finite = [v for v in self.values if math.isfinite(v)]
        return _mean_and_error(finite[: max(1, round(TAIL * len(finite)))])

    def end(self) -> tuple[float, float]:
        """Mean of the last tenth of the finite values, and its standard error."""
        finite = [v for v in self.values if math.isfinite(v)]
        return _mean_and_error(finite[-max(1, round(TAIL * len(finite))) :])


@dataclass(frozen=True, kw_only=True)
class WinnerChange:
    """By how much the log-prob of the preferred samples changed in training.

    `change` is below zero when the policy finds them less likely than the base did, `start` the base's log-prob of
    them, `error` the standard error of `change`.
    """

    change: float
    start: float
    error: float


def read_metrics(path: str | Path) -> dict[str, Curve]:
    """Every numeric metric of a metrics.jsonl, keyed by its name.

    A step that appears twice (a resumed run logs it again) keeps its last value. A last line without its newline is a
    write that a crash cut short, and is left out.

    Args:
        path: the file; each line is an object with an integer "step" and numbers.

    Raises:
        PenchantError: a line is not a JSON object with an integer step.
    """
    lines = Path(path).read_text(encoding="utf-8").split("\n")[:-1]
    points: dict[str, dict[int, float]] = {}
    for row, line in enumerate(lines):
        if not line.strip():
            continue
        record = _record(line, path=path, row=row)
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                points.setdefault(name, {})[record["step"]] = float(value)
    return {name: _curve(values) for name, values in points.items()}


def winner_change(curves: Mapping[str, Curve]) -> WinnerChange | None:
    """The change of the preferred samples' log-prob, or None where it was not logged.

    With "drift/chosen" (log p_policy - log p_base of the chosen samples) and "logps/chosen" logged it is the end of the
    former; with "logps/chosen" alone, the end against the start, when the policy was still the base.
    """
    if "logps/chosen" not in curves:
        return None
    log_prob = curves["logps/chosen"]
    if "drift/chosen" in curves:
        change, error = curves["drift/chosen"].end()
        return WinnerChange(change=change, start=log_prob.end()[0] - change, error=error)
    (start, start_error), (end, end_error) = log_prob.start(), log_prob.end()
    return WinnerChange(change=end - start, start=start, error=math.hypot(start_error, end_error))


def _record(line: str, *, path: str | Path, row: int) -> dict:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise PenchantError(f"not JSON: {error.msg}.", file=path, row=row) from error
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise PenchantError("not an object with an integer step.", file=path, row=row, field="step")
    return record


def _curve(points: Mapping[int, float]) -> Curve:
    steps = sorted(points)
    return Curve(steps=tuple(steps), values=tuple(points[step] for step in steps))


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    n = len(values)
    if n == 0:
        return math.nan, math.nan
    mean = sum(values) / n
    if n == 1:
        return mean, 0.0
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
