"""What a training step costs: penchant's loop beside a plain step that does everything from the JPEG on.

    python benchmarks/step_cost.py                 # all cases, results to benchmarks/results; about 5 CPU minutes
    python benchmarks/step_cost.py --case lora     # one case, nothing written
    python benchmarks/step_cost.py --quick         # small pictures, one repetition, nothing written

Both sides train the same saved model on the same pairs in the same batches. Each side is a process of its own, so that
its peak memory is its own; the processes take their steps in turn, so that a busy machine is busy for all of them. What
is measured is CPU time, user and system, of one thread. Before anything is timed, the first two steps are taken on the
same draws by both sides and must give the same losses: the second step also sees the first one's gradient and update.
Then the learning rate is zero: the work is the same, and no pair is learnt so well that its gradients become subnormal
numbers, on which a CPU is many times slower.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
BATCH, PAIRS = 2, 4
EPOCH = PAIRS // BATCH  # steps; the first epoch is the check, and fills the reference cache
EPOCHS = (1, 4)  # over how many the encoding is spread in the table
TOLERANCE = 1e-3  # float32 errors times a beta of 5000; the first update moves the losses by 0.07


@dataclass(frozen=True, kw_only=True)
class Case:
    """One script: its model, what trains, its loss."""

    title: str
    model: str
    loss: str
    lr: float
    lora: int = 0

    @property
    def ours(self) -> tuple[str, ...]:
        """Ways in which penchant takes this step."""
        return ("live", "cached") if self.loss == "dpo" else ("live",)


CASES = {
    "lora": Case(title="SD1.5 LoRA DPO", model="sd15", loss="dpo", lr=1e-3, lora=8),
    "full": Case(title="SD1.5 full DPO", model="sd15", loss="dpo", lr=1e-5),
    "mapo": Case(title="SDXL full MaPO", model="sdxl", loss="mapo", lr=1e-5),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one worker process is to be."""

    case: str
    variant: str
    folder: str
    resolution: int

    @property
    def pairs(self) -> Path:
        """The feedback file."""
        return Path(self.folder) / "pairs.parquet"

    @property
    def model(self) -> Path:
        """The saved pipeline."""
        return Path(self.folder) / CASES[self.case].model

    def draws(self, step: int) -> Path:
        """What the live side drew for a step of the check."""
        return Path(self.folder) / f"{self.case}-{step}.safetensors"


# The two sides. A taker of steps maps the step's number to (loss, CPU seconds of the parts it can tell apart).
Taker = Callable[[int], tuple[float, dict[str, float]]]


def plain(job: Job) -> Taker:
    """The plain step; the first epoch on the draws and pairs of the live side."""
    from safetensors import safe_open

    from plain_step import Chance, PlainStep

    case = CASES[job.case]
    step_of = PlainStep(job.model, job.pairs, loss=case.loss, lora=case.lora, lr=case.lr, resolution=job.resolution)
    captions = [row["caption"] for row in step_of.rows]

    def take(step: int) -> tuple[float, dict[str, float]]:
        for group in step_of.optimiser.param_groups:
            group["lr"] = case.lr * max(0, 1 - step / EPOCH)
        if step >= EPOCH:
            first = step % EPOCH * BATCH
            return step_of(captions[first : first + BATCH]), step_of.laps
        with safe_open(job.draws(step), "pt") as file:
            chance = Chance(**{name: file.get_tensor(name) for name in ("posterior", "noise", "time")})
            names = json.loads(file.metadata()["captions"])
        return step_of(names, chance), step_of.laps

    return take


def recipe_of(job: Job) -> Any:
    """The run that the library is given."""
    import penchant as pc
    from penchant.recipe import Preferences, Training
    from penchant.references import Reference

    case, cached = CASES[job.case], job.variant == "cached"
    return pc.Recipe(
        name="step-cost",
        policy=pc.Policy(path=str(job.model), lora=case.lora, resolution=job.resolution),
        likelihood=pc.Diffusion(bank=1 if cached else None),
        objective=pc.DPO(beta=5000.0) if case.loss == "dpo" else pc.MaPO.code(),
        feedback=Preferences(path=str(job.pairs)),
        reference=Reference(cache=f"{job.folder}/{job.case}-reference.sqlite" if cached else None),
        train=Training(steps=EPOCH, schedule="linear", batch_size=BATCH, lr=case.lr),
    )


