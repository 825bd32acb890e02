"""What trainers see: scores of a group, and groups or pairs or rows selected from a feedback.

How judgements become scores, exactly. Of the judgements of one dimension (and, if asked, one source) with weight > 0:

1. each is normalised: pair and binary as they are; rank again by `rank_values`; vote as shares of the group's votes (no
   votes at all = not judged); score as it is, on its own scale;
2. the score of a candidate is the weighted mean over the judgements that judged it; None if there is none.

Rewards have a scale of their own, so `score` judgements are never averaged with other kinds or with another source's
scores: that is refused, and naming a source decides. Every view depends on the candidates and never on their position.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args, overload

from penchant.errors import FeedbackError, nearest
from penchant.feedback.groups import Candidate, Group, Judgement, rank_values

if TYPE_CHECKING:
    import numpy as np

TiePolicy = Literal["drop", "half", "random", "keep"]


@dataclass(frozen=True, kw_only=True)
class ScoredGroup:
    """A group whose every candidate has a score, larger = better."""

    group: Group
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SelectionReport:
    """Groups kept, dropped and adjusted in a selection; `dropped` and `adjusted` map a reason to group ids."""

    kept: int
    dropped: dict[str, tuple[str, ...]] = field(default_factory=dict)
    adjusted: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def summary(self) -> str:
        """A few lines for people."""
        lines = [f"{self.kept} groups kept, {sum(map(len, self.dropped.values()))} dropped"]
        lines += [f"  dropped {len(ids)} x {reason}" for reason, ids in self.dropped.items()]
        lines += [f"  adjusted {len(ids)} x {reason}" for reason, ids in self.adjusted.items()]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Selection(Sequence[ScoredGroup]):
    """The selected groups, in the order of the feedback, and what happened to the others."""

    groups: tuple[ScoredGroup, ...]
    report: SelectionReport

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[ScoredGroup]:
        return iter(self.groups)

    @overload
    def __getitem__(self, index: int) -> ScoredGroup: ...
    @overload
    def __getitem__(self, index: slice) -> Selection: ...
    def __getitem__(self, index: int | slice) -> ScoredGroup | Selection:
        return replace(self, groups=self.groups[index]) if isinstance(index, slice) else self.groups[index]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One comparison: `chosen` scored higher by `margin` (0 for a kept tie); `weight` is 0.5 for each half of a tie."""

    group_id: str
    prompt: str
    chosen: Candidate
    rejected: Candidate
    margin: float
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A group best first; equal scores are ties, ordered by candidate id."""

    group_id: str
    prompt: str
    candidates: tuple[Candidate, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """One unpaired row (KTO): a candidate that is desirable or not."""

    group_id: str
    prompt: str
    candidate: Candidate
    desirable: bool


def scores(group: Group, dimension: str = "overall", *, source: str | None = None) -> tuple[float | None, ...]:
    """K scores of a group, larger = better, None = not judged; the rule stands at the top of this file.

    Args:
        group: K candidates.
        dimension: which judgements count.
        source: only judgements of this source, or of sources that begin with it (`reward:`).

    Raises:
        FeedbackError: scores would be averaged with another kind or another source's scale.
    """
    used = _of_dimension(group, dimension, source)
    _refuse_mixed_scales(group, used)
    totals, weights = [0.0] * len(group.candidates), [0.0] * len(group.candidates)
    for judgement in used:
        for k, value in enumerate(_normalised(judgement)):
            if value is not None:
                totals[k] += judgement.weight * value
                weights[k] += judgement.weight
    return tuple(total / weight if weight else None for total, weight in zip(totals, weights, strict=True))


def _of_dimension(group: Group, dimension: str, source: str | None) -> list[Judgement]:
    return [
        j
        for j in group.judgements
        if j.dimension == dimension and j.weight > 0 and (source is None or j.source.startswith(source))
    ]


def _refuse_mixed_scales(group: Group, judgements: list[Judgement]) -> None:
    if mixed_scales(judgements):
        raise FeedbackError(
            f"group {group.id[:12]} mixes scores with other kinds or sources, which have no common scale.",
            field="source",
            remedy=f"name one source: {', '.join(sorted({j.source for j in judgements}))}; or use another dimension.",
        )


def mixed_scales(judgements: Iterable[Judgement]) -> bool:
    """Whether scores stand beside another kind or another source's scores, so that no mean has a meaning."""
    return len({(j.kind == "score", j.source if j.kind == "score" else "") for j in judgements}) > 1


