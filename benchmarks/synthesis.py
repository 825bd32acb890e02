"""What the synthesis pipeline promises, on the real `synpic` data set: kills, faults, one more reward, workers, Ray.

    python benchmarks/synthesis.py [--prompts 96] [--kills 20] [--seed 0]

1. Made without faults, and made while drivers and workers are killed at random moments: the same fingerprint, every
   unit in the ledger once.
2. Three rewards beside it that raise, hang and return not-a-number, in servers of their own: reported by name, the rest
   goes on.
3. A sixth reward afterwards: only its cells are computed.
4. A stage that only sleeps, on one worker and on two.
5. The same data set on a Ray cluster of this machine.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from penchant.recipe_file import to_toml
from penchant.recipes import find_synthesis
from penchant.synthesis import Reward, Row, Stage, Synthesis, Work, Worker, score
from penchant.synthesis.ledger import Ledger
from penchant.synthesis.run import LEDGER
from penchant.synthesis.stages import Failure, Output

RESULTS = Path(__file__).parent / "results"
ODD = """
import time
def Raises(): return lambda prompts, samples: 1 / 0
def Hangs(): return lambda prompts, samples: time.sleep(3600)
def Silent(): return lambda prompts, samples: [float("nan") if "monster" in p else 1.0 for p in prompts]
"""


def recipe(prompts: int, out: Path, **more: Any) -> Synthesis:
    """`synpic` with two more rewards: five, as the paper has."""
    base = find_synthesis("synpic")
    five = (*base.rewards, Reward(name="colourfulness", judge="colourfulness"))
    five += (Reward(name="fluentness", judge="zoo:emoji/style#fluent"),)
    return replace(base, limit=prompts, rewards=five, out=str(out), **more)


def run(recipe: Synthesis, *words: str) -> tuple[str, float]:
    """Output and seconds of `penchant synthesize` on a recipe, in a process of its own."""
    file, started = _file(recipe), time.monotonic()
    command = [sys.executable, "-m", "penchant", "synthesize", str(file), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not re.search(r"fingerprint \w+", done.stdout):
        raise SystemExit(f"no data set was made:\n{done.stdout}\n{done.stderr}")
    return done.stdout, time.monotonic() - started


def _file(recipe: Synthesis) -> Path:
    folder = Path(recipe.out or "")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(to_toml(recipe))
    return folder / "recipe.toml"


def fingerprint(output: str) -> str:
    """The fingerprint that a run printed."""
    found = re.search(r"fingerprint (\w+)", output)
    assert found is not None
    return found[1]


def killed(recipe: Synthesis, kills: int, seed: int) -> tuple[int, int]:
    """Runs a recipe while half of the kills hit the driver and half one of its workers; returns how many of each."""
    rng, file = random.Random(seed), _file(recipe)
    drivers = workers = 0
    command = [sys.executable, "-m", "penchant", "synthesize", str(file)]
    while drivers + workers < kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Until this driver is killed, its workers are.
        while process.poll() is None and drivers + workers < kills:
            time.sleep(rng.uniform(1.0, 7.0))
            victims = _workers(process.pid)
            if rng.random() < 0.5 and victims:
                psutil.Process(rng.choice(victims)).kill()
                workers += 1
            elif process.poll() is None:
                process.kill()
                process.wait()
                drivers += 1
        if process.poll() is None:
            process.wait()
        elif process.returncode == 0:
            break
    return drivers, workers


def _workers(pid: int) -> list[int]:
    try:
        children = psutil.Process(pid).children()
        return [c.pid for c in children if "spawn_main" in " ".join(c.cmdline())]
    except psutil.Error:
        return []


@dataclass(frozen=True, kw_only=True)
class Sleeps(Stage):
    """Waits, as a reward behind a slow service does."""

    name: str = "sleeps"
    pause: float = 0.1
    batch_size: int = 1
    timeout: float = 60.0
    seconds: float = 0.1

    def load(self) -> Worker:
        return _Sleeper(pause=self.pause)


@dataclass(kw_only=True)
class _Sleeper(Worker):
    pause: float

    def run(self, rows: Sequence[Row], folder: Path) -> list[Output | Failure]:
        time.sleep(self.pause * len(rows))
        return [{"value": 0.0, "version": "sleeps@1"} for _ in rows]


def sleeping(workers: int, folder: Path) -> float:
    """Seconds a unit of a stage that only sleeps; starting processes is not what is measured."""
    from penchant.feedback import Candidate, Group
    from penchant.synthesis.local import LocalExecutor

    groups = [Group(prompt=f"p{i}", candidates=tuple(Candidate(text=f"{i} {k}") for k in range(4))) for i in range(60)]
    executor = LocalExecutor(folder / "data", workers=workers)
    stage: Any = Sleeps()
    try:
        # Each worker's first call begins when it has started: a few groups go ahead.
        score(groups[: 2 * workers], [stage], folder, say=_quiet, executor=executor)
        started = time.monotonic()
        score(groups, [stage], folder, say=_quiet, executor=executor)
        return (time.monotonic() - started) / (4 * (60 - 2 * workers))
    finally:
        executor.close()


def _quiet(line: str) -> None:
    """No progress."""


def faults(whole: Synthesis, folder: Path) -> list[str]:
    """The lines that name what failed."""
    (folder / "odd.py").write_text(ODD)
    odd = tuple(
        Reward(name=name.lower(), judge=f"{folder}/odd.py:{name}", python=sys.executable, timeout=2.0)
        for name in ("Raises", "Hangs", "Silent")
    )
    output, _ = run(replace(whole, rewards=(*whole.rewards[:2], *odd), out=str(folder / "faults"), limit=4))
    lines = [line for line in output.splitlines() if "given up after" in line or " groups, " in line]
    return [line.replace(f"{folder}/", "") for line in lines]


def kills(hurt: Synthesis, expected: str, units: dict[str, int], options: Any) -> str:
    """Part 1, as a sentence."""
    drivers, workers = killed(hurt, options.kills, options.seed)
    output, _ = run(hurt)
    after = Ledger(Path(hurt.out or "") / LEDGER).counts()
    missing = sum(max(0, n - after.get(stage, 0)) for stage, n in units.items())
    double = sum(max(0, n - units.get(stage, 0)) for stage, n in after.items())
    return (
        f"{drivers + workers} SIGKILLs ({drivers} drivers, {workers} workers), then finished: "
        f"{verdict(output, expected)}, {missing} units missing, {double} double."
    )


def verdict(output: str, expected: str) -> str:
    """Whether a run made the same data set."""
    return "the same fingerprint" if fingerprint(output) == expected else "ANOTHER FINGERPRINT"


def sixth(whole: Synthesis) -> str:
    """Part 3, as a sentence."""
    output, _ = run(whole, "reward:zoo:emoji/style#noto")
    rows = [line.split() for line in output.splitlines() if re.search(r"( +\d+){4}$", line)]
    computed = {row[0]: int(row[2]) for row in rows if row[2] != "0"}
    return f"A sixth reward: {sum(computed.values())} units computed, all of {', '.join(computed)}."


def main() -> None:
    """Runs all and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-ray", action="store_true")
    options = parser.parse_args()
    lines: list[str] = []

    def tell(line: str) -> None:
        print(f"- {line}", flush=True)
        lines.append(f"- {line}")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = recipe(options.prompts, folder / "whole")
        output, seconds = run(whole)
        expected = fingerprint(output)
        units = Ledger(folder / "whole" / LEDGER).counts()
        count = f"{options.prompts} prompts, 5 generators, 5 rewards: {sum(units.values())} units"
        tell(f"{count} in {seconds:.0f} s, fingerprint {expected}.")
        tell(kills(recipe(options.prompts, folder / "killed"), expected, units, options))
        tell(sixth(whole))
        for line in faults(whole, folder):
            tell(f"With faulty rewards: {line}")
        one, two = sleeping(1, folder / "one"), sleeping(2, folder / "two")
        pace = f"{one:.4f} s a unit on 1 worker, {two:.4f} s on 2"
        tell(f"A stage that sleeps 0.1 s a unit: {pace}; efficiency {one / two / 2:.2f}.")
        if not options.no_ray:
            output, seconds = run(recipe(options.prompts, folder / "ray", work=Work(executor="ray", workers=2)))
            tell(f"On Ray, 2 actors on this machine: {verdict(output, expected)}, {seconds:.0f} s.")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "synthesis.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
