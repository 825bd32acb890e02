"""What a data set will cost, before it is made: units, device time, money, bytes, ledger commits.

Seconds a unit are those of a ledger that has some, else the recipe's own. The paper's bill for Syn-Pic (arXiv
2410.18013, section 3): 232,000 images and their labels took 10 A100-days, $185.60 for drawing and below $20 for
scoring, beside $47,950 for the human labels of Pick-a-Pic v2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penchant.synthesis.ledger import Ledger
from penchant.synthesis.progress import clock
from penchant.synthesis.run import LEDGER, read_prompts
from penchant.synthesis.spec import Synthesis

DAY = 86_400.0
# One writer takes the batches of all workers. Ours, and cautious: the driver commits many batches in one transaction.
COMMITS_A_SECOND = 100.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One stage of a plan; `measured` tells a ledger's seconds from the recipe's."""

    name: str
    units: int
    seconds: float
    measured: bool

    @property
    def days(self) -> float:
        """Device-days of the stage."""
        return self.units * self.seconds / DAY


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Stages, and what they add up to on `devices` of a price."""

    prompts: int
    lines: tuple[Line, ...]
    images: int
    devices: int
    price: float
    megabytes: float
    batch: int

    @property
    def days(self) -> float:
        """Device-days in all."""
        return sum(line.days for line in self.lines)

    @property
    def units_a_second(self) -> float:
        """Units settled a second by all devices together."""
        return sum(line.units for line in self.lines) / max(self.days * DAY / self.devices, 1e-9)

    def __str__(self) -> str:
        lines = [f"{'stage':24s} {'units':>11s} {'s a unit':>9s} {'device-days':>12s} {'price':>10s}"]
        for line in self.lines:
            star = " measured" if line.measured else ""
            price = f"${line.days * 24 * self.price:,.2f}"
            lines.append(f"{line.name:24s} {line.units:11,d} {line.seconds:9.4f} {line.days:12.3f} {price:>10s}{star}")
        total = f"${self.days * 24 * self.price:,.2f}"
        units = sum(line.units for line in self.lines)
        lines.append(f"{'all':24s} {units:11,d} {'':9s} {self.days:12.3f} {total:>10s}")
        wall = self.days * DAY / self.devices
        calls = self.units_a_second / self.batch
        lines += [
            f"{self.prompts:,} prompts, {self.images:,} samples; on {self.devices:,} devices {clock(wall)}, "
            f"{self.images / max(wall, 1e-9):,.1f} samples/s",
            f"media: {self.images * self.megabytes / 1e3:,.1f} GB at {self.megabytes:g} MB a sample",
            f"scheduler: {calls:,.1f} calls/s at {self.batch} units a call",
        ]
        if calls > COMMITS_A_SECOND:
            lines.append(f"ledger: above {COMMITS_A_SECOND:g} commits/s; raise batch_size, or split the prompts")
        return "\n".join(lines)


def plan(recipe: Synthesis, *, devices: int = 1, price: float = 0.86, megabytes: float = 0.5) -> Plan:
    """What `recipe` will cost.

    Args:
        recipe: what to make.
        devices: how many work at once.
        price: dollars a device-hour; the default is the paper's, $205.60 for 10 A100-days.
        megabytes: of one sample on disk.
    """
    prompts = _count(recipe)
    measured = _measured(Path(recipe.out or f"runs/{recipe.name}") / LEDGER)
    images = prompts * recipe.seeds * len(recipe.generators)
    units = {generator.name: prompts * recipe.seeds for generator in recipe.generators}
    lines = [
        Line(
            name=stage.name,
            units=units.get(stage.name, images),
            seconds=measured.get(stage.name, stage.seconds),
            measured=stage.name in measured,
        )
        for stage in (*recipe.generators, *recipe.rewards)
    ]
    batch = min(stage.batch_size for stage in recipe.generators)
    return Plan(
        prompts=prompts,
        lines=tuple(lines),
        images=images,
        devices=devices,
        price=price,
        megabytes=megabytes,
        batch=batch,
    )


def _count(recipe: Synthesis) -> int:
    """Prompts of the recipe; a plan may be made where the prompts are not yet, if the recipe limits their number."""
    from penchant.errors import PenchantError

    try:
        return len(read_prompts(recipe.prompts, recipe.limit))
    except PenchantError:
        if recipe.limit is None:
            raise
        return recipe.limit


def _measured(path: Path) -> Mapping[str, float]:
    if not path.exists():
        return {}
    ledger = Ledger(path)
    try:
        return ledger.rates()
    finally:
        ledger.close()