def ours(job: Job) -> tuple[Taker, float]:
    """The library's loop, and the CPU seconds of its encoding pass."""
    from accelerate import Accelerator

    import penchant as pc
    from penchant.feedback import read, select
    from penchant.feedback.media import decode_image
    from penchant.run import FixedFeedback
    from penchant.train.encoding import Encoder
    from penchant.train.loop import Loop
    from penchant.train.scoring import Scorer

    recipe, folder = recipe_of(job), Path(job.folder) / f"{job.case}-{job.variant}"
    groups = select(read(job.pairs)).groups
    model = pc.load(recipe.policy)
    reference = recipe.reference.build(model) if recipe.objective.needs.reference else None
    encoder = Encoder(model, folder / "encodings.sqlite", seed=recipe.seed, flip=False)
    warm = groups[0].group.candidates[0].media.bytes()
    model.encode_images([decode_image(warm)[0]], ids=["warm"])
    start = cpu_seconds()
    encoder.prepare(groups)
    encoding = cpu_seconds() - start
    accelerator = Accelerator()
    scorer = Scorer(recipe=recipe, model=model, reference=reference, accelerator=accelerator)
    loop = Loop(recipe, model, scorer, FixedFeedback(groups=groups, encoder=encoder), folder, accelerator)
    loop.scorer.train_mode()
    laps = time_optimiser(loop.optimiser.optimizer)

    def take(step: int) -> tuple[float, dict[str, float]]:
        if step < EPOCH and job.variant == "live":
            reveal(job, recipe, groups, encoder, step)
        loss = loop.take_step()["loss"]
        assert job.variant != "cached" or reference.misses == 2 * min(BATCH * (step + 1), PAIRS)
        return loss, dict(laps)

    return take, encoding


def time_optimiser(optimiser: Any) -> dict[str, float]:
    """A dict that holds the CPU seconds of the optimiser's last step."""
    laps = {"optimiser": 0.0}

    def before(*_: Any) -> None:
        laps["start"] = cpu_seconds()

    def after(*_: Any) -> None:
        laps["optimiser"] = cpu_seconds() - laps.pop("start")

    optimiser.register_step_pre_hook(before)
    optimiser.register_step_post_hook(after)
    return laps


def reveal(job: Job, recipe: Any, groups: Any, encoder: Any, step: int) -> None:
    """Writes what the loop is about to draw, winners first."""
    import torch
    from safetensors.torch import save_file

    from penchant.models.latents import posterior_noise
    from penchant.train.order import visits

    turns = visits(seed=recipe.seed, step=step, batch_size=BATCH, count=len(groups))
    chosen = [groups[turn.index] for turn in turns]
    draw = recipe.likelihood.draw(encoder.batch(chosen), seed=recipe.seed, epoch=turns[0].epoch)
    best = [sorted(zip(g.scores, g.group.candidates, strict=True), key=lambda one: -one[0]) for g in chosen]
    side = job.resolution // 8
    ids = [pair[place][1].id for place in (0, 1) for pair in best]
    posterior = torch.cat([posterior_noise((1, 4, side, side), seed=recipe.seed, name=name) for name in ids])
    tensors = {"posterior": posterior, "noise": draw.noise_BKT[:, 0, 0], "time": draw.time_BKT[:, 0, 0]}
    captions = json.dumps([g.group.prompt for g in chosen])
    save_file({k: v.contiguous() for k, v in tensors.items()}, job.draws(step), metadata={"captions": captions})


# The worker: one side in one process, which takes a step a line and answers in JSON.


