"""What does the thinker learn from its own answers and a verifier, and how does that compare with DTO?

Every method draws the same number of samples (60 rounds of 16 problems, 8 samples each), is told right or wrong by the
same rule, takes one update a round at one learning rate, and starts from the shipped thinker, with three seeds. Then
problems that no model saw: of the trained lengths, of a longer one that the thinker knows, and of one that it does not,
with the seeds and problems of `reproduce/dto.py`, whose recorded rows stand beside them. RLOO is not among the methods:
its advantages are Dr. GRPO's times K / (K - 1).

    python reproduce/grpo.py            # resumable: what is finished is kept
    python reproduce/grpo.py --fresh
"""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
RUNS = ROOT.parent / "runs" / "reproduce-grpo"
SEEDS = (0, 1, 2)
JOBS = 2  # runs at a time, one thread each
BASE = "base"
FROM_DTO = ("SFT on the shortest right", "SimPO, right vs wrong", "DTO")


def grpo() -> Any:
    """The `grpo` recipe, without its report."""
    from penchant.recipes import find

    return replace(find("grpo"), evaluation=None)


def dr_grpo() -> Any:
    """Neither lengths nor deviations divide."""
    from penchant.objectives import DrGRPO

    recipe = grpo()
    return replace(recipe, name="dr-grpo", objective=DrGRPO(length=recipe.feedback.decoding.max_tokens))


def reinforce() -> Any:
    """MusicRL's objective: a value network and an exact KL term, no group."""
    from penchant.objectives import REINFORCE

    return replace(grpo(), name="reinforce", objective=REINFORCE())


def expert_iteration() -> Any:
    """Imitation of what was right."""
    from penchant.objectives import ExpertIteration

    return replace(grpo(), name="expert-iteration", objective=ExpertIteration(threshold=0.5))


def online_dpo() -> Any:
    """Right against wrong of the same round."""
    from penchant.objectives import DPO

    return replace(grpo(), name="online-dpo", objective=DPO(beta=0.1))


METHODS = {
    "GRPO": grpo,
    "Dr. GRPO": dr_grpo,
    "REINFORCE, value baseline": reinforce,
    "expert iteration": expert_iteration,
    "online DPO": online_dpo,
}


def folder(method: str, seed: int) -> Path:
    """Where a method's run lies."""
    return RUNS / f"{METHODS[method].__name__}-{seed}"


def train(method: str, seed: int) -> None:
    """A method's run and its answers to the tests; an interrupted one goes on."""
    from dto import TESTS
    from dto_bench import evaluated
    from runs import finish

    finish(f"{__file__}:{METHODS[method].__name__}", folder(method, seed), "--seed", str(seed), "--save-every", "20")
    for kind in TESTS:
        evaluated(kind, str(folder(method, seed) / "model"))


def rows() -> list[dict[str, Any]]:
    """Every method beside the base on every kind of problems; DTO's from its own record."""
    from dto import TESTS, row
    from dto_bench import THINKER, evaluated

    base = {kind: evaluated(kind, THINKER) for kind in TESTS}
    found = [row(BASE, kind, [base[kind]], base[kind]) for kind in TESTS]
    for method in METHODS:
        models = [str(folder(method, seed) / "model") for seed in SEEDS]
        found += [row(method, kind, [evaluated(kind, model) for model in models], base[kind]) for kind in TESTS]
    recorded = json.loads((ROOT / "results" / "dto.json").read_text())["rows"]
    return found + [r for r in recorded if r["method"] in FROM_DTO]


def course(method: str) -> dict[str, list[float]]:
    """Reward, tokens and surprise of the rollouts in the first and the last ten rounds, mean of the seeds."""
    import numpy as np

    names = ("rewards/mean", "rollouts/steps", "rollouts/surprise")
    lines = [
        [json.loads(line) for line in (folder(method, seed) / "metrics.jsonl").read_text().splitlines()]
        for seed in SEEDS
    ]
    value = {name: np.array([[line[name] for line in run] for run in lines]) for name in names}
    return {name: [float(v[:, :10].mean()), float(v[:, -10:].mean())] for name, v in value.items()}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    from dto import TESTS

    lines: list[str] = []
    for kind in TESTS:
        found = [r for r in result["rows"] if r["problems"] == kind]
        _, count, samples = found[0]["shape"]
        lines += [
            f"{kind} problems ({TESTS[kind]}), {count} x {samples} traces, {len(SEEDS)} training seeds",
            "",
            "| method | accuracy, % | against the base, points [95 %] | by seed, % | tokens | against it [95 %] |",
            "|---|---|---|---|---|---|",
        ]
        for r in found:
            gain = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * v for v in r["accuracy_gain"]))
            fewer = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*r["tokens_gain"])
            seeds = ", ".join(f"{100 * v:.1f}" for v in r["by_seed"])
            name = f"{r['method']} (reproduce/dto.py)" if r["method"] in FROM_DTO else r["method"]
            lines.append(f"| {name} | {100 * r['accuracy']:.1f} | {gain} | {seeds} | {r['tokens']:.1f} | {fewer} |")
        lines.append("")
    lines += [
        "Rollouts of the training problems, first ten rounds and last ten",
        "",
        "| method | right, % | tokens | surprise, nats a token |",
        "|---|---|---|---|",
    ]
    for method, found in result["course"].items():
        right, tokens, surprise = found["rewards/mean"], found["rollouts/steps"], found["rollouts/surprise"]
        cells = f"{100 * right[0]:.1f} to {100 * right[1]:.1f} | {tokens[0]:.0f} to {tokens[1]:.0f}"
        lines.append(f"| {method} | {cells} | {surprise[0]:.3f} to {surprise[1]:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Trains what is missing and records the table."""
    from runs import record

    # Loaded before there are threads: transformers brings its classes when they are asked for, to one thread at a time.
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    RUNS.mkdir(parents=True, exist_ok=True)
    work = [(method, seed) for seed in SEEDS for method in METHODS]
    with ThreadPoolExecutor(JOBS) as pool:
        for done in [pool.submit(train, *one) for one in work]:
            done.result()
    result = {"rows": rows(), "course": {method: course(method) for method in METHODS}}
    record("grpo", result, table(result))


if __name__ == "__main__":
    main()
