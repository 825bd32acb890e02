"""What do SFT, Flow-RWR and Flow-DPO, with a constant beta and with beta (1 - t)^2, make of the same pairs of clips?

The paper's table: a constant beta wins every dimension, text alignment above all; beta (1 - t)^2 moves further in video
and motion quality at the cost of text alignment, which is reward hacking. Here the shipped text-to-video model is
aligned with its own clips, scored by the shipped VideoReward (simulated feedback, as in the paper), by every method
with the same pairs, updates and learning rate, three seeds and three betas. The pairs are those of `zoo:clips/samples`,
drawn anew: the shipped video lost a little, and who imitates clips imitates that too. A held-out judge of another
architecture and model-free measures of motion say what became of clips of captions that no pair contained.

    python reproduce/flow_dpo.py            # resumable: finished runs are kept
    python reproduce/flow_dpo.py --fresh
"""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

# `penchant align` reads this file for its recipes, from a folder where `runs` is not to be found: it is imported late.
ROOT = Path(__file__).resolve().parent
RUNS = ROOT.parent / "runs" / "reproduce-flow-dpo"
SEEDS = (0, 1, 2)
BETAS = ("250", "1000", "4000")
JOBS = 2  # runs at a time, one thread each
PAIRS = RUNS / "pairs"
DIMENSIONS = ("VQ", "MQ", "TA")
HELD_OUT, TRAINED = "clips/judge", "clips/reward"
MOTION = ("dynamic-degree", "smoothness")
SIDES = ("base", "policy")


def flow_dpo() -> Any:
    """Flow-DPO with a constant beta: the `flow-dpo` recipe."""
    from penchant.recipes import find

    recipe = find("flow-dpo")
    # Every dimension of both judges, and what no judge can be talked into.
    evaluation = replace(recipe.evaluation, judges=(f"zoo:{HELD_OUT}", *MOTION), trained_against=(f"zoo:{TRAINED}",))
    return replace(recipe, feedback=replace(recipe.feedback, path=str(PAIRS)), evaluation=evaluation)


def vanishing() -> Any:
    """The same with beta (1 - t)^2, as the derivation has it."""
    recipe = flow_dpo()
    likelihood = replace(recipe.likelihood, weight="one_minus_t_squared")
    return replace(recipe, name="flow-dpo-vanishing", likelihood=likelihood)


def flow_rwr() -> Any:
    """Flow-RWR on the same clips: the objective of the `flow-rwr` recipe."""
    from penchant.recipes import find

    return replace(flow_dpo(), name="flow-rwr", objective=find("flow-rwr").objective)


def sft() -> Any:
    """SFT on the preferred clip of each pair."""
    from penchant.objectives import SFT

    return replace(flow_dpo(), name="sft", objective=SFT())


def as_shipped() -> Any:
    """The `flow-dpo` recipe with nothing changed: the shipped pairs, its own beta and judges."""
    from penchant.recipes import find

    return find("flow-dpo")


FORMS, SHIPPED = ("Flow-DPO", "Flow-DPO (1-t)^2"), "as shipped"
METHODS = {"SFT": sft, "Flow-RWR": flow_rwr, "Flow-DPO": flow_dpo, FORMS[1]: vanishing, SHIPPED: as_shipped}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One method, at one beta where it has any."""

    method: str
    beta: str | None = None

    def folder(self, seed: int) -> Path:
        """Where its run with `seed` lies."""
        return RUNS / "-".join([METHODS[self.method].__name__, *([self.beta] if self.beta else []), str(seed)])

    def train(self, seed: int) -> None:
        """Its run with `seed`."""
        from runs import finish

        beta = ["--objective.beta", self.beta] if self.beta else []
        finish(f"{__file__}:{METHODS[self.method].__name__}", self.folder(seed), "--seed", str(seed), *beta)

    def scores(self, judge: str, side: str) -> np.ndarray:
        """Scores [seeds, P, S] of held-out captions."""
        from runs import scores

        return scores([self.folder(seed) for seed in SEEDS], "held-out", judge, side)

    def movement(self) -> list[dict[str, Any]]:
        """Drift and diversity of each run."""
        return [json.loads((self.folder(seed) / "movement.json").read_text()) for seed in SEEDS]


def arms() -> list[Arm]:
    """SFT and Flow-RWR, and both forms of Flow-DPO at every beta."""
    swept = [Arm(method=m, beta=b) for m, b in product(FORMS, BETAS)]
    return [Arm(method="SFT"), Arm(method="Flow-RWR"), *swept]


def measured(arm: Arm) -> dict[str, Any]:
    """Win rates against the base by dimension, of the held-out judge and of the one trained against; motion; drift."""
    from runs import preferred

    from penchant.evaluate import mean_gain

    def wins(judge: str) -> list[float]:
        return preferred(arm.scores(judge, "policy"), arm.scores(judge, "base"))

    def gains(judge: str) -> list[float]:
        found = mean_gain(arm.scores(judge, "policy"), arm.scores(judge, "base"))
        return [found.before, found.after, found.low, found.high]

    moved = arm.movement()
    # The recipe is trained against the mean of the reward's dimensions.
    trained = ("overall",) if arm.method == SHIPPED else DIMENSIONS
    return {
        "method": arm.method,
        "beta": arm.beta,
        "held_out": {d: wins(f"{HELD_OUT}:{d}") for d in DIMENSIONS},
        "trained_against": {d: wins(f"{TRAINED}:{d}") for d in trained},
        "motion": {name: gains(name) for name in MOTION},
        "drift": float(np.mean([one["drift"]["pixel_mse"] for one in moved])),
        "diversity": [float(np.mean([one["diversity"][side]["value"] for one in moved])) for side in SIDES],
    }


def against(constant: Arm, vanishing: Arm) -> dict[str, Any]:
    """How often the held-out judge prefers the one to the other at the same caption and seed."""
    from runs import preferred

    def wins(judge: str) -> list[float]:
        return preferred(constant.scores(judge, "policy"), vanishing.scores(judge, "policy"))

    return {"beta": constant.beta, "wins": {d: wins(f"{HELD_OUT}:{d}") for d in DIMENSIONS}}


def agreement() -> list[float]:
    """Share of the pairs that the mean of the held-out judge's dimensions orders as the labels do; its interval."""
    from runs import preferred

    from penchant.feedback import read, select
    from penchant.feedback.shown import sample_of
    from penchant.judges import load

    pairs = list(select(read(PAIRS), dimension="overall", ties="drop"))
    prompts = [pair.group.prompt for pair in pairs for _ in pair.scores]
    samples = [sample_of(candidate) for pair in pairs for candidate in pair.group.candidates]
    judged = load(f"zoo:{HELD_OUT}").score(prompts, samples).mean(1).reshape(-1, 2)
    said = np.diff(judged)[:, 0] * np.diff([pair.scores for pair in pairs])[:, 0]
    return preferred(said[:, None], np.zeros_like(said)[:, None])


