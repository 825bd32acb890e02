"""MusicRL's R, U and RU on the shipped tune model: do they beat the base, and RU both of them?

R learns from adherence and quality, U from a preference model of simulated listeners, RU from preference with R as its
start and its KL reference; beside them adherence alone and quality alone, the paper's ablations, and DPO on the votes
themselves. Three seeds each, captions that no run was asked, eight samples a caption. Who wins is said by a judge that
no policy was trained against (other data, another layer) and by rules that are no model. The paper: R and U beat the
base, RU beats both; quality alone loses preference in the end, preference alone loses adherence.

Then the preference model: how often it is right about held-out votes, beside how often two listeners agree and the
ceiling, and the paper's four ablations (no caption, a third of the tune, picking by adherence, picking by quality).

    python reproduce/musicrl.py            # resumable: finished runs are kept
    python reproduce/musicrl.py --fresh
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

# `penchant align` reads this file for its recipes, from a folder where `runs` is not to be found: it is imported late.
ROOT = Path(__file__).resolve().parent
RUNS = ROOT.parent / "runs" / "reproduce-musicrl"
SEEDS = (0, 1, 2)
JOBS = 2  # runs at a time, one thread each
JUDGE, RULES = "tunes/judge", "tune-rules"
REWARDS = ("zoo:tunes/adherence", "zoo:tunes/quality", "zoo:tunes/preference")
DIMENSIONS = ("adherence", "quality", "preference")
BASE, CHAIN = "base", ("R", "U", "RU")


def _judged(name: str) -> Any:
    """A recipe whose report has every reward in it, whatever it was trained against."""
    from penchant.recipes import find

    recipe = find(name)
    others = tuple(judge for judge in REWARDS if judge not in recipe.evaluation.trained_against)
    evaluation = replace(recipe.evaluation, judges=(*recipe.evaluation.judges, f"zoo:{JUDGE}", *others))
    return replace(recipe, evaluation=evaluation)


def r() -> Any:
    """The `musicrl-r` recipe."""
    return _judged("musicrl-r")


def u() -> Any:
    """The `musicrl-u` recipe."""
    return _judged("musicrl-u")


def ru() -> Any:
    """The `musicrl-ru` recipe."""
    return _judged("musicrl-ru")


def adherence() -> Any:
    """R on adherence alone."""
    recipe = r()
    feedback = replace(recipe.feedback, rewards=recipe.feedback.rewards[:1])
    return replace(recipe, name="musicrl-adherence", feedback=feedback)


def quality() -> Any:
    """R on quality alone."""
    recipe = r()
    feedback = replace(recipe.feedback, rewards=recipe.feedback.rewards[1:])
    return replace(recipe, name="musicrl-quality", feedback=feedback)


def dpo() -> Any:
    """The `music-dpo` recipe: the votes themselves."""
    return _judged("music-dpo")


METHODS = {"R": r, "U": u, "RU": ru, "adherence only": adherence, "quality only": quality, "DPO on votes": dpo}


def folder(method: str, seed: int) -> Path:
    """Where a method's run lies."""
    return RUNS / f"{METHODS[method].__name__}-{seed}"


def train(method: str, seed: int) -> None:
    """A method's run with a seed; RU starts where the same seed's R ended."""
    from runs import finish

    start = ["--policy.path", str(folder("R", seed) / "model")] if method == "RU" else []
    finish(f"{__file__}:{METHODS[method].__name__}", folder(method, seed), "--seed", str(seed), *start)


def scores(method: str, judge: str, side: str = "policy") -> np.ndarray:
    """Scores [seeds, P, S] on held-out captions; the base's are those beside R, for RU's base is R."""
    from runs import scores as of

    where = "R" if method == BASE else method
    return of([folder(where, seed) for seed in SEEDS], "held-out", judge, "base" if method == BASE else side)


def columns() -> list[str]:
    """Every judge and dimension of the runs' scores."""
    held_out = json.loads((folder("R", SEEDS[0]) / "scores.json").read_text())["held-out"]
    return [name for name in held_out if name.startswith((JUDGE, RULES))]


def bouts(judge: str) -> list[dict[str, Any]]:
    """Win, tie and loss of every pair of base, R, U and RU; `seeded` is the rate with training seeds drawn, too."""
    from runs import preferred

    from penchant.evaluate.tournament import tournament

    found = {name: scores(name, judge) for name in (BASE, *CHAIN)}
    flat = {name: np.concatenate(list(one), axis=1) for name, one in found.items()}
    return [
        {**asdict(bout), "seeded": preferred(found[bout.first], found[bout.second])}
        for bout in tournament(flat, judge=judge).bouts
    ]


def against_base(method: str) -> dict[str, list[float]]:
    """How often each judge prefers the method to the base, with intervals over captions and training seeds."""
    from runs import preferred

    names = [*columns(), *(f"tunes/{d}" for d in DIMENSIONS)]
    return {name: preferred(scores(method, name), scores(BASE, name)) for name in names}


