"""Annotated pairs: from groups and judgements to what a reward loss reads.

How judgements become labels, exactly. Of the judgements of one dimension (and, if asked, one source) with weight > 0:

1. each that is no `score` says of two samples: A, B or same, by the order of its values;
2. the verdict with the largest sum of weights is the label; where two lead alike, the label is "same";
3. the rating of a sample is the weighted mean of the `score` judgements, 0 where there is none;
4. where only ratings are there, they give the label: the larger mean is better.

A group of K samples gives its K (K - 1) / 2 pairs. Unlabelled dimensions of a pair take no part; a pair without any is
left out and counted.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from penchant.errors import FeedbackError, nearest
from penchant.feedback.clip import Clip
from penchant.feedback.groups import Candidate, Group, Judgement
from penchant.feedback.shown import sample_of
from penchant.likelihoods.randomness import generator
from penchant.reward_models.losses import A_BETTER, B_BETTER, SAME, UNLABELLED, Comparisons
from penchant.reward_models.network import Backbone
from penchant.train.encoding import TensorCache, cache_key

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True, kw_only=True)
class AnnotatedPair:
    """Two samples of a prompt; one label and two ratings a dimension (see `Comparisons`)."""

    id: str
    prompt: str
    first: Candidate
    second: Candidate
    labels: tuple[int, ...]
    first_ratings: tuple[float, ...]
    second_ratings: tuple[float, ...]
    split: str | None = None

    def swapped(self) -> AnnotatedPair:
        """The same pair, shown the other way round."""
        turned = {A_BETTER: B_BETTER, B_BETTER: A_BETTER}
        return AnnotatedPair(
            id=self.id,
            prompt=self.prompt,
            first=self.second,
            second=self.first,
            labels=tuple(turned.get(label, label) for label in self.labels),
            first_ratings=self.second_ratings,
            second_ratings=self.first_ratings,
            split=self.split,
        )


def annotated(
    groups: Iterable[Group],
    dimensions: Sequence[str],
    *,
    reads: frozenset[str],
    source: str | None = None,
    takes: frozenset[str] = frozenset({"media"}),
) -> tuple[list[AnnotatedPair], int]:
    """Every pair that has something a loss `reads` ("labels", "ratings") in one of the dimensions; how many have not.

    Args:
        groups: what was judged.
        dimensions: which dimensions count.
        reads: what the loss reads.
        source: use judgements of this source only (a prefix).
        takes: kinds of samples that the backbone takes, "media" and "text".

    Raises:
        FeedbackError: no group has two samples, a dimension was never judged, or samples are none for the backbone.
    """
    pairs, without, groups = [], 0, list(groups)
    _refuse(groups, dimensions, source)
    _refuse_kinds(groups, takes)
    for group in groups:
        for a, b in combinations(range(len(group.candidates)), 2):
            pair = _pair(group, a, b, dimensions, source)
            useful = _useful(pair, reads)
            pairs += [pair] if useful else []
            without += not useful
    for d, name in enumerate(dimensions):
        if "ratings" in reads and not any(pair.first_ratings[d] or pair.second_ratings[d] for pair in pairs):
            raise FeedbackError(
                f"'{name}' was never rated.",
                field="dimensions",
                remedy="use a loss of labels, such as bradley_terry_ties.",
            )
    return pairs, without


def _useful(pair: AnnotatedPair, reads: frozenset[str]) -> bool:
    labelled = any(label != UNLABELLED for label in pair.labels)
    rated = any((*pair.first_ratings, *pair.second_ratings))
    return (labelled or "labels" not in reads) and (rated or "ratings" not in reads)


def _refuse(groups: Sequence[Group], dimensions: Sequence[str], source: str | None) -> None:
    if not any(len(group.candidates) > 1 for group in groups):
        raise FeedbackError(
            "no group has two samples to compare.", field="feedback.path", remedy="give pairs or rankings."
        )
    known = Counter(j.dimension for g in groups for j in g.judgements if source is None or j.source.startswith(source))
    for name in dimensions:
        if name not in known:
            raise FeedbackError(
                f"no judgement is about '{name}'" + (f" from '{source}'." if source else "."),
                field="dimensions",
                remedy=nearest(name, sorted(known)) if known else "judge the samples first.",
            )


def _refuse_kinds(groups: Sequence[Group], takes: frozenset[str]) -> None:
    for group in groups:
        if "text" not in takes and any(candidate.media is None for candidate in group.candidates):
            raise FeedbackError(
                f"group {group.id[:12]} has texts as samples, and the backbone looks at pictures and clips.",
                field="feedback.path",
                remedy="use backbone:language-trunk, or score texts with a language model (docs/judges.md).",
            )
        if "media" not in takes and any(candidate.media is not None for candidate in group.candidates):
            raise FeedbackError(
                f"group {group.id[:12]} has pictures or clips as samples, and the backbone reads texts.",
                field="feedback.path",
                remedy="use another backbone, such as backbone:video-cnn.",
            )


def _pair(group: Group, a: int, b: int, dimensions: Sequence[str], source: str | None) -> AnnotatedPair:
    used = [j for j in group.judgements if j.weight > 0 and (source is None or j.source.startswith(source))]
    by_name = [[j for j in used if j.dimension == name] for name in dimensions]
    first, second = (tuple(_rating(js, k) for js in by_name) for k in (a, b))
    return AnnotatedPair(
        id=f"{group.id}:{a}:{b}",
        prompt=group.prompt,
        first=group.candidates[a],
        second=group.candidates[b],
        labels=tuple(_label(js, a, b, x, y) for js, x, y in zip(by_name, first, second, strict=True)),
        first_ratings=first,
        second_ratings=second,
        split=group.split,
    )


def _rating(judgements: Sequence[Judgement], k: int) -> float:
    rated = [(j.weight, value) for j in judgements if j.kind == "score" and (value := j.values[k]) is not None]
    total = sum(weight for weight, _ in rated)
    return sum(weight * value for weight, value in rated) / total if total else 0.0


def _label(judgements: Sequence[Judgement], a: int, b: int, first: float, second: float) -> int:
    votes: Counter[int] = Counter()
    for j in judgements:
        x, y = j.values[a], j.values[b]
        if j.kind != "score" and x is not None and y is not None:
            # Counters of floats add up like those of ints.
            votes[_order(x, y)] += j.weight  # type: ignore[assignment]
    if not votes:
        return _order(first, second) if first and second else UNLABELLED
    (label, most), *others = votes.most_common()
    return SAME if others and others[0][1] == most else label


def _order(x: float, y: float) -> int:
    return A_BETTER if x > y else B_BETTER if y > x else SAME


def splits(pairs: Sequence[AnnotatedPair], *, share: float, seed: int) -> dict[str, list[AnnotatedPair]]:
    """Pairs by split: the feedback's own; without a "validation" there, `share` of the training prompts becomes it.

    A pair without a split is for training. No prompt is on both sides of a split that is made here.

    Raises:
        FeedbackError: nothing is left to train on, or nothing to validate with.
    """
    found: dict[str, list[AnnotatedPair]] = {TRAIN: [], VALIDATION: []}
    for pair in pairs:
        found.setdefault(pair.split or TRAIN, []).append(pair)
    if not found[VALIDATION]:
        prompts = sorted({pair.prompt for pair in found[TRAIN]})
        order = generator(seed, 0, "prompts", "validation").permutation(len(prompts))
        held = {prompts[i] for i in order[: round(share * len(prompts)) or 1]}
        found[VALIDATION] = [pair for pair in found[TRAIN] if pair.prompt in held]
        found[TRAIN] = [pair for pair in found[TRAIN] if pair.prompt not in held]
    for name in (TRAIN, VALIDATION):
        if not found[name]:
            raise FeedbackError(
                f"no pair is left for {name}.", field="feedback.path", remedy="give more prompts, or another split."
            )
    return found


def comparisons(pairs: Sequence[AnnotatedPair], reward_A_BD: Tensor, reward_B_BD: Tensor) -> Comparisons:
    """The pairs with the rewards that a model gives, on the rewards' device."""
    device, dtype = reward_A_BD.device, reward_A_BD.dtype
    return Comparisons(
        reward_A_BD=reward_A_BD,
        reward_B_BD=reward_B_BD,
        label_BD=torch.tensor([pair.labels for pair in pairs], device=device),
        rating_A_BD=torch.tensor([pair.first_ratings for pair in pairs], dtype=dtype, device=device),
        rating_B_BD=torch.tensor([pair.second_ratings for pair in pairs], dtype=dtype, device=device),
    )


