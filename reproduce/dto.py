"""Does DTO make the thinker think less and answer better?

(a) Construction: the thinker draws eight traces of every training problem, each is cut at its earliest sufficient
point, pruned and ended. Exit probability along the traces, the attention FLOPs that the cut saves on right ones, the
share of wrong ones that become right; beside each the same traces cut at random.

(b) Training: SimPO on DTO's pairs against a forced exit after the first pattern, SFT on the shortest right trace, SimPO
on shortest against longest right and on right against wrong traces; DTO without pruning, with random cuts, and SFT on
what DTO prefers. All of them start from the thinker, draw from the same traces and train for the same steps, with three
seeds. Each method has the learning rate that was the most accurate on validation problems, which are not the test
problems. Then problems that no model saw: of the feedback's lengths, of a longer one that the thinker knows, and of one
that it does not.

    python reproduce/dto.py            # resumable: what is finished is kept
    python reproduce/dto.py --fresh
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from dto_bench import RUNS, THINKER, evaluated, forced
from dto_construction import construction

SEEDS = (0, 1, 2)
RATES = (2e-5, 5e-5, 1e-4, 2e-4)
TESTS = {
    "held-out": "3 to 6 terms, as trained on",
    "longer": "7 terms, in no feedback; the thinker knows them",
    "longest": "8 terms, which the thinker was never trained on either",
}
BASE, FORCED, DTO = "base", "forced exit", "DTO"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A method: its feedback, and whether its objective is SFT and not the recipe's SimPO."""

    feedback: str
    sft: bool = False

    @property
    def name(self) -> str:
        """Of its runs."""
        return f"sft-{self.feedback}" if self.sft else self.feedback


ARMS = {
    "SFT on the shortest right": Arm(feedback="shortest-right", sft=True),
    "SimPO, shortest vs longest right": Arm(feedback="shortest-longest"),
    "SimPO, right vs wrong": Arm(feedback="right-wrong"),
    DTO: Arm(feedback="dto"),
    "DTO without pruning": Arm(feedback="no-prune"),
    "DTO with random cuts": Arm(feedback="random-cut"),
    "SFT on DTO's chosen": Arm(feedback="dto", sft=True),
}


# --- (b) training -----------------------------------------------------------------------------------------------------


def recipe(method: str, rate: float, seed: int) -> Any:
    """A method's run: the `dto` recipe on the method's feedback."""
    from penchant.objectives import SFT
    from penchant.recipe import Preferences
    from penchant.recipes import dto

    run, arm = dto.embedded(), ARMS[method]
    return replace(
        run,
        name=arm.name,
        policy=replace(run.policy, path=THINKER),
        objective=SFT(reduce="mean") if arm.sft else run.objective,
        feedback=Preferences(path=str(RUNS / "feedback" / arm.feedback)),
        evaluation=None,
        train=replace(run.train, lr=rate, log_every=10, save_every=40),
        seed=seed,
        out=str(RUNS / f"{arm.name}-{rate:g}-{seed}"),
        cache=str(RUNS / "cache"),
    )


def trained(method: str, rate: float, seed: int) -> str:
    """The model of a method's run, trained if it is not there."""
    from penchant.run import align

    run = recipe(method, rate, seed)
    folder = Path(run.out)
    if not (folder / "outcome.json").exists():
        align(run, resume=(folder / "checkpoints").exists(), say=lambda line: None)
    return str(folder / "model")


def sweep() -> dict[str, dict[str, list[float]]]:
    """Method -> rate -> (accuracy, tokens) on validation problems with the first seed."""
    out: dict[str, dict[str, list[float]]] = {}
    for method in ARMS:
        for rate in RATES:
            found = evaluated("validation", trained(method, rate, SEEDS[0]))
            line = [float(np.mean(found["right"])), float(np.mean(found["tokens"]))]
            out.setdefault(method, {})[f"{rate:g}"] = line
    return out


def best(rates: dict[str, list[float]]) -> float:
    """The rate that was the most accurate; of equals the one with fewer tokens."""
    return float(max(rates, key=lambda rate: (rates[rate][0], -rates[rate][1])))