def _percent(values: list[float]) -> str:
    middle, low, high = (100 * v for v in values)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = []
    for who, title in (("held_out", "held-out judge"), ("trained_against", "reward trained against")):
        lines += [f"| method | beta | {' | '.join(f'{d}: wins, %, {title}' for d in DIMENSIONS)} |", "|---" * 5 + "|"]
        for row in result["arms"]:
            cells = " | ".join(_percent(row[who][d]) for d in DIMENSIONS)
            lines.append(f"| {row['method']} | {row['beta'] or '-'} | {cells} |")
        lines.append("")
    heads = " | ".join(f"{d}: wins, %, held-out judge" for d in DIMENSIONS)
    lines += [f"| constant against (1-t)^2, beta | {heads} |", "|---" * 4 + "|"]
    lines += [
        f"| {row['beta']} | {' | '.join(_percent(row['wins'][d]) for d in DIMENSIONS)} |" for row in result["against"]
    ]
    lines += ["", "| method | beta | dynamic degree | smoothness | drift | diversity |", "|---" * 6 + "|"]
    for row in result["arms"]:
        motion = " | ".join("{:.3g} -> {:.3g} [{:+.2g}, {:+.2g}]".format(*row["motion"][name]) for name in MOTION)
        spread = "{:.3f} -> {:.3f}".format(*row["diversity"])
        lines.append(f"| {row['method']} | {row['beta'] or '-'} | {motion} | {row['drift']:.4f} | {spread} |")
    agreed = f"The held-out judge orders {_percent(result['agreement'])} % of the pairs as the labels do."
    shipped = result["shipped"]
    wins = {f"{d}, held-out judge": v for d, v in shipped["held_out"].items()}
    wins |= {f"{d}, reward": v for d, v in shipped["trained_against"].items()}
    fell = "dynamic degree {:.4f} -> {:.4f} [{:+.4f}, {:+.4f}]".format(*shipped["motion"]["dynamic-degree"])
    told = [f"{name}: {_percent(values)} %" for name, values in wins.items()]
    return "\n".join([*lines, "", agreed, "", f"The recipe as shipped wins {'; '.join([*told, fell])}."])


def draw_pairs() -> None:
    """The pairs, drawn and labelled; kept once they are whole."""
    import torch

    import penchant
    from penchant.judges import load
    from penchant.models.loading import quiet
    from penchant.zoo.clips.feedback import redraw

    if PAIRS.exists():
        return
    quiet()
    torch.set_num_threads(1)
    print("drawing the pairs", flush=True)
    partial = PAIRS.with_name("pairs.partial")
    partial.mkdir(parents=True, exist_ok=True)
    redraw(penchant.load("zoo:clips"), load(f"zoo:{TRAINED}"), partial)
    partial.replace(PAIRS)


def main() -> None:
    """Trains what is missing and records the tables."""
    from runs import record

    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    draw_pairs()
    chosen = arms()
    # One first, alone: it encodes the clips and samples the base for all.
    chosen[0].train(SEEDS[0])
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(lambda job: job[0].train(job[1]), product([*chosen, Arm(method=SHIPPED)], SEEDS)))
    shape = list(chosen[0].scores(f"{HELD_OUT}:VQ", "base").shape)
    result = {
        "seeds": len(SEEDS),
        "shape": shape,
        "agreement": agreement(),
        "arms": [measured(arm) for arm in chosen],
        "against": [against(*(Arm(method=m, beta=b) for m in FORMS)) for b in BETAS],
        "shipped": measured(Arm(method=SHIPPED)),
    }
    record("flow_dpo", result, table(result))


if __name__ == "__main__":
    main()