def moved(method: str) -> dict[str, Any]:
    """Means of the seeds: KL on the policy's own tunes, form of both sides, what the rollouts told at both ends."""
    runs = [json.loads((folder(method, seed) / "movement.json").read_text()) for seed in SEEDS]
    metrics = [
        [json.loads(line) for line in (folder(method, seed) / "metrics.jsonl").read_text().splitlines()]
        for seed in SEEDS
    ]
    form = {
        name: [float(np.mean([run["form"][name][side] for run in runs])) for side in ("before", "after")]
        for name in ("notes", "bars", "range", "distinct", "unfinished", "entropy")
    }
    names = [n for n in metrics[0][0] if n.startswith(("rewards/", "rollouts/")) or n in ("kl/sequence",)]
    ends = {
        name: [float(np.mean([[line[name] for line in run[rows]] for run in metrics])) for rows in _ENDS]
        for name in names
    }
    return {
        "kl": float(np.mean([run["drift"]["kl"]["nats"] for run in runs])),
        "diversity": [float(np.mean([run["diversity"][s]["value"] for run in runs])) for s in ("base", "policy")],
        "form": form,
        "course": ends,
    }


_ENDS = (slice(None, 5), slice(-5, None))


def preference_model() -> dict[str, Any]:
    """Accuracy on held-out votes, beside the listeners' own agreement, and the paper's ablations."""
    from penchant.assets import path
    from penchant.feedback import read
    from penchant.judges import load
    from penchant.recipes import find_reward
    from penchant.zoo.tunes.ablations import ablations, held_out

    groups = held_out(list(read(path("tunes/pairs"))))
    found = ablations(
        find_reward("tune-preference"),
        groups,
        adherence=load("zoo:tunes/adherence"),
        quality=load("zoo:tunes/quality"),
        out=RUNS / "preference",
        say=lambda line: None,
    )
    return {**asdict(found), "votes": len(groups)}


# --- what is told -----------------------------------------------------------------------------------------------------


def _percent(values: Sequence[float]) -> str:
    middle, low, high = (100 * v for v in values)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def _bout(found: dict[str, Any]) -> str:
    shares = " / ".join(f"{100 * found[name]:.1f}" for name in ("win", "tie", "loss"))
    return f"{shares} | {_percent(found['seeded'])} | {found['p']:.2g}"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines: list[str] = []
    for judge, found in result["bouts"].items():
        lines += [
            f"| by {judge} | win / tie / loss, % | preferred, % [95 %, captions and seeds] | p, Wilcoxon |",
            "|---|---|---|---|",
            *(f"| {one['second']} against {one['first']} | {_bout(_turned(one))} |" for one in found),
            "",
        ]
    names = list(result["methods"]["R"]["wins"])
    lines += [f"| preferred to the base, % | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for method, found in result["methods"].items():
        lines.append(f"| {method} | {' | '.join(_percent(found['wins'][name]) for name in names)} |")
    lines += [
        "",
        "| method | KL, nats a tune | notes | bars | unfinished | different 4-note sequences | entropy | diversity |",
        "|---" * 8 + "|",
    ]
    for method, found in result["methods"].items():
        form = " | ".join(
            "{:.3g} -> {:.3g}".format(*found["moved"]["form"][name])
            for name in ("notes", "bars", "unfinished", "distinct", "entropy")
        )
        spread = "{:.3f} -> {:.3f}".format(*found["moved"]["diversity"])
        lines.append(f"| {method} | {found['moved']['kl']:.1f} | {form} | {spread} |")
    model = result["preference_model"]
    lines += ["", f"| preference model, {model['votes']} held-out votes | accuracy, % [95 %] |", "|---|---|"]
    for name, found in model["accuracy"].items():
        lines.append(f"| {name} | {_percent([found['value'], found['low'], found['high']])} |")
    known = {"two listeners agree": model["agreement"], "ceiling": model["ceiling"]}
    lines += [f"| {name} | {100 * value:.1f} |" for name, value in known.items()]
    return "\n".join(lines)


def _turned(found: dict[str, Any]) -> dict[str, Any]:
    """The second policy's side of a bout."""
    rate, low, high = found["seeded"]
    return {**found, "win": found["loss"], "loss": found["win"], "seeded": [1 - rate, 1 - high, 1 - low]}


def page() -> None:
    """The first seed's policies side by side, to be heard."""
    from penchant.listening import listen

    listen([folder(method, SEEDS[0]) for method in CHAIN], RUNS / "listening.html")


def main() -> None:
    """Trains what is missing and records the tables."""
    from runs import record

    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    RUNS.mkdir(parents=True, exist_ok=True)
    first = [(m, seed) for seed in SEEDS for m in METHODS if m != "RU"]
    for work in (first, [("RU", seed) for seed in SEEDS]):
        with ThreadPoolExecutor(JOBS) as pool:
            for done in [pool.submit(train, *one) for one in work]:
                done.result()
    result = {
        "bouts": {judge: bouts(judge) for judge in columns()},
        "methods": {method: {"wins": against_base(method), "moved": moved(method)} for method in METHODS},
        "preference_model": preference_model(),
    }
    record("musicrl", result, table(result))
    page()


if __name__ == "__main__":
    main()
