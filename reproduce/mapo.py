"""Does MaPO win where the preferred pictures are foreign to the reference, and does it cost less?

Pick-Style on real pictures: for each caption the Fluent drawing is preferred to another artist's; the base draws plain
captions in all three styles. MaPO, Diffusion-DPO and SFT train on the same pairs for the same steps, with three seeds,
and draw captions that no pair contained. Measured: share of the preferred style (a classifier that no method was
trained against), caption fidelity (the held-out judge), CPU seconds and peak memory of a step.

    python reproduce/mapo.py            # resumable: finished runs are kept
    python reproduce/mapo.py --fresh
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent
RUNS = ROOT.parent / "runs" / "reproduce-mapo"
SEEDS = (0, 1, 2)
METHODS: Mapping[str, tuple[str, ...]] = {
    "MaPO": (),
    "Diffusion-DPO": ("--objective.beta", "5000"),
    "SFT": (),
}
OBJECTIVES = {"MaPO": "mapo", "Diffusion-DPO": "dpo", "SFT": "sft"}


def recipe(method: str) -> Any:
    """The `mapo` recipe with another objective in place and everything else equal."""
    from dataclasses import replace

    from penchant.objectives import OBJECTIVES as CLASSES
    from penchant.recipes import find

    base = find("mapo")
    return replace(base, name=method.lower(), objective=CLASSES[OBJECTIVES[method]]())


def mapo() -> Any:
    """MaPO's run."""
    return recipe("MaPO")


def diffusion_dpo() -> Any:
    """Diffusion-DPO's run."""
    return recipe("Diffusion-DPO")


def sft() -> Any:
    """SFT's run."""
    return recipe("SFT")


FUNCTIONS = {"MaPO": "mapo", "Diffusion-DPO": "diffusion_dpo", "SFT": "sft"}


def train(method: str, seed: int) -> Path:
    """One run in a process of its own, so that its peak memory is its own."""
    folder = RUNS / f"{FUNCTIONS[method]}-{seed}"
    if not (folder / "report.html").exists():
        command = [sys.executable, "-m", "penchant", "align", f"{__file__}:{FUNCTIONS[method]}", "--seed", str(seed)]
        command += ["--out", str(folder), "--cache", str(RUNS / f"cache-{seed}"), *METHODS[method]]
        if (folder / "checkpoints").exists():
            command.append("--resume")
        subprocess.run(command, check=True)
    return folder


def summarise(method: str, folders: list[Path]) -> dict[str, Any]:
    """Means over seeds, with the interval over prompts and seeds where pictures were judged."""
    from penchant.evaluate import mean_gain, win_rate

    scores = [json.loads((folder / "scores.json").read_text()) for folder in folders]
    outcomes = [json.loads((folder / "outcome.json").read_text()) for folder in folders]
    steps = outcomes[0]["step"]

    def stack(judge: str, side: str) -> np.ndarray:
        return np.array([s["held-out"][judge][side] for s in scores])

    style, judge = "emoji/style:fluent", "emoji/judge"
    share = {side: (stack(style, side) > 0.5).astype(float) for side in ("policy", "base")}
    shift = mean_gain(share["policy"], share["base"])
    fidelity = win_rate(stack(judge, "policy"), stack(judge, "base"))
    alignment = mean_gain(stack(judge, "policy"), stack(judge, "base"))
    return {
        "method": method,
        "share_before": shift.before,
        "share_after": shift.after,
        "share_gain": [shift.gain, shift.low, shift.high],
        "fidelity_win_rate": [fidelity.rate, fidelity.low, fidelity.high],
        "alignment_gain": [alignment.gain, alignment.low, alignment.high],
        "cpu_seconds_per_step": float(np.mean([o["cpu_seconds"] / steps for o in outcomes])),
        "seconds_per_step": float(np.mean([o["seconds"] / steps for o in outcomes])),
        "peak_bytes": float(np.max([o["peak_bytes"] for o in outcomes])),
        "runs": len(folders),
        "prompts": int(stack(judge, "base").shape[1]),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = [
        "| method | Fluent share, base -> aligned | gain [95 %] | caption fidelity: win rate against base [95 %] "
        "| CPU s / step | peak GB |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        gain, low, high = (100 * v for v in r["share_gain"])
        rate, bottom, top = (100 * v for v in r["fidelity_win_rate"])
        lines.append(
            f"| {r['method']} | {100 * r['share_before']:.0f} % -> {100 * r['share_after']:.0f} % "
            f"| {gain:+.1f} [{low:+.1f}, {high:+.1f}] | {rate:.1f} % [{bottom:.1f}, {top:.1f}] "
            f"| {r['cpu_seconds_per_step']:.2f} | {r['peak_bytes'] / 1e9:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Trains what is missing, prints the table and records it."""
    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    folders = {method: [train(method, seed) for seed in SEEDS] for method in METHODS}
    rows = [summarise(method, found) for method, found in folders.items()]
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    (results / "mapo.json").write_text(json.dumps(rows, indent=1) + "\n")
    (results / "mapo.md").write_text(table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
