"""Does a reward on noised latents move the dimensions that the user weighs, with no training of the generator?

The shipped text-to-video model draws captions that no pair contained, unguided and steered by rewards that were trained
on annotated pairs (simulated annotators; `penchant train-reward flow-nrg`), from the same noise. Three weightings with
the same rewards; then visual quality alone with rewards trained on latents with independent noise, with shared noise
(the paper's) and on clean latents (the paper's ablation, which weighs motion alone; latents of so small clips say
little of it). A held-out judge of another architecture and model-free measures of motion say what became of the clips,
and so does the shipped VideoReward, which learnt from the annotators that the steering rewards learnt from; the pixel
distance to the unguided ones says how far they went.

    python reproduce/flow_nrg.py            # resumable: finished rewards and samples are kept
    python reproduce/flow_nrg.py --fresh
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent
RUNS = ROOT.parent / "runs" / "reproduce-flow-nrg"
SEEDS = (0, 1, 2)
JOBS = 2  # rewards trained at a time, one thread each
NOISES = ("independent", "shared", "clean")
PROMPTS, DRAWS, STEPS = 48, 1, 25
DIMENSIONS = ("VQ", "MQ", "TA")
HELD_OUT, ANNOTATORS = "clips/judge", "clips/reward"
MOTION = ("dynamic-degree", "smoothness")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Which reward steers, and how."""

    noise: str
    weights: tuple[float, float, float]
    scale: float = 1.0
    relative_clip: float | None = None

    @property
    def title(self) -> str:
        """The weights as the paper writes them."""
        clip = f", clip {self.relative_clip:g}" if self.relative_clip else ""
        return f"{':'.join(f'{w:g}' for w in self.weights)}, w = {self.scale:g}{clip}"


WEIGHTINGS = ((0.0, 0.0, 1.0), (0.1, 0.1, 0.8), (0.5, 0.5, 0.0))
SCALES = (1.0, 4.0)
QUALITY_ALONE = (1.0, 0.0, 0.0)


def arms() -> list[Arm]:
    """Three weightings at two scales; then the ablation of the noise, free and with the push held."""
    found = [Arm(noise="independent", weights=w, scale=s) for s, w in product(SCALES, WEIGHTINGS)]
    found += [Arm(noise=noise, weights=QUALITY_ALONE) for noise in NOISES]
    return found + [Arm(noise=noise, weights=QUALITY_ALONE, relative_clip=0.2) for noise in NOISES]


def reward(noise: str, seed: int) -> Path:
    """The folder of a trained reward; a finished one is kept."""
    folder = RUNS / f"reward-{noise}-{seed}"
    if not (folder / "outcome.json").exists():
        command = [sys.executable, "-m", "penchant", "train-reward", "flow-nrg", "--backbone.noise", noise]
        command += ["--seed", str(seed), "--threads", "1", "--out", str(folder)]
        if (folder / "checkpoints").exists():
            command.append("--resume")
        subprocess.run(command, check=True)
    return folder / "model"


class Studio:
    """Draws and judges clips of the held-out captions."""

    def __init__(self) -> None:
        import penchant
        from penchant.evaluate.compare import choose, requests
        from penchant.evaluate.prompts import read_prompts
        from penchant.feedback.groups import Prompt
        from penchant.judges import load
        from penchant.sampling.samples import SampleCache

        captions = choose([p.text for p in read_prompts("zoo:clips/prompts")], PROMPTS)
        self.texts, self.seeds = requests(captions, DRAWS)
        self.prompts = [Prompt(text=text) for text in self.texts]
        self.model = penchant.load("zoo:clips")
        self.cache = SampleCache(RUNS / "samples")
        self.judges = [load(address) for address in (f"zoo:{HELD_OUT}", f"zoo:{ANNOTATORS}", *MOTION)]

    def clips(self, arm: Arm | None, seed: int = 0) -> list[Any]:
        """Clips of every request; unguided without an arm."""
        from penchant.reward_models.noised import NoisedReward
        from penchant.sampling.guidance import RewardGuidance
        from penchant.sampling.guided import GuidedSampler
        from penchant.sampling.ode import Steering

        steering = None
        if arm is not None:
            steering = Steering(
                reward=NoisedReward.load(reward(arm.noise, seed), self.model),
                guidance=RewardGuidance(
                    weights=dict(zip(DIMENSIONS, arm.weights, strict=True)),
                    scale=arm.scale,
                    relative_clip=arm.relative_clip,
                ),
            )
        sampler = GuidedSampler(model=self.model, steps=STEPS, guidance=1.0, steering=steering)
        return self.cache.sample(sampler, self.prompts, self.seeds)

    def scores(self, clips: list[Any]) -> dict[str, np.ndarray]:
        """[P, S] by judge and dimension, NAME:DIMENSION, and by measure of motion."""
        from penchant.evaluate.compare import column_of

        found = {}
        for judge in self.judges:
            scores_ND = judge.score(self.texts, clips)
            for column in range(len(judge.dimensions)):
                found[column_of(judge, column)[0]] = scores_ND[:, column].reshape(-1, DRAWS)
        return found