def _normalised(judgement: Judgement) -> tuple[float | None, ...]:
    if judgement.kind == "rank":
        return rank_values([None if v is None else -v for v in judgement.values])
    if judgement.kind == "vote":
        total = math.fsum(v for v in judgement.values if v is not None)
        return tuple(None if v is None or not total else v / total for v in judgement.values)
    return judgement.values


def select(
    feedback: Iterable[Group],
    *,
    dimension: str = "overall",
    ties: TiePolicy = "drop",
    min_candidates: int = 2,
    seed: int = 0,
    source: str | None = None,
) -> Selection:
    """Groups whose candidates all have a score, ready for a trainer.

    Candidates that nobody judged are taken out of their group (counted as adjusted). A group of two or more whose
    scores are all equal states no preference, and `ties` says what becomes of it: `drop` it (counted); `half`: every
    score becomes 0.5; `random`: a strict order is drawn from (seed, group id); `keep` the equal scores. Ties beside a
    strict preference (K > 2) stay as they are under every policy.

    Raises:
        FeedbackError: an unknown tie policy, no judgement at all in `dimension`, or mixed scales (see `scores`).
    """
    _check_ties(ties)
    kept: list[ScoredGroup] = []
    dropped: dict[str, list[str]] = {}
    adjusted: dict[str, list[str]] = {}
    dimensions: set[str] = set()
    for group in feedback:
        dimensions.update(j.dimension for j in group.judgements)
        scored, reasons = _decide(group, scores(group, dimension, source=source), ties, min_candidates, seed)
        told = dropped if scored is None else adjusted
        for reason in reasons:
            told.setdefault(reason, []).append(group.id)
        kept += [scored] if scored is not None else []
    if dimensions and dimension not in dimensions:
        raise FeedbackError(
            f"no judgement is about '{dimension}'.", field="dimension", remedy=nearest(dimension, sorted(dimensions))
        )
    report = SelectionReport(kept=len(kept), dropped=_frozen(dropped), adjusted=_frozen(adjusted))
    return Selection(groups=tuple(kept), report=report)


def _frozen(reasons: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {reason: tuple(ids) for reason, ids in reasons.items()}


def _decide(
    group: Group, values: tuple[float | None, ...], ties: TiePolicy, min_candidates: int, seed: int
) -> tuple[ScoredGroup | None, list[str]]:
    """The group as it is selected and what was adjusted, or None and why it is dropped."""
    scored = _only_judged(group, values)
    if scored is None:
        return None, ["not judged"]
    if len(scored.scores) < min_candidates:
        return None, [f"fewer than {min_candidates} judged candidates"]
    reasons = ["candidates that nobody judged left out"] if len(scored.scores) < len(values) else []
    if len(scored.scores) == 1 or len(set(scored.scores)) > 1 or ties == "keep":
        return scored, reasons
    if ties == "drop":
        return None, ["tie"]
    reasons.append("tie set to one half" if ties == "half" else "tie broken at random")
    return _settle(scored, ties, seed), reasons


def _check_ties(ties: str) -> None:
    if ties not in get_args(TiePolicy):
        raise FeedbackError(f"unknown tie policy '{ties}'.", field="ties", remedy=nearest(ties, get_args(TiePolicy)))


def _only_judged(group: Group, values: tuple[float | None, ...]) -> ScoredGroup | None:
    judged = [k for k, value in enumerate(values) if value is not None]
    if not judged:
        return None
    whole = len(judged) == len(values)
    return ScoredGroup(group=group if whole else group.only(judged), scores=tuple(v for v in values if v is not None))


def _settle(scored: ScoredGroup, ties: TiePolicy, seed: int) -> ScoredGroup:
    k = len(scored.scores)
    if ties == "half":
        return replace(scored, scores=(0.5,) * k)
    return replace(scored, scores=tuple(place / (k - 1) for place in _drawn_places(scored.group, seed)))


def counted_rng(seed: int, name: str) -> np.random.Generator:
    """A generator that is a pure function of (seed, name): no global state, no order of calls."""
    import hashlib

    import numpy as np

    word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, word], dtype=np.uint64)))


