"""The form of tunes: how long, how varied, how alike; what shows when a policy pleases a judge by other means.

Everything is counted on the written notes, without a judge that could have been trained against. Pitches count from the
tonic, so the key is no part of it.

Ours, named because a result depends on it:

1. A sequence of notes is `SEQUENCE` notes in a row, each with pitch and duration.
2. The entropy of intervals is that of a tune's own intervals, so it is bounded by its length: log2 of their number.
3. `entropy` is the mean of -log p of the sampled tokens, an unbiased estimate of the policy's entropy a token at
   the temperature of the draws; it needs the log-probs of the draws.

Shape legend: P prompts, S seeds a prompt.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from penchant.errors import PenchantError
from penchant.evaluate.diversity import Diversity
from penchant.evaluate.winrate import MeanGain, mean_gain
from penchant.feedback.tune import Event, Tune, parse
from penchant.models.completion import Completion

SEQUENCE = 4
"""Length of the sequences of notes that are told apart."""

INTERVALS = 3
"""Longest sequences of intervals by which two tunes are compared."""


@dataclass(frozen=True, kw_only=True)
class TuneForm:
    """Means over all tunes, base (`before`) and policy (`after`), with the interval of the change.

    Attributes:
        notes: notes a tune.
        bars: bars a tune.
        density: notes a bar.
        range: semitones from the lowest to the highest note.
        intervals: entropy of a tune's intervals, in bits.
        distinct: share of a tune's sequences of `SEQUENCE` notes that are different from one another.
        own: share of a tune's different sequences that no other tune of the sheet has; 0 if all tunes are one.
        unfinished: share of tunes that ran into the limit of tokens, without the token that ends a tune.
        unread: share of a tune's words that are no part of the notation.
        entropy: of the policy, nats a token; None where the draws' log-probs are not known.
    """

    notes: MeanGain
    bars: MeanGain
    density: MeanGain
    range: MeanGain
    intervals: MeanGain
    distinct: MeanGain
    own: MeanGain
    unfinished: MeanGain
    unread: MeanGain
    entropy: MeanGain | None = None


def intervals(tune: Tune) -> list[int]:
    """Semitones from each note to the next; rests are passed over.

    Example:
        >>> intervals(parse("N0_12 N4_12 R_12 | N2_24 |"))
        [4, -2]
    """
    pitches = [note.pitch for note in tune.notes if note.pitch is not None]
    return [after - before for before, after in pairwise(pitches)]


def entropy_bits(items: Sequence[Hashable]) -> float:
    """Shannon entropy of the items' frequencies, in bits; 0 for none.

    Example:
        >>> entropy_bits([1, 2, 3, 4])
        2.0
    """
    shares = [count / len(items) for count in Counter(items).values()]
    return -sum(share * math.log2(share) for share in shares) + 0.0


def sequences(tune: Tune) -> list[tuple[tuple[int | None, int], ...]]:
    """Every `SEQUENCE` notes in a row, as pitches and ticks."""
    notes = [(note.pitch, note.ticks) for note in tune.notes]
    return list(zip(*(notes[i:] for i in range(SEQUENCE)), strict=False))


def tune_distance(first: Tune, second: Tune) -> float:
    """How little two tunes have in common: 1 - Jaccard index of their runs of 1 to `INTERVALS` intervals.

    An interval is taken with the duration of the note that it leads to. 0 for the same melody, at whatever pitch; 1
    for no interval in common.

    Example:
        >>> tune_distance(parse("N0_12 N4_12 N7_12"), parse("N2_12 N6_12 N9_12"))
        0.0
    """
    return _jaccard(_profile(first), _profile(second))


def tune_diversity(tunes: Sequence[Tune], *, seeds: int) -> Diversity:
    """Mean over prompts and pairs of a prompt's tunes of `tune_distance`.

    Args:
        tunes: P x S tunes, prompt by prompt.
        seeds: S >= 2.

    Raises:
        PenchantError: there are fewer than two tunes a prompt.
    """
    if seeds < 2 or not tunes or len(tunes) % seeds:
        raise PenchantError(f"{len(tunes)} tunes with {seeds} seeds.", remedy="give two tunes a prompt or more.")
    profiles = [_profile(tune) for tune in tunes]
    found = []
    for start in range(0, len(profiles), seeds):
        own = profiles[start : start + seeds]
        found.append(np.mean([_jaccard(own[i], own[j]) for i in range(seeds) for j in range(i)]))
    return Diversity(value=float(np.mean(found)), space="runs of intervals", prompts=len(found), seeds=seeds)


def histogram_distance(policy: Sequence[Tune], base: Sequence[Tune], item: Callable[[Event], Hashable]) -> float | None:
    """Jensen-Shannon divergence of what all notes of the policy and of the base are, in bits: 0 for equal, 1 for
    nothing in common; None where either has no note.

    (Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37 (1991), eq. 4.1
    with equal weights.)
    """
    counted = [Counter(item(note) for tune in side for note in tune.notes) for side in (policy, base)]
    if not all(counted):
        return None
    bins = sorted(set().union(*counted), key=repr)
    after, before = (np.array([c[b] for b in bins]) / c.total() for c in counted)
    middle = (after + before) / 2
    return max(0.0, (_kl_bits(after, middle) + _kl_bits(before, middle)) / 2)


def pitch_class(note: Event) -> int:
    """Semitones above the tonic, octaves aside."""
    assert note.pitch is not None
    return note.pitch % 12


def tune_form(policy: Sequence[Completion], base: Sequence[Completion], *, seeds: int) -> TuneForm:
    """The form of the policy's tunes beside the base's.

    Args:
        policy: P x S completions, prompt by prompt, each the whole tune.
        base: the base's at the same prompts and seeds.
        seeds: S.

    Raises:
        PenchantError: as `penchant.evaluate.winrate.mean_gain`.
    """
    after, before = ([_measures(sample) for sample in side] for side in (policy, base))
    for side, samples in ((after, policy), (before, base)):
        for row, share in zip(side, _own([parse(s.text) for s in samples]), strict=True):
            row["own"] = share
    gains = {
        name: mean_gain(*(np.reshape([row[name] for row in side], (-1, seeds)) for side in (after, before)))
        for name in after[0]
        if all(name in row for row in (*after, *before))
    }
    return TuneForm(**gains)


def _measures(sample: Completion) -> dict[str, float]:
    tune = parse(sample.text)
    pitches, found, words = [note.pitch or 0 for note in tune.notes], sequences(tune), len(sample.text.split())
    measures = {
        "notes": float(len(pitches)),
        "bars": float(tune.bars),
        "density": len(pitches) / max(1, tune.bars),
        "range": float(max(pitches) - min(pitches)) if pitches else 0.0,
        "intervals": entropy_bits(intervals(tune)),
        "distinct": len(set(found)) / len(found) if found else 0.0,
        "unfinished": float(not sample.finished),
        "unread": len(tune.unread) / words if words else 0.0,
    }
    if sample.log_probs:
        measures["entropy"] = -float(np.mean(sample.log_probs))
    return measures


def _own(tunes: Sequence[Tune]) -> list[float]:
    """For each tune the share of its different sequences that no other tune has; 0 where it has none."""
    different = [set(sequences(tune)) for tune in tunes]
    owners = Counter(sequence for own in different for sequence in own)
    return [sum(owners[s] == 1 for s in own) / len(own) if own else 0.0 for own in different]


def _profile(tune: Tune) -> set[tuple[tuple[int, int], ...]]:
    steps = list(zip(intervals(tune), [note.ticks for note in tune.notes[1:]], strict=True))
    return {run for n in range(1, INTERVALS + 1) for run in zip(*(steps[i:] for i in range(n)), strict=False)}


def _jaccard(first: set, second: set) -> float:
    both = len(first | second)
    return 1 - len(first & second) / both if both else 0.0


def _kl_bits(p: np.ndarray, q: np.ndarray) -> float:
    held = p > 0
    return float((p[held] * np.log2(p[held] / q[held])).sum())
