"""What becomes of pictures whose model learns from a scorer's rewards on its own samples, by which method?

Every method draws the same number of pictures (30 rounds of 8 captions, 16 samples each) and is told the same rewards,
takes one update for each 8 captions at one learning rate, and starts from the shipped text-to-image model, with three
seeds: DDPO and the fast form of Flow-GRPO along denoising paths; DPO on the best and the worst of a group, and SFT on
the best, on the ordinary bound. "Offline" methods draw all of it at once, from the base. A scorer that gave no reward
says what became of captions that no round asked, beside drift and diversity.

    python reproduce/flow_grpo.py            # resumable: finished runs are kept
    python reproduce/flow_grpo.py --fresh
"""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

# `penchant align` reads this file for its recipes, from a folder where `runs` is not to be found: it is imported late.
ROOT = Path(__file__).resolve().parent
RUNS = ROOT.parent / "runs" / "reproduce-flow-grpo"
SEEDS = (0, 1, 2)
JOBS = 2  # runs at a time, one thread each
HELD_OUT, REWARD = "emoji/judge", "emoji/labeller"
SIDES = ("base", "policy")


def ddpo() -> Any:
    """The `ddpo` recipe."""
    from penchant.recipes import find

    return find("ddpo")


def flow_grpo() -> Any:
    """The `flow-grpo` recipe: noise and training in a window of three steps."""
    from penchant.recipes import find

    return find("flow-grpo")


def _on_the_bound(name: str, objective: Any) -> Any:
    """The same rounds with samples along the ODE, learnt from on the denoising bound."""
    from penchant.likelihoods import Diffusion

    recipe = ddpo()
    feedback = replace(recipe.feedback, steps=16, guidance=1.0)
    train = replace(recipe.train, micro_batch=None)
    return replace(
        recipe,
        name=name,
        likelihood=Diffusion(),
        objective=objective,
        feedback=feedback,
        train=train,
    )


def _at_once(recipe: Any) -> Any:
    """The same recipe with a single round: everything is drawn from the base."""
    count = recipe.train.steps * recipe.train.batch_size
    return replace(recipe, name=f"{recipe.name}-offline", feedback=replace(recipe.feedback, prompts_a_round=count))


def online_dpo() -> Any:
    """Diffusion-DPO on the best and the worst of each group, with the recipe's beta."""
    from penchant.objectives import DPO

    return _on_the_bound("online-dpo", DPO(beta=2000.0, pairing="best_worst"))


def offline_dpo() -> Any:
    """The same on samples of the base."""
    return _at_once(online_dpo())


def offline_sft() -> Any:
    """Imitation of the best of each group, all samples of the base."""
    from penchant.objectives import ExpertIteration

    return _at_once(_on_the_bound("sft", ExpertIteration()))


FAST = "Flow-GRPO, fast"
METHODS = {
    "DDPO": ddpo,
    FAST: flow_grpo,
    "offline DPO": offline_dpo,
    "offline SFT on the best": offline_sft,
    "online DPO": online_dpo,
}


def folder(method: str, seed: int) -> Path:
    """Where a method's run lies."""
    return RUNS / f"{METHODS[method].__name__}-{seed}"


def train(method: str, seed: int) -> None:
    """A method's run with a seed; an interrupted one goes on."""
    from runs import finish

    finish(f"{__file__}:{METHODS[method].__name__}", folder(method, seed), "--seed", str(seed), "--save-every", "5")


def measured(method: str) -> dict[str, Any]:
    """Wins against the base by the held-out judge and the rewarding one; drift, diversity, CPU time."""
    from runs import preferred, scores

    folders = [folder(method, seed) for seed in SEEDS]

    def wins(judge: str, captions: str) -> list[float]:
        return preferred(*(scores(folders, captions, judge, side) for side in ("policy", "base")))

    moved = [json.loads((one / "movement.json").read_text()) for one in folders]
    return {
        "method": method,
        "held_out": wins(HELD_OUT, "held-out"),
        "held_out_seen": wins(HELD_OUT, "seen"),
        "reward": wins(REWARD, "held-out"),
        "drift": float(np.mean([one["drift"]["feature_cosine"] for one in moved])),
        "diversity": [float(np.mean([one["diversity"][side]["value"] for one in moved])) for side in SIDES],
        "cpu_seconds": [float(json.loads((one / "outcome.json").read_text())["cpu_seconds"]) for one in folders],
    }


def against(first: str, second: str) -> list[float]:
    """How often the held-out judge prefers the one to the other on held-out captions, at equal captions and seeds."""
    from runs import preferred, scores

    sides = [scores([folder(m, seed) for seed in SEEDS], "held-out", HELD_OUT, "policy") for m in (first, second)]
    return preferred(*sides)


def _percent(values: list[float]) -> str:
    middle, low, high = (100 * v for v in values)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "| method | wins, %, held-out judge, held-out captions | the same, trained captions | wins, %, rewarding judge "
        "| drift | diversity | CPU-minutes |",
        "|---" * 7 + "|",
    ]
    for row in result["methods"]:
        spread = "{:.3f} -> {:.3f}".format(*row["diversity"])
        cost = f"{np.mean(row['cpu_seconds']) / 60:.1f}"
        wins = " | ".join(_percent(row[name]) for name in ("held_out", "held_out_seen", "reward"))
        lines.append(f"| {row['method']} | {wins} | {row['drift']:.4f} | {spread} | {cost} |")
    lines += ["", "| held-out judge, held-out captions | preferred, % |", "|---|---|"]
    lines += [f"| {pair} | {_percent(values)} |" for pair, values in result["against"].items()]
    return "\n".join(lines)


def main() -> None:
    """Trains what is missing and records the tables."""
    from runs import record

    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    RUNS.mkdir(parents=True, exist_ok=True)
    work = [(method, seed) for method in METHODS for seed in SEEDS]
    with ThreadPoolExecutor(JOBS) as pool:
        for done in [pool.submit(train, *one) for one in work]:
            done.result()
    others = [name for name in METHODS if name != FAST]
    result = {
        "methods": [measured(method) for method in METHODS],
        "against": {f"{FAST} over {name}": against(FAST, name) for name in others},
    }
    record("flow_grpo", result, table(result))


if __name__ == "__main__":
    main()
