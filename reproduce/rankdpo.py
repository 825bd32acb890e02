"""Does learning from whole rankings beat learning from pairs of the same images?

`penchant synthesize synpic` draws five samples a caption with five really different generators and ranks them by the
votes of three rewards. RankDPO, Plackett-Luce, Diffusion-DPO on all pairs, Diffusion-DPO on best against worst and SFT
on the best then train on the same groups, in the same order, for the same updates, with three seeds. Scorer B, which
did not vote, judges captions seen in training and captions that no group contained; without guidance, as the recipe
does, and captions that no group contained also with guidance 3: four of the five generators are guided, so a policy may
win without guidance by having learnt guidance.

    python reproduce/rankdpo.py            # resumable: what is finished is kept
    python reproduce/rankdpo.py --fresh
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

# `penchant align` reads this file for its recipes, from a folder where `runs` is not to be found: it is imported late.
ROOT = Path(__file__).resolve().parent
RUNS = ROOT.parent / "runs" / "reproduce-rankdpo"
SEEDS = (0, 1, 2)
JOBS = 2  # runs at a time, one thread each
JUDGE, VOTER = "emoji/judge", "emoji/labeller"
GUIDANCE, GUIDED = 3.0, "held-out, guided"
KINDS = ("seen", "held-out", GUIDED)


def rankdpo() -> Any:
    """RankDPO's run: the `rankdpo` recipe, on the data set of this reproduction."""
    from penchant.recipe import Preferences
    from penchant.recipes import find

    return replace(find("rankdpo"), feedback=Preferences(path=str(RUNS / "synpic" / "data")))


def plackett_luce() -> Any:
    """The same with the likelihood of the ranking."""
    from penchant.objectives import PlackettLuce

    return replace(rankdpo(), name="plackett-luce", objective=PlackettLuce(beta=2000.0))


def dpo_all() -> Any:
    """The same with Diffusion-DPO on all ordered pairs."""
    from penchant.objectives import DPO

    return replace(rankdpo(), name="dpo-all", objective=DPO(beta=2000.0))


def dpo_best_worst() -> Any:
    """The same with Diffusion-DPO on the best against the worst."""
    from penchant.objectives import DPO

    return replace(rankdpo(), name="dpo-best-worst", objective=DPO(beta=2000.0, pairing="best_worst"))


def sft() -> Any:
    """The same with SFT on the best."""
    from penchant.objectives import SFT

    return replace(rankdpo(), name="sft", objective=SFT())


METHODS = {
    "RankDPO": rankdpo,
    "Plackett-Luce": plackett_luce,
    "DPO, all pairs": dpo_all,
    "DPO, best vs worst": dpo_best_worst,
    "SFT on the best": sft,
}


def folder(method: str, seed: int) -> Path:
    """Where a run lies."""
    return RUNS / f"{METHODS[method].__name__}-{seed}"


def train(method: str, seed: int) -> None:
    """One method with one seed."""
    from runs import finish

    finish(f"{__file__}:{METHODS[method].__name__}", folder(method, seed), "--seed", str(seed))


def scores(method: str, captions: str, judge: str, side: str) -> np.ndarray:
    """Scores [seeds, P, S] of a method's pictures, or of the base's."""
    from runs import scores

    if captions == GUIDED:
        found = [json.loads((folder(method, seed) / "guided.json").read_text()) for seed in SEEDS]
        return np.array([one[side][judge] for one in found])

    return scores([folder(method, seed) for seed in SEEDS], captions, judge, side)


def judge_guided(method: str, seed: int) -> None:
    """Scores a run's pictures of held-out captions at guidance 3, beside the base's, into `guided.json`."""
    done = folder(method, seed) / "guided.json"
    if not done.exists():
        command = [sys.executable, __file__, "--judge-guided", str(folder(method, seed) / "model"), str(done)]
        subprocess.run(command, check=True)


def wanted() -> tuple[tuple[str, ...], list[str], list[int]]:
    """Held-out captions, and the (caption, seed) of every picture: the evaluation's."""
    from penchant.assets import resolve
    from penchant.evaluate.compare import choose, requests

    spec = rankdpo().evaluation
    prompts = choose(Path(resolve(spec.prompts)).read_text().splitlines(), spec.count)
    return (prompts, *requests(prompts, spec.seeds))


def pictures(model: str, guidance: float | None = None) -> list[Any]:
    """A model's pictures of held-out captions, from the runs' cache where they are there."""
    from penchant.feedback import Prompt
    from penchant.models import load
    from penchant.sampling.samplers import PictureSampler
    from penchant.sampling.samples import SampleCache

    spec, (_, rows, seeds) = rankdpo().evaluation, wanted()
    settings = {"steps": spec.steps, "guidance": guidance or spec.guidance, "batch_size": spec.batch_size}
    sampler = PictureSampler(model=load(model), **settings)
    return SampleCache(RUNS / "cache" / "samples").sample(sampler, [Prompt(text=row) for row in rows], seeds)


def guided_scores(model: str) -> dict[str, list[list[float]]]:
    """Scores [P][S] by judge of a model's pictures of held-out captions at guidance 3."""
    import torch

    from penchant.judges import load as load_judge

    torch.set_num_threads(1)
    prompts, rows, _ = wanted()
    images, shape = pictures(model, GUIDANCE), (len(prompts), -1)
    judges = {name: load_judge(f"zoo:{name}") for name in (JUDGE, VOTER)}
    return {name: judge.score(rows, images)[:, 0].reshape(shape).tolist() for name, judge in judges.items()}


