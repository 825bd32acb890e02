"""Rules of tunes: what can be counted in a melody without a model or an ear.

The prompt is the tune's caption, "slip jig in 9/8, dorian" (`feedback.tune.caption_of`). With notes p_j in semitones
above the tonic, and bars that are full at the ticks that the metre says:

    form    1 - |ticks / (8 full bars) - 1|, at least 0; 0 if it did not end by itself, by a bar line
    valid   share of bars that add up; a pick-up and a last bar that complements it are one
    key     share of notes that are in the mode's scale (minor: natural and melodic)
    tonic   1 if the last note is the tonic in any octave
    leap    share of steps p_{j+1} - p_j of at most 7 semitones
    repeat  share of steps that are not 0
    range   1 inside 10 to 21 semitones between highest and lowest note, falling to 0 twelve semitones beyond

All are in [0, 1]. A text that is not wholly notation, or has no note, scores 0 throughout. Of use as alarms, filters
and simple rewards, and easy to exploit as such: a scale up and down pleases every rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import Any, final

import numpy as np
from jaxtyping import Float

from penchant.errors import ModelError
from penchant.feedback.tune import Caption, Tune, caption_of, parse
from penchant.judges.base import Judge
from penchant.models.completion import Completion

BARS = 8
LEAP = 7
# The middle 90 % of the strains that `zoo:tunes` learnt from.
RANGE = (10, 21)
_FALL = 12


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the rules say of one tune, see the top of this file."""

    form: float = 0.0
    valid: float = 0.0
    key: float = 0.0
    tonic: float = 0.0
    leap: float = 0.0
    repeat: float = 0.0
    range: float = 0.0


def rules(caption: Caption, tune: Tune, *, ended: bool = True) -> Rules:
    """The rules of a tune; `ended` says that it came to its end by itself."""
    if tune.unread or not tune.notes:
        return Rules()
    pitches = [note.pitch for note in tune.notes if note.pitch is not None]
    steps = [b - a for a, b in pairwise(pitches)]
    whole = ended and tune.bar_ends != () and tune.bar_ends[-1] == tune.ticks
    low, high = RANGE
    span = max(pitches) - min(pitches)
    return Rules(
        form=max(0.0, 1 - abs(tune.ticks / (BARS * caption.bar) - 1)) if whole else 0.0,
        valid=_valid(bar_ticks(tune), caption.bar),
        key=_share([pitch % 12 in caption.scale for pitch in pitches]),
        tonic=float(pitches[-1] % 12 == 0),
        leap=_share([abs(step) <= LEAP for step in steps]),
        repeat=_share([step != 0 for step in steps]),
        range=max(0.0, 1 - max(low - span, span - high, 0) / _FALL),
    )


def bar_ticks(tune: Tune) -> list[int]:
    """How long each bar lasts; what follows the last bar line is a bar too."""
    ends = [*tune.bar_ends]
    if tune.ticks > (ends[-1] if ends else 0):
        ends.append(tune.ticks)
    return [end - start for start, end in pairwise([0, *ends])]


def _valid(ticks: Sequence[int], full: int) -> float:
    if len(ticks) < 2:
        return _share([bar == full for bar in ticks])
    first, *inner, last = ticks
    edges = [True] if first + last == full else [first == full, last == full]
    return _share([*(bar == full for bar in inner), *edges])


def _share(true: Sequence[bool]) -> float:
    # Nothing to break a rule by breaks none.
    return sum(true) / len(true) if true else 1.0


@final
class TuneRules(Judge):
    """The rules as a judge. Every column is larger = better and in [0, 1]."""

    name, version = "tune-rules", "1"
    dimensions = ("form", "valid", "key", "tonic", "leap", "repeat", "range")

    def __init__(self, path: str | None = None) -> None:
        """
        Raises:
            ModelError: a path is given, there is nothing to load.
        """
        if path is not None:
            raise ModelError("has no weights.", file=path, remedy=f"name the judge alone: `{self.name}`.")

    def score(self, prompts: Sequence[str], samples: Sequence[Any]) -> Float[np.ndarray, "N D"]:
        """The rules of each tune, a text or a `Completion`; a text is taken to have ended by itself.

        Raises:
            FeedbackError: a prompt is no caption of a tune.
            ModelError: a sample is no text.
        """
        found = [
            astuple(rules(caption_of(prompt), parse(text), ended=ended))
            for prompt, (text, ended) in zip(prompts, _read(samples), strict=True)
        ]
        return np.array(found, dtype=np.float64).reshape(-1, len(self.dimensions))


def _read(samples: Sequence[Any]) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for row, sample in enumerate(samples):
        if isinstance(sample, Completion):
            found.append((sample.text, sample.finished))
        elif isinstance(sample, str):
            found.append((sample, True))
        else:
            kind = type(sample).__name__
            raise ModelError(f"tune-rules reads texts, not a {kind}.", row=row, remedy="give texts or completions.")
    return found