def cpu_seconds() -> float:
    """User and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def work(job: Job) -> None:
    """Answers every line of standard input with the next step's figures; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    take, encoding = (plain(job), 0.0) if job.variant == "plain" else ours(job)
    print(json.dumps({"encoding": encoding}), file=answers, flush=True)
    for step, _ in enumerate(sys.stdin):
        start = cpu_seconds()
        loss, laps = take(step)
        spent = cpu_seconds() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"cpu": spent, "loss": loss, "laps": laps, "peak_mb": peak}), file=answers, flush=True)


def prepare(job: Job) -> None:
    """Makes models and pairs, in a process of its own too."""
    from materials import write_model, write_pairs

    write_pairs(job.pairs, count=PAIRS)
    for name in job.variant.split(","):
        write_model(name, Path(job.folder) / name, resolution=job.resolution)


class Worker:
    """The near end of a worker process."""

    def __init__(self, job: Job) -> None:
        self.steps: list[dict[str, Any]] = []
        self.variant = job.variant
        self.process = spawn("work", job)
        self.encoding = self._answer()["encoding"]

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
            raise SystemExit("a worker ended early; its last words are above.")
        return json.loads(line)


def spawn(role: str, job: Job) -> subprocess.Popen[str]:
    """A process of this script in another role. This one stays small: a child's peak memory starts at its parent's."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__, "--role", role, "--job", json.dumps(asdict(job))]
    environment = {**os.environ, **threads, "HF_HUB_OFFLINE": "1", "DIFFUSERS_VERBOSITY": "error"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


# The measurement.


def measure(name: str, folder: str, resolution: int, repeats: int) -> dict[str, Any]:
    """All variants of a case, a step each in turn."""
    variants = (*CASES[name].ours, "plain")  # the live side first: it draws for the check
    workers = {v: Worker(Job(case=name, variant=v, folder=folder, resolution=resolution)) for v in variants}
    for step in range(EPOCH + repeats):
        for worker in workers.values():
            worker.step()
        if step < EPOCH:
            check(name, step, {v: w.steps[-1]["loss"] for v, w in workers.items()})
    for worker in workers.values():
        worker.close()
    losses = [{v: w.steps[step]["loss"] for v, w in workers.items()} for step in range(EPOCH)]
    theirs = workers.pop("plain").steps[EPOCH:]
    beside = figures(theirs)
    return {
        "title": CASES[name].title,
        "losses_of_the_check": losses,
        "plain": {**beside, "shares": shares(theirs)},
        **{v: ours_beside(beside, w) for v, w in workers.items()},
    }


def check(name: str, step: int, losses: dict[str, float]) -> None:
    """The same draw must give the same loss on every side."""
    print(f"{name}: losses of step {step}: {losses}", file=sys.stderr)
    for variant, loss in losses.items():
        if not abs(loss - losses["plain"]) <= TOLERANCE:
            raise SystemExit(f"{name}: {variant} does other work than the plain step: {losses}")


def figures(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """CPU seconds of a step and of its optimiser, peak memory. The least of all repetitions: others only add."""
    return {
        "cpu_s": min(s["cpu"] for s in steps),
        "optimiser_cpu_s": min(s["laps"]["optimiser"] for s in steps),
        "peak_mb": steps[-1]["peak_mb"],
        "repetitions": [s["cpu"] for s in steps],
    }


def shares(steps: list[dict[str, Any]]) -> dict[str, float]:
    """Part of the plain step's CPU time that each of its stages takes."""
    total = sum(s["cpu"] for s in steps)
    return {lap: sum(s["laps"][lap] for s in steps) / total for lap in steps[0]["laps"]}


def ours_beside(plain: dict[str, Any], worker: Worker) -> dict[str, Any]:
    """Our figures and the speed-ups over the plain steps; their spread is over the rounds."""
    found, encoding = figures(worker.steps[EPOCH:]), worker.encoding / EPOCH
    ratios = [t / o for t, o in zip(plain["repetitions"], found["repetitions"], strict=True)]
    # The first epoch fills the reference cache; with a live reference all epochs are alike.
    filling = worker.steps[EPOCH - 1]["cpu"] if worker.variant == "cached" else found["cpu_s"]
    spread = {n: (encoding + filling + (n - 1) * found["cpu_s"]) / n for n in EPOCHS}
    return {
        **found,
        "encoding_cpu_s": encoding,
        "first_epoch_cpu_s": filling,
        "speedup": {"best": plain["cpu_s"] / found["cpu_s"], "min": min(ratios), "max": max(ratios)},
        "speedup_without_optimiser": without_optimiser(plain) / without_optimiser(found),
        "with_encoding": {str(n): {"cpu_s": cpu, "speedup": plain["cpu_s"] / cpu} for n, cpu in spread.items()},
    }


