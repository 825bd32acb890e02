"""Preference training of language models: penchant's loop beside TRL's trainers, on the same models and pairs.

    make bench-text                                # installs TRL in .venv-trl; all cases; about an hour on two cores
    python benchmarks/text.py --case A-full        # one case; the other rows of the results stay
    python benchmarks/text.py --quick              # short texts, one timed step, nothing written
    python benchmarks/text.py --device cuda        # bfloat16, wall time and GPU memory; nothing written

Two Llama models with random weights, A mostly head and B mostly trunk, are trained on 16 pairs, 4 a step. Every row of
the table is a process of its own (`text_ours.py`, `text_peer.py`). Each of TRL's takes its steps in turn with one of
ours, so that a busy machine is busy for both. All steps have the same pairs on both sides and must give the same
losses: the first one's is log 2, the others also see the gradients and updates before them. The first is a warm-up.

What is counted: CPU time, user and system, of one thread, from the end of a step to the end of the next one: batch,
forward, backward, clipping, optimiser, bookkeeping. What is not: imports, loading, tokenisation, and the reference pass
of precomputed variants, which has a column of its own. Memory is the peak resident set of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from text_peer import Job

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PEER = HERE.parent / ".venv-trl" / "bin" / "python"
PAIRS, BATCH, RANK = 16, 4, 16
UNTIMED = 1
TOLERANCE = 1e-4  # of a loss, in float32

# Frees and takes back the same pages all the time otherwise: glibc gives large blocks back to the system at once.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
FLOAT32 = {"bf16": False, "gradient_checkpointing": False}
HALF = {"gradient_checkpointing": False}
AHEAD = {"precompute_ref_log_probs": True}
ONE_BY_ONE = {"gradient_accumulation_steps": BATCH}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of the table: whose, what it changes of the defaults, and its environment."""

    title: str
    options: dict[str, Any]
    environment: dict[str, str]
    ours: bool = False


def _trl(title: str, environment: dict[str, str] | None = None, **options: Any) -> Variant:
    return Variant(title=f"TRL, {title}", options=options, environment=environment or {})


def _ours(title: str, **options: Any) -> Variant:
    return Variant(title=f"penchant, {title}", options=options, environment={}, ours=True)


