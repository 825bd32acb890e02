"""Does MaPO win where the preferred pictures are foreign to the reference, and does it cost less?

Pick-Style on real pictures: for each caption the Fluent drawing is preferred to another artist's; the base draws plain
captions in all three styles. MaPO, Diffusion-DPO and SFT train on the same pairs for the same steps, at two learning
rates and with three seeds, and draw captions that no pair contained. Measured: share of the preferred style (a
classifier that no method was trained against), caption fidelity (the held-out judge), both against the base and MaPO
against the others, CPU seconds and peak memory of a step.

    python reproduce/mapo.py            # resumable: finished runs are kept
    python reproduce/mapo.py --fresh
"""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

# `penchant align` reads this file for its recipes, from a folder where `runs` is not to be found: it is imported late.
ROOT = Path(__file__).resolve().parent
RUNS = ROOT.parent / "runs" / "reproduce-mapo"
SEEDS = (0, 1, 2)
RATES = ("5e-6", "2e-5")
JOBS = 2  # runs at a time, one thread each
STYLE, JUDGE = "emoji/style:fluent", "emoji/judge"


def mapo() -> Any:
    """MaPO's run: the `mapo` recipe."""
    from penchant.recipes import find

    return find("mapo")


def diffusion_dpo() -> Any:
    """The same with Diffusion-DPO in place of MaPO, at its authors' beta."""
    from penchant.objectives import DPO

    return replace(mapo(), name="diffusion-dpo", objective=DPO(beta=5000.0))


def sft() -> Any:
    """The same with SFT on the preferred drawing."""
    from penchant.objectives import SFT

    return replace(mapo(), name="sft", objective=SFT())


METHODS = {"MaPO": mapo, "Diffusion-DPO": diffusion_dpo, "SFT": sft}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One method at one learning rate."""

    method: str
    rate: str

    def folder(self, seed: int) -> Path:
        """Where its run with `seed` lies."""
        return RUNS / f"{METHODS[self.method].__name__}-{self.rate}-{seed}"

    def train(self, seed: int) -> None:
        """Its run with `seed`."""
        from runs import finish

        run = f"{__file__}:{METHODS[self.method].__name__}"
        finish(run, self.folder(seed), "--seed", str(seed), "--lr", self.rate)

    def scores(self, judge: str, side: str) -> np.ndarray:
        """Scores [seeds, P, S] of held-out captions."""
        from runs import scores

        return scores([self.folder(seed) for seed in SEEDS], "held-out", judge, side)

    def outcomes(self) -> list[dict[str, float]]:
        """What each run cost."""
        return [json.loads((self.folder(seed) / "outcome.json").read_text()) for seed in SEEDS]


def against(arm: Arm, other: Arm, side: str) -> dict[str, list[float]]:
    """Style and fidelity of an arm's pictures beside another's (or the base's, with its own arm and side "base")."""
    from penchant.evaluate import mean_gain, win_rate

    fluent, beside = (a.scores(STYLE, s) > 0.5 for a, s in ((arm, "policy"), (other, side)))
    style = mean_gain(fluent.astype(float), beside.astype(float))
    fidelity = win_rate(arm.scores(JUDGE, "policy"), other.scores(JUDGE, side))
    return {
        "share": [style.before, style.after],
        "share_gain": [style.gain, style.low, style.high],
        "fidelity_win_rate": [fidelity.rate, fidelity.low, fidelity.high],
    }


def summarise(arms: list[Arm]) -> dict[str, Any]:
    """Every arm against the base, MaPO against the others at the same rate, and what a step costs."""
    costs = {
        method: {
            "cpu_seconds_per_step": float(np.median([o["cpu_seconds"] / o["step"] for o in found])),
            "peak_bytes": float(np.median([o["peak_bytes"] for o in found])),
        }
        for method in METHODS
        for found in [[o for arm in arms if arm.method == method for o in arm.outcomes()]]
    }
    duels = [(Arm(method="MaPO", rate=r), Arm(method=m, rate=r)) for r in RATES for m in METHODS if m != "MaPO"]
    return {
        "seeds": len(SEEDS),
        "shape": list(arms[0].scores(JUDGE, "base").shape),
        "against_base": [{"method": a.method, "rate": a.rate, **against(a, a, "base")} for a in arms],
        "mapo_against": [{"method": o.method, "rate": o.rate, **against(a, o, "policy")} for a, o in duels],
        "costs": costs,
    }


def _percent(values: list[float], sign: str = "") -> str:
    middle, low, high = (100 * v for v in values)
    return f"{middle:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = ["| method | rate | Fluent share, % | gain, points [95 %] | fidelity: wins against the base, % [95 %] |"]
    lines += ["|---|---|---|---|---|"]
    for row in result["against_base"]:
        before, after = (100 * v for v in row["share"])
        lines.append(
            f"| {row['method']} | {row['rate']} | {before:.0f} -> {after:.0f} | {_percent(row['share_gain'], '+')} "
            f"| {_percent(row['fidelity_win_rate'])} |"
        )
    lines += [
        "",
        "| MaPO against | rate | Fluent share, points [95 %] | fidelity: MaPO wins, % [95 %] |",
        "|---|---|---|---|",
    ]
    for row in result["mapo_against"]:
        gain, wins = _percent(row["share_gain"], "+"), _percent(row["fidelity_win_rate"])
        lines.append(f"| {row['method']} | {row['rate']} | {gain} | {wins} |")
    lines += ["", "| method | CPU s a step | peak GB |", "|---|---|---|"]
    for method, cost in result["costs"].items():
        lines.append(f"| {method} | {cost['cpu_seconds_per_step']:.2f} | {cost['peak_bytes'] / 1e9:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Trains what is missing and records the tables."""
    from runs import record

    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    arms = [Arm(method=method, rate=rate) for rate in RATES for method in METHODS]
    # One first, alone: it encodes the drawings and samples the base for all.
    arms[0].train(SEEDS[0])
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(lambda job: job[0].train(job[1]), product(arms, SEEDS)))
    result = summarise(arms)
    record("mapo", result, table(result))


if __name__ == "__main__":
    main()
