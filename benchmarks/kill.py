"""Kills a training run with SIGKILL at random moments, some of them inside a save, and resumes it every time.

The weights at the end must have the bits of a run that nobody killed.

    python benchmarks/kill.py             # 10 kills, 3 of them inside a save
    python benchmarks/kill.py --kills 3
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = """
import sys
from pathlib import Path
sys.path.insert(0, {fixtures!r})
from loop_fixtures import recipe
from penchant.run import align
folder = Path({folder!r})
align(recipe(folder / "sd15", folder / "pairs.parquet", folder / sys.argv[1], steps=40, save_every=2, ema=0.9, lora=0),
      resume=sys.argv[2] == "resume", say=lambda text: None)
"""


def prepare(folder: Path) -> Path:
    """A tiny pipeline, a preference file and the script that trains on them."""
    fixtures = Path(__file__).resolve().parent.parent / "tests" / "train"
    sys.path.insert(0, str(fixtures))
    from loop_fixtures import rows, write

    from penchant.testing import build

    build("stable-diffusion", folder / "sd15")
    write(folder / "pairs.parquet", rows(7))
    script = folder / "train.py"
    script.write_text(SOURCE.format(fixtures=str(fixtures), folder=str(folder)))
    return script


def start(script: Path, run: str, *, resume: bool) -> subprocess.Popen[bytes]:
    """A training process; one thread, so that sums have one order."""
    words = [sys.executable, str(script), run, "resume" if resume else "fresh"]
    return subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def saving(checkpoints: Path) -> bool:
    """Whether a checkpoint is being written right now."""
    return any(checkpoints.glob(".step-*.partial"))


def kill_once(process: subprocess.Popen[bytes], checkpoints: Path, *, inside_save: bool, delay: float) -> str:
    """Waits for training to begin, then for the moment, and kills; returns what happened."""
    newest = max((p.name for p in checkpoints.glob("step-*")), default="")
    while process.poll() is None and max((p.name for p in checkpoints.glob("step-*")), default="") == newest:
        time.sleep(0.005)
    moment = time.monotonic() + delay
    while process.poll() is None and (not saving(checkpoints) if inside_save else time.monotonic() < moment):
        time.sleep(0.0002 if inside_save else 0.005)
    if process.poll() is not None:
        return "had finished"
    process.send_signal(signal.SIGKILL)
    process.wait()
    return "inside a save" if saving(checkpoints) else "between saves"


def weights(folder: Path) -> bytes:
    """The UNet's file."""
    (found,) = (folder / "model" / "unet").glob("*.safetensors")
    return found.read_bytes()


def main(kills: int = 10) -> int:
    """Prints a table; returns 1 if the bits differ or too few kills happened."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = prepare(folder)
        assert start(script, "whole", resume=False).wait() == 0
        done: list[str] = []
        for attempt in range(4 * kills):
            process = start(script, "killed", resume=(folder / "killed" / "checkpoints").exists())
            checkpoints = folder / "killed" / "checkpoints"
            if len(done) == kills:
                break
            found = kill_once(process, checkpoints, inside_save=attempt % 3 == 0, delay=draw.uniform(0, 0.4))
            if found == "had finished":
                break
            done.append(found)
            newest = max((p.name for p in checkpoints.glob("step-*")), default="none")
            print(f"kill {len(done):2d}  {found:14s}  newest whole checkpoint {newest}", flush=True)
        code = process.wait()
        equal = code == 0 and weights(folder / "whole") == weights(folder / "killed")
        inside = done.count("inside a save")
        print(f"{len(done)} kills, {inside} inside a save; final weights {'bit-equal' if equal else 'DIFFER'}")
        return 0 if equal and len(done) >= min(kills, 3) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[sys.argv.index("--kills") + 1]) if "--kills" in sys.argv else 10))
