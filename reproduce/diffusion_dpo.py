"""Is the quickstart's gain one seed's luck? The `diffusion-dpo` recipe with three training seeds.

The labels are simulated by scorer A; scorer B, which no training saw, judges. Every seed's policy and the base draw the
same captions with the same picture seeds.

    python reproduce/diffusion_dpo.py            # resumable: finished runs are kept
    python reproduce/diffusion_dpo.py --fresh
"""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runs import ROOT, finish, record, scores

RUNS = ROOT.parent / "runs" / "reproduce-diffusion-dpo"
FOLDERS = {seed: RUNS / f"seed-{seed}" for seed in (0, 1, 2)}
JUDGES = {"emoji/labeller": "scorer A, trained against", "emoji/judge": "scorer B, held out"}
JOBS = 2  # runs at a time, one thread each


def row(captions: str, judge: str) -> dict[str, Any]:
    """One judge on one kind of captions, over all seeds."""
    from penchant.evaluate import mean_gain, win_rate

    policy, base = (scores(list(FOLDERS.values()), captions, judge, side) for side in ("policy", "base"))
    wins, gain = win_rate(policy, base), mean_gain(policy, base)
    return {
        "captions": captions,
        "judge": judge,
        "shape": list(policy.shape),
        "win_rate": [wins.rate, wins.low, wins.high],
        "by_seed": [win_rate(one, other).rate for one, other in zip(policy, base, strict=True)],
        "mean": [gain.before, gain.after],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = [
        "| captions | judge | win rate against the base, % [95 %] | by seed, % | mean score |",
        "|---|---|---|---|---|",
    ]
    for r in rows:
        rate, low, high = (100 * v for v in r["win_rate"])
        seeds = ", ".join(f"{100 * v:.1f}" for v in r["by_seed"])
        before, after = r["mean"]
        lines.append(
            f"| {r['captions']} | {JUDGES[r['judge']]} | {rate:.1f} [{low:.1f}, {high:.1f}] | {seeds} "
            f"| {before:.3f} -> {after:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Trains what is missing and records the table."""
    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    # One first, alone: it encodes the pairs and samples the base for all.
    finish("diffusion-dpo", FOLDERS[0], "--seed", "0")
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(lambda seed: finish("diffusion-dpo", FOLDERS[seed], "--seed", str(seed)), FOLDERS))
    rows = [row(captions, judge) for captions in ("seen", "held-out") for judge in JUDGES]
    record("diffusion_dpo", rows, table(rows))


if __name__ == "__main__":
    main()
