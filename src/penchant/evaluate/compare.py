"""A policy beside its base: sampled at the same prompts and seeds, scored by every judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penchant.evaluate.diversity import Diversity, feature_diversity
from penchant.evaluate.drift import Drift, measure_drift
from penchant.evaluate.evidence import Captions, Evidence, Role, measure
from penchant.evaluate.exhibits import ImagePair, Picture
from penchant.likelihoods.randomness import generator

# Far from the seeds that made any feedback.
FIRST_SEED = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Samples of P prompts x S seeds of one model; `images` runs prompt by prompt."""

    captions: Captions
    prompts: tuple[str, ...]
    seeds: int
    images: tuple[Any, ...]

    def rows(self) -> list[str]:
        """The prompt of every image."""
        return [p for p in self.prompts for _ in range(self.seeds)]


def choose(prompts: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` different prompts, drawn by count and not by place; the same ones whatever seed a policy trained with."""
    unique = sorted(set(prompts))
    order = generator(0, 0, "prompts", "evaluation").permutation(len(unique))
    return tuple(unique[i] for i in order[:count])


def requests(prompts: Sequence[str], seeds: int) -> tuple[list[str], list[int]]:
    """The (prompt, seed) of every sample of a sheet; a prompt's seeds do not depend on the other prompts."""
    rows = [p for p in prompts for _ in range(seeds)]
    keys = [FIRST_SEED + int(generator(0, i, p, "sample").integers(2**31)) for p in prompts for i in range(seeds)]
    return rows, keys


def judged(
    name: str, policy: Sheet, base: Sheet, judges: Mapping[str, tuple[Any, Role]], *, seed: int = 0
) -> list[Evidence]:
    """One row of evidence a judge and dimension."""
    found, shape = [], (len(base.prompts), base.seeds)
    for judge, role in judges.values():
        after = judge.score(policy.rows(), policy.images)
        before = judge.score(base.rows(), base.images)
        for column, dimension in enumerate(judge.dimensions):
            found.append(
                measure(
                    after[:, column].reshape(shape),
                    before[:, column].reshape(shape),
                    policy=name,
                    judge=judge.name if len(judge.dimensions) == 1 else f"{judge.name}:{dimension}",
                    role=role,
                    captions=base.captions,
                    seed=seed,
                )
            )
    return found


def spread(sheet: Sheet, judge: Any) -> Diversity | None:
    """Diversity among the seeds of a prompt in the judge's features; None with one seed or a judge without any."""
    if sheet.seeds < 2 or not hasattr(judge, "features"):
        return None
    return feature_diversity(judge.features(sheet.images).reshape(len(sheet.prompts), sheet.seeds, -1))


def moved(policy: Sheet, base: Sheet, judge: Any) -> Drift:
    """Distance between the two models' samples at equal prompts and seeds."""
    shape = (len(base.prompts), base.seeds)

    def pixels(sheet: Sheet) -> np.ndarray:
        stacked = np.stack([np.asarray(i, dtype=np.uint8) for i in sheet.images])
        return stacked.reshape(*shape, *stacked.shape[1:])

    def points(sheet: Sheet) -> np.ndarray:
        return judge.features(sheet.images).reshape(*shape, -1)

    features = (points(policy), points(base)) if hasattr(judge, "features") else None
    return measure_drift(pixels=(pixels(policy), pixels(base)), features=features)


def pictures(name: str, policy: Sheet, base: Sheet, judge: Any, *, count: int) -> list[ImagePair]:
    """Before and after for the first seed of the first `count` prompts: not the best ones, the first ones."""
    after, before = judge.score(policy.rows(), policy.images)[:, 0], judge.score(base.rows(), base.images)[:, 0]
    return [
        ImagePair(
            prompt=prompt,
            seed=0,
            before=Picture(image=base.images[p * base.seeds], label="base", score=float(before[p * base.seeds])),
            after=Picture(image=policy.images[p * base.seeds], label=name, score=float(after[p * base.seeds])),
        )
        for p, prompt in enumerate(base.prompts[:count])
    ]