def row(method: str, kind: str, runs: Sequence[dict[str, Any]], base: dict[str, Any]) -> dict[str, Any]:
    """A method beside the base on problems of a kind: means, and paired differences with intervals."""
    from penchant.evaluate.winrate import mean_gain, resampled_means

    value = {name: np.array([run[name] for run in runs]) for name in ("right", "tokens", "flops")}
    gain = {name: mean_gain(value[name], np.array(base[name])) for name in value}
    means = [resampled_means(value[name].mean(-1), seed=0) for name in ("right", "tokens")]
    share = resampled_means(value["flops"].mean(-1), seed=0) / resampled_means(
        np.array([base["flops"]]).mean(-1), seed=0
    )
    return {
        "method": method,
        "problems": kind,
        "shape": list(value["right"].shape),
        "accuracy": float(value["right"].mean()),
        "by_seed": value["right"].mean((-1, -2)).tolist(),
        "accuracy_gain": [gain["right"].gain, gain["right"].low, gain["right"].high],
        "tokens": float(value["tokens"].mean()),
        "tokens_gain": [gain["tokens"].gain, gain["tokens"].low, gain["tokens"].high],
        "flops_share": [float(value["flops"].mean() / np.mean(base["flops"])), *_ends(share)],
        "per_1000_tokens": [
            float(1000 * value["right"].mean() / value["tokens"].mean()),
            *_ends(1000 * means[0] / means[1]),
        ],
    }


def _ends(drawn: np.ndarray) -> list[float]:
    return [float(v) for v in np.quantile(drawn, [0.025, 0.975])]


def tests(rates: dict[str, dict[str, list[float]]], then: Callable[[list[dict[str, Any]]], None]) -> None:
    """Part (b) on the test problems; `then` gets the rows after every method."""
    base = {kind: evaluated(kind, THINKER) for kind in TESTS}
    rows = [row(BASE, kind, [base[kind]], base[kind]) for kind in TESTS]
    rows += [row(FORCED, kind, [forced(kind)], base[kind]) for kind in TESTS]
    for method in ARMS:
        models = [trained(method, best(rates[method]), seed) for seed in SEEDS]
        rows += [row(method, kind, [evaluated(kind, model) for model in models], base[kind]) for kind in TESTS]
        then(rows)


# --- what is told -----------------------------------------------------------------------------------------------------


def _percent(values: Sequence[float], *, plus: bool = False) -> str:
    middle, low, high = (100 * v for v in values)
    return f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]" if plus else f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def _told(made: dict[str, Any]) -> list[str]:
    lines = [
        f"{made['traces']} traces of {made['problems']} problems, {100 * made['right']:.1f} % right, "
        f"{made['patterns']:.2f} patterns and {made['tokens']:.0f} tokens each. Exits: {made['exits']}.",
        "",
        "| made by | right traces: shortened, % | their tokens, % of before | their attention FLOPs, % of before "
        "| wrong traces: become right, % | pairs |",
        "|---|---|---|---|---|---|",
    ]
    for name, right in made["right traces"].items():
        wrong, pairs = made["wrong traces"][name], made["feedback"][ARMS[name].feedback]
        cells = [_percent(right["changed"]), _percent(right["tokens"]), _percent(right["flops"])]
        lines.append(f"| {name} | {' | '.join(cells)} | {_percent(wrong['changed'])} | {pairs} |")
    return lines


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = _told(result["construction"])
    for kind in TESTS:
        found = [r for r in result["rows"] if r["problems"] == kind]
        _, count, samples = found[0]["shape"] if found else (0, 0, 0)
        lines += [
            "",
            f"{kind} problems ({TESTS[kind]}), {count} x {samples} traces, {len(SEEDS)} training seeds",
            "",
            "| method | accuracy, % | against the base, points [95 %] | by seed, % | tokens | against the base [95 %] "
            "| attention FLOPs, % of the base's | accuracy per 1,000 tokens |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for r in found:
            seeds = ", ".join(f"{100 * v:.1f}" for v in r["by_seed"])
            fewer = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*r["tokens_gain"])
            more = "{:.2f} [{:.2f}, {:.2f}]".format(*r["per_1000_tokens"])
            gain = _percent(r["accuracy_gain"], plus=True)
            cells = f"{100 * r['accuracy']:.1f} | {gain} | {seeds} | {r['tokens']:.1f} | {fewer}"
            lines.append(f"| {r['method']} | {cells} | {_percent(r['flops_share'])} | {more} |")
    lines += ["", "Validation: accuracy, % (tokens) by learning rate, one seed", ""]
    lines += ["| method | " + " | ".join(f"{rate:g}" for rate in RATES) + " |", "|---|" + "---|" * len(RATES)]
    for method, rates in result["sweep"].items():
        cells = " | ".join(f"{100 * a:.1f} ({n:.0f})" for a, n in rates.values())
        lines.append(f"| {method} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Makes the feedback, trains what is missing and records the tables; `so-far.json` in the runs grows meanwhile."""
    from runs import record

    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    RUNS.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"construction": construction(), "sweep": sweep(), "rows": []}

    def tell(rows: list[dict[str, Any]]) -> None:
        result["rows"] = rows
        (RUNS / "so-far.json").write_text(json.dumps(result, indent=1))

    tests(result["sweep"], tell)
    record("dto", result, table(result))


if __name__ == "__main__":
    main()
