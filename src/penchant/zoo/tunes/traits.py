"""What the simulated listeners of tunes hear: eight traits, each a rule that anybody can check by counting.

No model is in them. All are 0 to 1; two are of `judges.tune_rules`.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import numpy as np
from jaxtyping import Float

from penchant.feedback.tune import Tune, caption_of, parse
from penchant.judges.tune_rules import rules

TRAITS = ("valid bars", "tonic", "form", "steps", "range", "arrival", "leaps", "stuck")
"""In the order of `traits`; the last two are faults."""

_FORM, _RANGE, _OCTAVE = (0.2, 0.6), (10, 17), 12


def traits(caption: str, text: str) -> Float[np.ndarray, 8]:
    """The traits of a tune.

    | trait | value |
    |---|---|
    | valid bars | share of the bars that last as long as the caption's metre says (`valid` of tune-rules) |
    | tonic | 1 if the last note is the tonic |
    | form | 1 if 20 to 60 % of the bars are exact repetitions of earlier ones |
    | steps | share of the intervals that are one or two semitones |
    | range | 1 if highest and lowest note are 10 to 17 semitones apart |
    | arrival | 1 if the last note is at least 1.5 times as long as the middle one of all lengths |
    | leaps | share of the intervals that are wider than an octave |
    | stuck | share of the notes that are at least the third of the same pitch in a row |

    Args:
        caption: such as "slip jig in 9/8, dorian".
        text: the tune in the words of `feedback.tune`.

    Raises:
        FeedbackError: the caption is none.
    """
    tune = parse(text)
    counted = rules(caption_of(caption), tune)
    pitches = [note.pitch for note in tune.notes if note.pitch is not None]
    if not pitches:
        return np.zeros(len(TRAITS))
    widths = [abs(b - a) for a, b in pairwise(pitches)]
    stuck = [a == b == c for a, b, c in zip(pitches, pitches[1:], pitches[2:], strict=False)]
    lengths = [note.ticks for note in tune.notes]
    return np.array(
        [
            counted.valid,
            counted.tonic,
            _FORM[0] <= _repetition(tune) <= _FORM[1],
            _share([1 <= width <= 2 for width in widths]),
            _RANGE[0] <= max(pitches) - min(pitches) <= _RANGE[1],
            lengths[-1] >= 1.5 * median(lengths),
            _share([width > _OCTAVE for width in widths]),
            sum(stuck) / len(pitches),
        ],
        dtype=float,
    )


def _repetition(tune: Tune) -> float:
    bars: dict[int, list[str]] = {}
    for event in tune.events:
        bars.setdefault(event.bar, []).append(event.word)
    said = [tuple(words) for words in bars.values()]
    return _share([bar in said[:i] for i, bar in enumerate(said)])


def _share(true: list[bool]) -> float:
    return sum(true) / len(true) if true else 0.0