def drift(method: str) -> dict[str, float]:
    """How far a method's pictures of held-out captions lie from the base's at equal seeds, mean over training seeds."""
    from penchant.evaluate.drift import feature_drift, pixel_drift
    from penchant.judges import load as load_judge

    judge, base = load_judge(f"zoo:{JUDGE}"), pictures("zoo:emoji")
    policies = [pictures(str(folder(method, seed) / "model")) for seed in SEEDS]
    pixels = [np.stack([np.asarray(image) for image in images])[None] for images in (base, *policies)]
    features = [judge.features(images) for images in (base, *policies)]
    return {
        "pixel_mse": float(np.mean([pixel_drift(one, pixels[0]) for one in pixels[1:]])),
        "feature_cosine": float(np.mean([feature_drift(one, features[0]) for one in features[1:]])),
    }


def row(method: str, captions: str, judge: str) -> dict[str, Any]:
    """A method against the base, and RankDPO against the method, by one judge on one kind of captions."""
    from penchant.evaluate import mean_gain, win_rate

    policy, base = (scores(method, captions, judge, side) for side in ("policy", "base"))
    wins, gain = win_rate(policy, base), mean_gain(policy, base)
    against = win_rate(scores("RankDPO", captions, judge, "policy"), policy)
    more = mean_gain(scores("RankDPO", captions, judge, "policy"), policy)
    return {
        "method": method,
        "captions": captions,
        "judge": judge,
        "shape": list(policy.shape),
        "win_rate": [wins.rate, wins.low, wins.high],
        "by_seed": [win_rate(one, other).rate for one, other in zip(policy, base, strict=True)],
        "mean": [gain.before, gain.after],
        "gain": [gain.gain, gain.low, gain.high],
        "rankdpo_wins": [against.rate, against.low, against.high],
        "rankdpo_gain": [more.gain, more.low, more.high],
    }


def summarise() -> dict[str, Any]:
    """Every method, judge and kind of captions; what each step cost; how far each policy moved."""
    rows = [row(m, c, j) for j in (JUDGE, VOTER) for c in KINDS for m in METHODS]
    made = json.loads((RUNS / "synpic" / "made.json").read_text())
    costs = {}
    for method in METHODS:
        outcomes = [json.loads((folder(method, seed) / "outcome.json").read_text()) for seed in SEEDS]
        costs[method] = {
            "cpu_seconds_per_step": float(np.median([o["cpu_seconds"] / o["step"] for o in outcomes])),
            **drift(method),
        }
    return {"data": {k: made[k] for k in ("groups", "fingerprint")}, "seeds": len(SEEDS), "rows": rows, "costs": costs}


def _percent(values: list[float]) -> str:
    middle, low, high = (100 * v for v in values)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def _thousandths(values: list[float]) -> str:
    middle, low, high = (1000 * v for v in values)
    return f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = []
    for judge, words in ((JUDGE, "scorer B, held out"), (VOTER, "scorer A, one of the voters")):
        for captions in KINDS:
            found = [r for r in result["rows"] if r["judge"] == judge and r["captions"] == captions]
            seeds, prompts, samples = found[0]["shape"]
            lines += [
                "",
                f"{words}; {captions} captions, {prompts} x {samples} pictures x {seeds} training seeds",
                "",
                "| method | wins against the base, % [95 %] | by seed, % | mean score, thousandths "
                "| RankDPO wins against it, % | RankDPO's mean above it |",
                "|---|---|---|---|---|---|",
            ]
            for r in found:
                seed = ", ".join(f"{100 * v:.1f}" for v in r["by_seed"])
                own = r["method"] == "RankDPO"
                beside = " | " if own else f"{_percent(r['rankdpo_wins'])} | {_thousandths(r['rankdpo_gain'])}"
                gained = f"{_percent(r['win_rate'])} | {seed} | {_thousandths(r['gain'])}"
                lines.append(f"| {r['method']} | {gained} | {beside} |")
    lines += [
        "",
        "| method | CPU s a step of 8 lists of 5 | drift: pixels (MSE) | drift: judge's features (1 - cosine) |",
    ]
    lines += ["|---|---|---|---|"]
    for method, c in result["costs"].items():
        row = f"{c['cpu_seconds_per_step']:.2f} | {c['pixel_mse']:.4f} | {c['feature_cosine']:.4f}"
        lines.append(f"| {method} | {row} |")
    return "\n".join(lines).strip()


def main() -> None:
    """Makes the data, trains what is missing and records the tables."""
    from runs import record

    if "--judge-guided" in sys.argv:
        model, done = sys.argv[-2:]
        both = {"policy": guided_scores(model), "base": guided_scores("zoo:emoji")}
        Path(done).write_text(json.dumps(both))
        return
    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    data = [sys.executable, "-m", "penchant", "synthesize", "synpic", "--out", str(RUNS / "synpic")]
    subprocess.run(data, check=True)
    # One first, alone: it encodes the groups and samples the base for all.
    train("RankDPO", SEEDS[0])
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(lambda job: train(job[1], job[0]), product(SEEDS, METHODS)))
        list(pool.map(lambda job: judge_guided(job[1], job[0]), product(SEEDS, METHODS)))
    result = summarise()
    record("rankdpo", result, table(result))


if __name__ == "__main__":
    main()
