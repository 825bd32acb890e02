"""How far a pass is, how fast, and how long it will take; and at its end, what happened."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence

from penchant.synthesis.driver import Tally
from penchant.synthesis.ledger import Failed

Say = Callable[[str], None]


class Progress:
    """Says a line every few seconds."""

    def __init__(
        self, total: Mapping[str, int], expected: Mapping[str, float], say: Say, *, every: float = 5.0
    ) -> None:
        """Knows the plan.

        Args:
            total: units of each stage.
            expected: device seconds a unit of each stage; only their ratios matter.
            say: where lines go.
            every: seconds between two lines.
        """
        self._total, self._expected, self._say, self._every = dict(total), dict(expected), say, every
        self._started = self._last = time.monotonic()

    def __call__(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._say(self.line(tally, now - self._started))

    def line(self, tally: Tally, seconds: float) -> str:
        """One line: settled of all units, units a second, time left, trouble so far."""
        computed, total = sum(tally.computed.values()), sum(self._total.values())
        settled = computed + sum(tally.reused.values()) + sum(tally.failed.values())
        spent = sum(tally.seconds.values())
        # A stage that has not begun is expected to be as much off its expectation as the others are.
        scale = spent / max(sum(self._expected[name] * n for name, n in tally.computed.items()), 1e-9)
        work = sum(
            (tally.seconds[name] / tally.computed[name] if tally.computed[name] else scale * self._expected[name])
            * (n - tally.computed[name] - tally.reused[name] - tally.failed[name])
            for name, n in self._total.items()
        )
        busy = spent / seconds if seconds else 0.0
        eta = f"{clock(work / busy)} left" if busy else "time left unknown"
        trouble = f", {sum(tally.failed.values())} given up" if sum(tally.failed.values()) else ""
        trouble += f", {tally.lost_workers} workers lost" if tally.lost_workers else ""
        rate = computed / seconds if seconds else 0.0
        return f"{settled}/{total} units, {rate:.1f}/s, {eta}{trouble}"


def clock(seconds: float) -> str:
    """Seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def account(tally: Tally) -> list[str]:
    """A line a stage: planned, computed, found in the ledger, given up."""
    lines = [f"{'stage':24s} {'units':>8s} {'computed':>9s} {'reused':>8s} {'given up':>9s}"]
    lines += [
        f"{name:24s} {tally.planned[name]:8d} {tally.computed[name]:9d} {tally.reused[name]:8d} {tally.failed[name]:9d}"
        for name in tally.planned
    ]
    return lines


def troubles(failures: Sequence[Failed], *, shown: int = 5) -> list[str]:
    """Failures by stage and reason, each with examples."""
    by_reason: dict[tuple[str, str], list[Failed]] = {}
    for one in failures:
        # A port, a process id, an address in memory: another one each time, and the same reason.
        reason = re.sub(r"0x[0-9a-f]+|\d{4,}", "...", one.reason)
        by_reason.setdefault((one.stage, reason), []).append(one)
    lines = []
    for (stage, reason), found in by_reason.items():
        lines.append(f"{stage}: {len(found)} given up after {found[0].attempts} attempts: {reason}")
        lines += [f"  {one.input}" for one in found[:shown]]
    return lines