def _drawn_places(group: Group, seed: int) -> list[int]:
    """A random strict order of the candidates (larger = better), the same wherever each of them stands."""
    draws = counted_rng(seed, group.id).permutation(len(group.candidates))
    by_id = sorted(range(len(group.candidates)), key=lambda k: group.candidates[k].id)
    places = [0] * len(group.candidates)
    for draw, k in zip(draws, by_id, strict=True):
        places[k] = int(draw)
    return places


def _best_first(scored: ScoredGroup) -> list[int]:
    return sorted(range(len(scored.scores)), key=lambda k: (-scored.scores[k], scored.group.candidates[k].id))


def pairs(
    feedback: Iterable[Group],
    *,
    dimension: str = "overall",
    ties: TiePolicy = "drop",
    seed: int = 0,
    source: str | None = None,
) -> list[Pair]:
    """All comparisons of all groups, K (K - 1) / 2 of a strictly ordered group of K.

    Here `ties` is about each tied *pair*, also inside a larger group: `drop` it; `half`: both directions with weight
    0.5 and margin 0; `random`: one direction drawn from (seed, group id); `keep`: one pair of margin 0, ordered by id.
    """
    _check_ties(ties)
    found: list[Pair] = []
    for scored in select(feedback, dimension=dimension, ties="keep", source=source):
        order = _best_first(scored)
        for position, better in enumerate(order):
            for worse in order[position + 1 :]:
                found += _pairs_of(scored, better, worse, ties, seed)
    return found


def _pairs_of(scored: ScoredGroup, better: int, worse: int, ties: TiePolicy, seed: int) -> list[Pair]:
    group, margin = scored.group, scored.scores[better] - scored.scores[worse]
    forward = Pair(
        group_id=group.id,
        prompt=group.prompt,
        chosen=group.candidates[better],
        rejected=group.candidates[worse],
        margin=margin,
    )
    if margin > 0 or ties == "keep":
        return [forward]
    if ties == "drop":
        return []
    backward = replace(forward, chosen=forward.rejected, rejected=forward.chosen)
    if ties == "half":
        return [replace(forward, weight=0.5), replace(backward, weight=0.5)]
    places = _drawn_places(group, seed)
    return [forward if places[better] > places[worse] else backward]


def best_vs_worst(
    feedback: Iterable[Group],
    *,
    dimension: str = "overall",
    ties: TiePolicy = "drop",
    seed: int = 0,
    source: str | None = None,
) -> list[Pair]:
    """One comparison a group: its best against its worst candidate (ties among the best go to the smaller id)."""
    found: list[Pair] = []
    for scored in select(feedback, dimension=dimension, ties="keep", source=source):
        order = _best_first(scored)
        found += _pairs_of(scored, order[0], order[-1], ties, seed)
    return found


def ranked(feedback: Iterable[Group], *, dimension: str = "overall", source: str | None = None) -> list[Ranked]:
    """Every group with a strict preference, best candidate first."""
    found = []
    for scored in select(feedback, dimension=dimension, source=source):
        order = _best_first(scored)
        found.append(
            Ranked(
                group_id=scored.group.id,
                prompt=scored.group.prompt,
                candidates=tuple(scored.group.candidates[k] for k in order),
                scores=tuple(scored.scores[k] for k in order),
            )
        )
    return found


def binary(
    feedback: Iterable[Group],
    *,
    dimension: str = "overall",
    threshold: float | None = None,
    source: str | None = None,
) -> list[LabelledRow]:
    """Unpaired rows (KTO): desirable above `threshold`, undesirable below, left out at it (a tie says neither).

    The default is one half, the middle of every kind but `score`, whose middle only the judge knows.

    Raises:
        FeedbackError: `score` judgements without a threshold.
    """
    found = []
    for scored in select(feedback, dimension=dimension, ties="keep", min_candidates=1, source=source):
        if threshold is None and any(j.kind == "score" for j in _of_dimension(scored.group, dimension, source)):
            raise FeedbackError(
                "scores have no natural middle.",
                field="threshold",
                remedy="give the score above which a sample is good.",
            )
        middle = 0.5 if threshold is None else threshold
        for candidate, score in zip(scored.group.candidates, scored.scores, strict=True):
            if score != middle:
                found.append(
                    LabelledRow(
                        group_id=scored.group.id,
                        prompt=scored.group.prompt,
                        candidate=candidate,
                        desirable=score > middle,
                    )
                )
    return found
