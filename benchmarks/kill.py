"""Kills a training run with SIGKILL at random moments, some of them inside a save, and resumes it every time.

The weights at the end must have the bits of a run that nobody killed; no kill may leave a newest checkpoint that cannot
be loaded, nor cost more steps than lie between two saves.

    python benchmarks/kill.py             # 10 kills, at least 3 of them inside a save
    python benchmarks/kill.py --kills 3   # at least 1 inside a save

Every attempt is a process of its own, forked from one that has imported the libraries.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Before any library is imported, here and in the processes that inherit it: sums then have one order, and the libraries
# are quiet, also about what a killed process never gave back.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
os.environ |= {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore:resource_tracker"}
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "train"))

STEPS, SAVE_EVERY = 60, 3
PROCESSES = multiprocessing.get_context("forkserver")


def train(folder: Path, run: str, resume: bool) -> None:
    """The run: every weight of a tiny UNet and their averages, so that a save has something to write."""
    from loop_fixtures import recipe

    from penchant.run import align

    pipeline, pairs = folder / "sd15", folder / "pairs.parquet"
    spec = recipe(pipeline, pairs, folder / run, steps=STEPS, save_every=SAVE_EVERY, ema=0.9, lora=0)
    align(spec, resume=resume, say=lambda text: None)


def start(folder: Path, run: str, *, resume: bool) -> Any:
    """`train` in a process of its own."""
    process = PROCESSES.Process(target=train, args=(folder, run, resume))
    process.start()
    return process


def partials(run: Path) -> set[tuple[int, int]]:
    """The checkpoints that are being written, or were when their process died, by inode and last change."""
    try:
        found = [path.stat() for path in (run / "checkpoints").glob(".step-*.partial")]
        return {(one.st_ino, one.st_mtime_ns) for one in found}
    except FileNotFoundError:
        return set()


def steps(run: Path) -> int:
    """Steps that the metrics tell of."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def newest(run: Path) -> int:
    """The step of the newest checkpoint, which must be whole."""
    from penchant.train.checkpoint import load_latest

    found = load_latest(run / "checkpoints")
    assert found is None or not found[1], f"the newest checkpoint is not whole: {found[1]}"
    return 0 if found is None else found[0].step


def kill_once(process: Any, run: Path, *, inside_save: bool, draw: random.Random) -> str:
    """Waits for the moment and kills; returns where it struck, or "finished" if there was nothing left to kill."""
    left_by_others = partials(run)
    goal, grace = steps(run) + draw.randint(1, 2 * SAVE_EVERY), draw.uniform(0, 0.05)

    def due() -> bool:
        return bool(partials(run) - left_by_others) if inside_save else steps(run) >= goal

    while process.is_alive() and not due():
        time.sleep(0.0002 if inside_save else 0.002)
    if not inside_save:
        time.sleep(grace)
    process.kill()
    process.join()
    if process.exitcode != -9:
        return "finished"
    return "inside a save" if partials(run) - left_by_others else "between saves"


def weights(run: Path) -> bytes:
    """The UNet's file."""
    (found,) = (run / "model" / "unet").glob("*.safetensors")
    return found.read_bytes()


def prepare(folder: Path) -> None:
    """A tiny pipeline and a preference file."""
    from loop_fixtures import rows, write

    from penchant.testing import build

    build("stable-diffusion", folder / "sd15")
    write(folder / "pairs.parquet", rows(7))


def main(kills: int) -> int:
    """Prints a table; returns 1 if the bits differ, too much work was lost, or too few kills struck."""
    PROCESSES.set_forkserver_preload(["loop_fixtures", "penchant.run", "penchant.train.loop", "diffusers", "peft"])
    draw, struck, lost = random.Random(0), [], []
    wanted = max(1, 3 * kills // 10)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "killed"
        prepare(folder)
        whole = start(folder, "whole", resume=False)
        whole.join()
        assert whole.exitcode == 0
        print(f"{'kill':>4s}  {'where':13s}  {'steps done':>10s}  {'newest checkpoint':>17s}  {'steps lost':>10s}")
        while len(struck) < kills:
            inside = struck.count("inside a save") < wanted and len(struck) % 2 == 0
            process = start(folder, "killed", resume=run.exists())
            found = kill_once(process, run, inside_save=inside, draw=draw)
            if found == "finished":
                break
            struck.append(found)
            lost.append(steps(run) - newest(run))
            print(f"{len(struck):4d}  {found:13s}  {steps(run):10d}  {newest(run):17d}  {lost[-1]:10d}", flush=True)
        last = start(folder, "killed", resume=True)
        last.join()
        equal = last.exitcode == 0 and weights(folder / "whole") == weights(run)
    inside = struck.count("inside a save")
    enough = len(struck) == kills and inside >= wanted
    print(
        f"{len(struck)} kills, {inside} inside a save; at most {max(lost, default=0)} steps lost; final weights",
        end=" ",
    )
    print(
        "bit-equal" if equal else "DIFFER", "" if enough else f"\ntoo few kills: wanted {kills}, {wanted} inside a save"
    )
    return 0 if equal and enough and max(lost) <= SAVE_EVERY else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    sys.exit(main(parser.parse_args().kills))