def in_random_order(pair: AnnotatedPair, *, seed: int, epoch: int) -> AnnotatedPair:
    """The pair, or its mirror image, by (seed, epoch, id): no position can be learnt."""
    return pair.swapped() if generator(seed, epoch, pair.id, "order of the pair").random() < 0.5 else pair


def mirrored(pair: AnnotatedPair, *, seed: int, epoch: int) -> bool:
    """Whether both samples of the pair are shown mirrored in this epoch."""
    return bool(generator(seed, epoch, pair.id, "flip").random() < 0.5)


class Library:
    """What a backbone reads of each sample, made when first asked for and kept in memory under a cap of bytes.

    With `cache` it is also kept on disk, for other runs on the same samples, if the backbone finds it dear to make.
    """

    def __init__(self, backbone: Backbone, *, cache: Path | None = None, most_bytes: int = 2 * 2**30) -> None:
        self.backbone, self.most_bytes, self.held = backbone, most_bytes, 0
        self._kept: OrderedDict[tuple[str, bool], Mapping[str, Tensor]] = OrderedDict()
        self._name = backbone.preparation()
        self._disk = TensorCache(cache) if cache is not None and self._name is not None else None

    def prepared(self, candidate: Candidate, *, flip: bool = False) -> Mapping[str, Tensor]:
        """The tensors of a sample, mirrored if asked.

        Raises:
            MediaError: the sample cannot be decoded.
        """
        key = (candidate.id, flip)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        found = self._kept[key] = self._on_disk(candidate, flip)
        self.held += _bytes(found)
        while self.held > self.most_bytes:
            self.held -= _bytes(self._kept.popitem(last=False)[1])
        return found

    def _on_disk(self, candidate: Candidate, flip: bool) -> Mapping[str, Tensor]:
        if self._disk is None:
            return self._made(candidate, flip)
        name = cache_key("prepared", self._name, candidate.id, flip)
        found = self._disk.get(name)
        if found is None:
            found = self._made(candidate, flip)
            self._disk.put([(name, found)])
        return found

    def _made(self, candidate: Candidate, flip: bool) -> Mapping[str, Tensor]:
        sample = sample_of(candidate)
        return self.backbone.prepare(_mirror(sample) if flip else sample)


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _mirror(sample: Any) -> Any:
    if isinstance(sample, Clip):
        return Clip(frames=np.ascontiguousarray(sample.frames[:, :, ::-1]), fps=sample.fps)
    from PIL import ImageOps

    return ImageOps.mirror(sample)
