"""What a run tells while it runs: a metrics file, one line a step, and the numbers that matter on the terminal."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

SHOWN = {
    "loss": "loss",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "drift/chosen": "winner drift",
    "rewards/mean": "reward",
    "kl": "KL",
}


class Averages:
    """Means over groups. A metric that no group of a micro-batch defines is NaN there and left out; a loss is not."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    def add(self, values: Mapping[str, float], groups: int) -> None:
        """Takes in the means over `groups` groups."""
        for name, value in values.items():
            if name == "loss" or not math.isnan(value):
                self._sums[name] = self._sums.get(name, 0.0) + value * groups
                self._weights[name] = self._weights.get(name, 0.0) + groups

    def means(self) -> dict[str, float]:
        """The mean of every metric that was defined somewhere."""
        return {name: total / self._weights[name] for name, total in self._sums.items()}


class MetricsFile:
    """`metrics.jsonl`. Opening it for a resume at `step` drops the lines of later steps."""

    def __init__(self, path: Path, *, step: int) -> None:
        self.path = path
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # The last line of a killed run may be half a line; its step is repeated.
                if record["step"] <= step:
                    kept.append(line)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(f"{line}\n" for line in kept))
        partial.replace(path)
        self._stream = path.open("a")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one step; values that are not finite are written as null."""
        clean = {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._stream.write(json.dumps({"step": step, **clean}) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Ends the file."""
        self._stream.close()


class Meter:
    """The line of numbers on the terminal: exponentially smoothed, with pairs/s and ETA."""

    def __init__(self, steps: int, first: int, groups: int) -> None:
        self.steps, self.first, self.groups, self.started = steps, first, groups, time.monotonic()
        self.smooth: dict[str, float] = {}

    def update(self, values: Mapping[str, float]) -> None:
        """Takes a step's metrics in."""
        for name in SHOWN:
            if name in values and math.isfinite(values[name]):
                self.smooth[name] = 0.9 * self.smooth.get(name, values[name]) + 0.1 * values[name]

    def rate(self, step: int) -> float:
        """Groups a second since the start of this process."""
        return (step - self.first) * self.groups / max(1e-9, time.monotonic() - self.started)

    def line(self, step: int) -> str:
        """E.g. `step 40/100  loss 0.61  accuracy 0.66  margin 0.21  winner drift +0.0001  9.1 groups/s  ETA 1m45s`."""
        shown = [f"{label} {self.smooth[name]:.4g}" for name, label in SHOWN.items() if name in self.smooth]
        rate = self.rate(step)
        left = (self.steps - step) * self.groups / rate if rate > 0 else float("inf")
        eta = "?" if math.isinf(left) else f"{int(left) // 60}m{int(left) % 60:02d}s"
        return "  ".join([f"step {step}/{self.steps}", *shown, f"{rate:.3g} groups/s", f"ETA {eta}"])