def measured(studio: Studio, arm: Arm, base: list[Any], base_scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """Win rates against the unguided clips, gains in motion, and the distance from them; over the rewards' seeds."""
    from penchant.evaluate import mean_gain, pixel_drift, win_rate

    drawn = [studio.clips(arm, seed) for seed in SEEDS]
    found = [studio.scores(clips) for clips in drawn]
    after = {name: np.stack([one[name] for one in found]) for name in base_scores}

    def wins(judge: str) -> dict[str, list[float]]:
        rates = {d: win_rate(after[f"{judge}:{d}"], base_scores[f"{judge}:{d}"]) for d in DIMENSIONS}
        return {d: [one.rate, one.low, one.high] for d, one in rates.items()}

    gains = {name: mean_gain(after[name], base_scores[name]) for name in MOTION}
    before = np.stack([clip.frames for clip in base])[:, None]
    distances = [pixel_drift(np.stack([clip.frames for clip in clips])[:, None], before) for clips in drawn]
    return {
        **asdict(arm),
        "title": arm.title,
        "held_out": wins(HELD_OUT),
        "annotators": wins(ANNOTATORS),
        "motion": {name: [one.before, one.after, one.low, one.high] for name, one in gains.items()},
        "distance": float(np.mean(distances)),
    }


def agreement() -> list[dict[str, Any]]:
    """Accuracy of the rewards on decided pairs of captions that they did not learn from, by noise, split and seed."""
    found = []
    for noise, split, name in product(NOISES, ("validation", "test"), DIMENSIONS):
        files = [RUNS / f"reward-{noise}-{seed}" / "agreement.json" for seed in SEEDS]
        rows = [row for file in files for row in json.loads(file.read_text())]
        by_seed = [row["without_ties"] for row in rows if (row["split"], row["dimension"]) == (split, name)]
        found.append({"noise": noise, "split": split, "dimension": name, "without_ties": by_seed})
    return found


def _percent(values: list[float]) -> str:
    middle, low, high = (100 * v for v in values)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def table(rows: list[dict[str, Any]], agreed: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = ["| reward's noise | split | dimension | right on decided pairs, %, by seed |", "|---" * 4 + "|"]
    for row in agreed:
        right = ", ".join(f"{100 * value:.1f}" for value in row["without_ties"])
        lines.append(f"| {row['noise']} | {row['split']} | {row['dimension']} | {right} |")
    lines.append("")
    for who, title in (("held_out", "held-out judge"), ("annotators", "VideoReward")):
        heads = " | ".join(f"{d}: wins, %, {title}" for d in DIMENSIONS)
        lines += [f"| reward's noise | VQ:MQ:TA | {heads} |", "|---" * 5 + "|"]
        for row in rows:
            cells = " | ".join(_percent(row[who][d]) for d in DIMENSIONS)
            lines.append(f"| {row['noise']} | {row['title']} | {cells} |")
        lines.append("")
    lines += ["| reward's noise | VQ:MQ:TA | dynamic degree | smoothness | distance |", "|---" * 5 + "|"]
    for row in rows:
        motion = " | ".join("{:.3g} -> {:.3g} [{:+.2g}, {:+.2g}]".format(*row["motion"][name]) for name in MOTION)
        lines.append(f"| {row['noise']} | {row['title']} | {motion} | {row['distance']:.5f} |")
    return "\n".join(lines)


def main() -> None:
    """Trains and draws what is missing and records the tables."""
    import torch
    from runs import record

    from penchant.models.loading import quiet

    quiet()
    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(lambda job: reward(*job), product(NOISES, SEEDS)))
    torch.set_num_threads(1)
    studio = Studio()
    base = studio.clips(None)
    scores = studio.scores(base)
    rows = [measured(studio, arm, base, scores) for arm in arms()]
    agreed = agreement()
    result = {"prompts": PROMPTS, "seeds": len(SEEDS), "steps": STEPS, "agreement": agreed, "arms": rows}
    record("flow_nrg", result, table(rows, agreed))


if __name__ == "__main__":
    main()