def without_optimiser(found: dict[str, Any]) -> float:
    """CPU seconds of forward and backward: what is left when a step accumulates many batches."""
    return found["cpu_s"] - found["optimiser_cpu_s"]


# The report.

HEADER = """| case | step | CPU s | speed-up (min-max) | possible | without AdamW | 1 epoch | 4 epochs | peak MB |
|---|---|---|---|---|---|---|---|---|
"""
LABELS = {"live": "penchant, live reference", "cached": "penchant, reference cached"}


def possible(shares: dict[str, float], variant: str) -> float:
    """The speed-up if what the variant leaves out cost nothing and the rest what it costs the plain step."""
    left_out = ("data", "vae", "text", *(("reference",) if variant == "cached" else ()))
    return 1 / (1 - sum(shares[name] for name in left_out))


def markdown(results: dict[str, Any]) -> str:
    """The table."""
    lines = []
    for found in results["cases"].values():
        theirs = found["plain"]
        lines.append(
            f"| {found['title']} | plain | {theirs['cpu_s']:.2f} | 1 | | 1 | 1 | 1 | {theirs['peak_mb']:.0f} |"
        )
        for variant in (v for v in LABELS if v in found):
            one, label = found[variant], LABELS[variant] if "cached" in found else "penchant"
            up = one["speedup"]
            spread = " | ".join(f"{one['with_encoding'][str(n)]['speedup']:.2f}x" for n in EPOCHS)
            lines.append(
                f"| | {label} | {one['cpu_s']:.2f} | **{up['best']:.2f}x** ({up['min']:.2f}-{up['max']:.2f}) "
                f"| {possible(theirs['shares'], variant):.2f}x "
                f"| {one['speedup_without_optimiser']:.2f}x | {spread} | {one['peak_mb']:.0f} |"
            )
    return HEADER + "\n".join(lines) + "\n"


def setting(folder: str, models: list[str], resolution: int, repeats: int) -> dict[str, Any]:
    """Where and on what it was measured."""
    from importlib.metadata import version

    packages = ("penchant", "torch", "diffusers", "transformers", "peft", "accelerate")
    return {
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "threads": 1},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "resolution": resolution,
        "pairs_a_step": BATCH,
        "repetitions": repeats,
        "models": {name: json.loads((Path(folder) / name / "facts.json").read_text()) for name in models},
    }


def write(results: dict[str, Any]) -> None:
    """`results/step_cost.json` and `.md`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "step_cost.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "step_cost.md").write_text(markdown(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, help="measure this case alone")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of every variant")
    parser.add_argument("--quick", action="store_true", help="128 pixels in place of 256, one timed step")
    parser.add_argument("--role", choices=("work", "prepare"), help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        {"work": work, "prepare": prepare}[options.role](Job(**options.job))
        return
    names = [options.case] if options.case else list(CASES)
    resolution, repeats = (128, 1) if options.quick else (256, options.repeats)
    models = sorted({CASES[name].model for name in names})
    with tempfile.TemporaryDirectory() as folder:
        make = spawn("prepare", Job(case=names[0], variant=",".join(models), folder=folder, resolution=resolution))
        if make.wait():
            raise SystemExit("models and pairs could not be made; the reason is above.")
        cases = {name: measure(name, folder, resolution, repeats) for name in names}
        results = {**setting(folder, models, resolution, repeats), "cases": cases}
    print(markdown(results))
    if options.case is None and not options.quick:
        write(results)


if __name__ == "__main__":
    main()