VARIANTS = {
    "cached": _ours("cached reference", reference="cached"),
    "small": _ours("cached reference, a pair at a time", reference="cached", micro_batch=1),
    "half": _ours("the same, bfloat16", reference="cached", micro_batch=1, precision="bf16"),
    "live": _ours("live reference", reference="live"),
    "none": _ours("SimPO", reference="none"),
    "shipped": _trl("as shipped: bfloat16, checkpointing"),
    "float32": _trl("float32, no checkpointing", **FLOAT32),
    "ahead": _trl("float32, reference precomputed, malloc", MALLOC, **FLOAT32, **AHEAD),
    "ahead-1": _trl("the same, a pair at a time", MALLOC, **FLOAT32, **AHEAD, **ONE_BY_ONE),
    "half-1": _trl("the same, bfloat16", MALLOC, **HALF, **AHEAD, **ONE_BY_ONE),
    "malloc": _trl("float32, malloc", MALLOC, **FLOAT32),
    "malloc-1": _trl("the same, a pair at a time", MALLOC, **FLOAT32, **ONE_BY_ONE),
}
# Which processes run in turn; the first one of each is compared with the others.
DPO = (
    ("cached", "live", "shipped"),
    ("cached", "float32"),
    ("cached", "ahead"),
    ("cached", "small", "ahead-1"),
    ("half", "half-1"),
)
SIMPO = (("none", "shipped"), ("none", "malloc"), ("none", "malloc-1"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A block of the table."""

    title: str
    model: str
    lora: int = 0
    objective: str = "dpo"

    @property
    def lr(self) -> float:
        """Large enough for the check to see an update, small enough to go on."""
        return 1e-3 if self.lora else 1e-4

    @property
    def rounds(self) -> tuple[tuple[str, ...], ...]:
        """Which variants run in turn."""
        return DPO if self.objective == "dpo" else SIMPO


CASES = {
    "A-full": Case(title="A (mostly head), DPO, all weights", model="A"),
    "B-full": Case(title="B (mostly trunk), DPO, all weights", model="B"),
    "A-lora": Case(title="A (mostly head), DPO, LoRA of rank 16", model="A", lora=RANK),
    "B-lora": Case(title="B (mostly trunk), DPO, LoRA of rank 16", model="B", lora=RANK),
    "A-simpo": Case(title="A (mostly head), SimPO, all weights", model="A", objective="simpo"),
}


# The measurement.


class Worker:
    """The near end of a worker process."""

    def __init__(self, job: Job, variant: Variant) -> None:
        self.steps: list[dict[str, Any]] = []
        self.name = job.variant
        self.process = spawn("text_ours.py" if variant.ours else "text_peer.py", job, variant)
        self.reference = self._answer()

    def step(self) -> None:
        """Has the next step taken."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.steps.append(self._answer())

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended early with {self.process.wait()}; its last words are above.")
        return json.loads(line)


def spawn(script: str, job: Job, variant: Variant | None = None) -> subprocess.Popen[str]:
    """A process of its own. This one stays small: a child's peak memory starts at its parent's."""
    python = PEER if script == "text_peer.py" else sys.executable
    quiet = {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": f"{job.folder}/datasets",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TQDM_DISABLE": "1",
    }
    return subprocess.Popen(
        [str(python), str(HERE / script), json.dumps(asdict(job))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **quiet, **(variant.environment if variant else {})},
    )


def measure(case: Case, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    """Every round of a case; a variant that took part in several is measured over all of them."""
    steps = UNTIMED + options.repeats
    seen: dict[str, list[Worker]] = {}
    beside: dict[str, dict[str, Any]] = {}
    for names in case.rounds:
        if options.skip and set(options.skip) & set(names):
            continue
        workers = {name: worker_of(name, case, folder, steps, options.device) for name in names}
        for _ in range(steps):
            for worker in workers.values():
                worker.step()
        for worker in workers.values():
            worker.close()
        difference = check(case, workers)
        first, *others = names
        for name in others:
            beside[name] = compared(workers[first], workers[name], options.device)
            beside[name]["largest_loss_difference"] = difference[name]
            print(f"{case.title}: {name}: {json.dumps(beside[name])}", file=sys.stderr, flush=True)
        for name, worker in workers.items():
            seen.setdefault(name, []).append(worker)
    rows = {name: {**figures(workers, options.device), **beside.get(name, {})} for name, workers in seen.items()}
    return {"title": case.title, "rows": {name: rows[name] for name in VARIANTS if name in rows}}


def worker_of(name: str, case: Case, folder: str, steps: int, device: str) -> Worker:
    """A process that is ready to take its first step."""
    job = Job(
        variant=name,
        folder=f"{folder}/{case.model}",
        objective=case.objective,
        lora=case.lora,
        steps=steps,
        batch=BATCH,
        lr=case.lr,
        device=device,
        options=VARIANTS[name].options,
    )
    return Worker(job, VARIANTS[name])


def check(case: Case, workers: dict[str, Worker]) -> dict[str, float]:
    """The same pairs must give the same losses on every side, at every step; the largest difference from the first."""
    losses = {name: [step["loss"] for step in worker.steps] for name, worker in workers.items()}
    print(f"{case.title}: losses {json.dumps(losses)}", file=sys.stderr, flush=True)
    first = next(iter(losses.values()))
    worst = {name: max(abs(a - b) for a, b in zip(one, first, strict=True)) for name, one in losses.items()}
    for name, difference in worst.items():
        told = VARIANTS[name].options
        exact = "precision" not in told if VARIANTS[name].ours else not told.get("bf16", True)
        if exact and not difference <= TOLERANCE:
            raise SystemExit(f"{case.title}: {name} does other work: {losses}")
    return worst


def seconds(step: dict[str, Any], device: str) -> float:
    """What is compared: CPU time, or on a GPU wall time."""
    return step["wall"] if device == "cuda" else step["user"] + step["system"]


def reference_seconds(worker: Worker, device: str) -> float:
    """The reference pass of one pair; 0 where there was none."""
    found = worker.reference
    return seconds(found, device) / found["pairs"] if "pairs" in found else 0.0


def figures(workers: list[Worker], device: str) -> dict[str, Any]:
    """Over all timed steps of all processes of a variant."""
    steps = [step for worker in workers for step in worker.steps[UNTIMED:]]
    spent = [seconds(step, device) for step in steps]
    return {
        "pairs_per_second": BATCH * len(steps) / sum(spent),
        "system_share": sum(s["system"] for s in steps) / sum(s["user"] + s["system"] for s in steps),
        "wall_s": sum(s["wall"] for s in steps) / len(steps),
        "peak_mb": max(s["peak_mb"] for s in steps),
        "reference_s": min(reference_seconds(worker, device) for worker in workers),
        "steps_s": spent,
        "losses": [step["loss"] for step in workers[0].steps],
    }


def compared(ours: Worker, other: Worker, device: str) -> dict[str, Any]:
    """How much faster and smaller ours was in the same minutes; the spread is over steps."""
    mine, theirs = ([seconds(step, device) for step in w.steps[UNTIMED:]] for w in (ours, other))
    ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
    epoch = [sum(s) / (BATCH * len(s)) + reference_seconds(w, device) for s, w in ((mine, ours), (theirs, other))]
    return {
        "speedup": {"all": sum(theirs) / sum(mine), "min": min(ratios), "max": max(ratios)},
        "speedup_in_one_epoch": epoch[1] / epoch[0],
        "memory_ratio": other.steps[-1]["peak_mb"] / ours.steps[-1]["peak_mb"],
    }


# The report.


HEADER = """| | pairs a second | reference pass | peak MB | penchant is faster by | in one epoch | smaller by |
|---|---|---|---|---|---|---|
"""


def markdown(results: dict[str, Any]) -> str:
    """A table a case; TRL's rows say how they compare with the first of ours in the same round."""
    blocks = []
    for case in results["cases"].values():
        lines = []
        for name, row in case["rows"].items():
            beside = [""] * 3
            if (up := row.get("speedup")) and not VARIANTS[name].ours:
                beside = [
                    f"**{up['all']:.1f}x** ({up['min']:.1f}-{up['max']:.1f})",
                    f"{row['speedup_in_one_epoch']:.1f}x",
                    f"{row['memory_ratio']:.1f}x",
                ]
            passed = f"{row['reference_s']:.2f} s" if row["reference_s"] else ""
            cells = [VARIANTS[name].title, f"{row['pairs_per_second']:.3f}", passed, f"{row['peak_mb']:.0f}", *beside]
            lines.append("| " + " | ".join(cells) + " |\n")
        blocks.append(f"**{case['title']}**\n\n" + HEADER + "".join(lines))
    return "\n".join(blocks)


def setting(folder: str, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Where and on what it was measured."""
    from importlib.metadata import version

    asked = "import importlib.metadata as m; print(*[m.version(n) for n in ('trl', 'torch', 'transformers', 'peft')])"
    theirs = subprocess.run([str(PEER), "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    return {
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "threads": 1, "device": options.device},
        "versions": {name: version(name) for name in ("penchant", "torch", "transformers", "peft", "accelerate")},
        "trl_versions": dict(zip(("trl", "torch", "transformers", "peft"), theirs, strict=True)),
        "pairs": PAIRS,
        "pairs_a_step": BATCH,
        "timed_steps": options.repeats,
        "model": json.loads((Path(folder) / model / "facts.json").read_text()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="measure this case alone (repeatable)")
    parser.add_argument("--skip", action="append", default=[], help="leave out the rounds of this variant (repeatable)")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of every process")
    parser.add_argument("--quick", action="store_true", help="texts of a quarter of the length, one timed step")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if not PEER.exists():
        raise SystemExit("TRL is not installed; `make bench-text` does it.")
    if options.quick:
        options.repeats = 1
    chosen = {name: CASES[name] for name in options.case or CASES}
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted({case.model for case in chosen.values()}):
            make(name, folder, options)
        for name, case in chosen.items():
            found = {**measure(case, folder, options), "setting": setting(folder, case.model, options)}
            print(markdown({"cases": {name: found}}), flush=True)
            if not (options.quick or options.skip or options.device == "cuda"):
                write(name, found)


def write(name: str, found: dict[str, Any]) -> None:
    """A case of `results/text.json` and `.md`, as soon as it is measured; the other cases stay."""
    path = RESULTS / "text.json"
    kept = json.loads(path.read_text())["cases"] if path.exists() else {}
    kept[name] = found
    results = {"cases": {key: kept[key] for key in CASES if key in kept}}
    path.write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "text.md").write_text(markdown(results))


def make(name: str, folder: str, options: argparse.Namespace) -> None:
    """A model and its pairs."""
    job = Job(
        variant=name,
        folder=f"{folder}/{name}",
        objective="none",
        lora=0,
        steps=UNTIMED + options.repeats,
        batch=BATCH,
        lr=0.0,
        device="cpu",
        options={"pairs": PAIRS, "longest": 256 if options.quick else 1024},
    )
    if spawn("text_ours.py", job).wait():
        raise SystemExit("model and pairs could not be made; the reason is above.")


if __name__ == "__main__":
    main()
