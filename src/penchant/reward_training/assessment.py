"""How well a reward model agrees with the annotators, by split and dimension."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from penchant.feedback.groups import Candidate
from penchant.reward_models.accuracy import at_threshold, by_chance, with_ties, without_ties
from penchant.reward_models.losses import SAME, UNLABELLED
from penchant.reward_models.network import RewardNetwork
from penchant.reward_training.data import VALIDATION, AnnotatedPair, Library


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One split, one dimension.

    Attributes:
        split: which pairs.
        dimension: what they were judged on.
        pairs: how many of them were labelled.
        ties: how many of those as "same".
        without_ties: accuracy on the decided pairs; None without any.
        with_ties: three-way accuracy, the threshold chosen on these very pairs, as papers report it.
        threshold: the |d| of raw scores that it chose; None where no tie is predicted.
        at_validation: three-way accuracy with the threshold that was best on the validation split.
        chance_without_ties: what random scores get, 1/2.
        chance_with_ties: max(1/3, share of ties).
    """

    split: str
    dimension: str
    pairs: int
    ties: int
    without_ties: float | None
    with_ties: float
    threshold: float | None
    at_validation: float
    chance_without_ties: float
    chance_with_ties: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredPairs:
    """Pairs of one split with their raw scores, A and B [B, D]."""

    pairs: tuple[AnnotatedPair, ...]
    first_BD: Float[np.ndarray, "B D"]
    second_BD: Float[np.ndarray, "B D"]

    def judged(self, d: int) -> tuple[Float[np.ndarray, N], list[int]]:
        """Differences and labels of the pairs that were labelled in dimension `d`."""
        labels = [pair.labels[d] for pair in self.pairs]
        kept = [i for i, label in enumerate(labels) if label != UNLABELLED]
        return (self.first_BD - self.second_BD)[kept, d], [labels[i] for i in kept]

    def samples(self) -> Float[np.ndarray, "N D"]:
        """Every sample's scores, once a prompt."""
        rows = {}
        for i, pair in enumerate(self.pairs):
            rows[pair.prompt, pair.first.id] = self.first_BD[i]
            rows[pair.prompt, pair.second.id] = self.second_BD[i]
        return np.stack(list(rows.values()))


@torch.no_grad()
def score_pairs(
    network: RewardNetwork, pairs: Sequence[AnnotatedPair], library: Library, *, batch: int = 64
) -> ScoredPairs:
    """Raw scores of both samples of every pair; a (prompt, sample) that stands in several pairs is scored once."""
    rows: dict[tuple[str, str], Candidate] = {}
    for pair in pairs:
        rows |= {(pair.prompt, candidate.id): candidate for candidate in (pair.first, pair.second)}
    keys, device, found = list(rows), network.head.weight.device, []
    was_training = network.training
    network.eval()
    for start in range(0, len(keys), batch):
        chunk = keys[start : start + batch]
        prepared = [library.prepared(rows[key]) for key in chunk]
        inputs = network.backbone.collate([prompt for prompt, _ in chunk], prepared)
        found.append(network({name: value.to(device) for name, value in inputs.items()}).float().cpu())
    network.train(was_training)
    scores = dict(zip(keys, torch.cat(found).double().numpy(), strict=True))
    return ScoredPairs(
        pairs=tuple(pairs),
        first_BD=np.stack([scores[pair.prompt, pair.first.id] for pair in pairs]),
        second_BD=np.stack([scores[pair.prompt, pair.second.id] for pair in pairs]),
    )


def agreements(scored: Mapping[str, ScoredPairs], dimensions: Sequence[str]) -> list[Agreement]:
    """One row a split and dimension that has labelled pairs; `scored` holds the validation split."""
    rows = []
    for d, name in enumerate(dimensions):
        held, labels = scored[VALIDATION].judged(d)
        chosen = with_ties(held, labels).value if labels else -math.inf
        rows += [_agreement(split, name, *of.judged(d), chosen) for split, of in scored.items() if of.judged(d)[1]]
    order = {split: i for i, split in enumerate(scored)}
    return sorted(rows, key=lambda row: order[row.split])


def _agreement(split: str, dimension: str, difference: np.ndarray, labels: list[int], threshold: float) -> Agreement:
    decided, best = without_ties(difference, labels), with_ties(difference, labels)
    chance_with, chance_without = by_chance(labels)
    return Agreement(
        split=split,
        dimension=dimension,
        pairs=len(labels),
        ties=labels.count(SAME),
        without_ties=None if math.isnan(decided) else decided,
        with_ties=best.accuracy,
        threshold=best.value if math.isfinite(best.value) else None,
        at_validation=at_threshold(difference, labels, threshold),
        chance_without_ties=chance_without,
        chance_with_ties=chance_with,
    )


def table(rows: Sequence[Agreement]) -> str:
    """The rows as a Markdown table, in %."""
    lines = [
        "| split | dimension | pairs | ties | without ties (chance) | with ties (chance) | at validation's threshold |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        decided = "-" if row.without_ties is None else f"{100 * row.without_ties:.1f}"
        lines.append(
            f"| {row.split} | {row.dimension} | {row.pairs} | {row.ties} "
            f"| {decided} ({100 * row.chance_without_ties:.1f}) "
            f"| {100 * row.with_ties:.1f} ({100 * row.chance_with_ties:.1f}) | {100 * row.at_validation:.1f} |"
        )
    return "\n".join(lines)


def write(rows: Sequence[Agreement], folder: Path) -> None:
    """`agreement.json` and `agreement.md`."""
    (folder / "agreement.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    (folder / "agreement.md").write_text(table(rows) + "\n")
