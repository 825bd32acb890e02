"""What every reproduction does with its runs: finish them, in processes of their own, and read what they left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent


def finish(recipe: str, folder: Path, *options: str) -> None:
    """Runs `penchant align` on one thread, into `folder`; a finished run is kept, an interrupted one goes on.

    Runs beside each other share a cache of encodings and samples. A process of its own has a peak memory of its own.
    """
    if (folder / "report.html").exists():
        return
    command = [sys.executable, "-m", "penchant", "align", recipe, *options, "--threads", "1"]
    command += ["--out", str(folder), "--cache", str(folder.parent / "cache")]
    if (folder / "checkpoints").exists() or (folder / "outcome.json").exists():
        command.append("--resume")
    subprocess.run(command, check=True)


def scores(folders: Sequence[Path], captions: str, judge: str, side: str) -> np.ndarray:
    """Scores [runs, P, S] that a judge gave the pictures of "policy" or "base"."""
    found = [json.loads((folder / "scores.json").read_text()) for folder in folders]
    return np.array([one[captions][judge][side] for one in found])


def preferred(first: np.ndarray, others: np.ndarray) -> list[float]:
    """How often the first scores are larger, and the 95 % interval."""
    from penchant.evaluate import win_rate

    found = win_rate(first, others)
    return [found.rate, found.low, found.high]


def record(name: str, result: Any, table: str) -> None:
    """Prints the table and writes `results/NAME.json` and `.md`."""
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (results / f"{name}.md").write_text(table + "\n")
    print(table)
