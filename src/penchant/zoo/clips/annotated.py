"""Annotated pairs of real clips, spoilt to known degrees: `zoo:clips/annotated`, made on first use from the footage.

Every side of a pair is a window of a real animation. Its picture is spoilt to a level of 0 to 4 (VQ), its motion too
(MQ), and it shows what the caption says (TA level 0), another thing of its category (2) or of another category (4).
Levels of the three dimensions are drawn apart, so that no dimension tells another; one of the second side is like the
first's in a quarter of the pairs, and in 15 % all three are: two windows and two draws of the same faults. Simulated
annotators say what is better (`annotators.py`). The clips are real, faults and labels are simulated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from penchant.assets import path
from penchant.feedback import Candidate, Group, Judgement, Media, export_groups
from penchant.feedback.clip import Clip
from penchant.feedback.video_files import encode_clip
from penchant.likelihoods.randomness import generator
from penchant.zoo.clips import corruptions, footage
from penchant.zoo.clips.annotators import Label, judge
from penchant.zoo.clips.data import FPS, Footage, motion

DIMENSIONS = ("VQ", "MQ", "TA")
LABELS, RATINGS = "simulated:panel", "simulated:likert"
# Pairs a caption; few captions are held out, so that theirs are more.
PAIRS = {"train": 6, "validation": 6, "test": 12}
FILE = "annotated.parquet"
# Counted up whenever the same footage would give other pairs.
_EDITION = 1

_TWINS, _ALIKE = 0.15, 0.25
_SPOILT = (0.35, 0.1625, 0.1625, 0.1625, 0.1625)
_OTHER = (0.6, 0.0, 0.25, 0.0, 0.15)
# Where less moves than this (grey levels), order and pauses of frames cannot be seen; only shaking can.
_MOVES = 3.0
_VALUES: dict[Label, tuple[float, float]] = {"A": (1.0, 0.0), "same": (0.5, 0.5), "B": (0.0, 1.0)}


@dataclass(frozen=True, kw_only=True)
class _Side:
    """How one side is made: what it shows, from which frame on, and its faults as level and kind."""

    shown: Footage
    start: int
    levels: tuple[int, int, int]
    visual: str
    motion: str


def groups(loops: Sequence[Footage]) -> Iterator[Group]:
    """All pairs, in the order of the captions; a pure function of the footage."""
    for loop in loops:
        for number in range(PAIRS[loop.split]):
            made = _pair(loop, number, loops)
            # Two windows of a clip that hardly moves may have the same pixels.
            if made.candidates[0].id != made.candidates[1].id:
                yield made


def version() -> str:
    """Names what `write` would write: the edition of these rules and the footage."""
    data = (path("clips/footage") / footage.VIDEO).read_bytes()
    return f"{_EDITION}-{hashlib.sha256(data).hexdigest()[:8]}"


def write(folder: Path) -> None:
    """Writes the pairs of the shipped footage as `annotated.parquet` in `folder`.

    Raises:
        MediaError: PyAV is not installed.
    """
    export_groups(groups(footage.read(path("clips/footage"))), folder / FILE)


def _pair(loop: Footage, number: int, loops: Sequence[Footage]) -> Group:
    rng = generator(0, number, loop.caption, "annotated")
    first = _side(loop, rng, loops)
    second = _like(first, _side(loop, rng, loops), rng)
    candidates = tuple(_candidate(side, rng) for side in (first, second))
    judgements = []
    for dimension, a, b in zip(DIMENSIONS, first.levels, second.levels, strict=True):
        said = judge(a, b, rng)
        extra = {"votes": list(said.votes), "reviewed": said.reviewed}
        label = Judgement(kind="pair", values=_VALUES[said.label], dimension=dimension, source=LABELS, extra=extra)
        judgements += [label, Judgement(kind="score", values=said.ratings, dimension=dimension, source=RATINGS)]
    return Group(
        prompt=loop.caption, candidates=candidates, judgements=tuple(judgements), split=loop.split, licence="MIT"
    )


def _side(loop: Footage, rng: np.random.Generator, loops: Sequence[Footage]) -> _Side:
    visual, moved = (int(rng.choice(5, p=_SPOILT)) for _ in range(2))
    shown, alignment = _shown(loop, int(rng.choice(5, p=_OTHER)), rng, loops)
    return _Side(
        shown=shown,
        start=int(rng.integers(len(shown.frames))),
        levels=(visual, moved, alignment),
        visual=str(rng.choice(list(corruptions.VISUAL))),
        motion=str(rng.choice(_kinds(shown))),
    )


def _shown(loop: Footage, level: int, rng: np.random.Generator, loops: Sequence[Footage]) -> tuple[Footage, int]:
    """The clip that a side shows for the caption and its TA level, always of the caption's own split."""
    if not level:
        return loop, 0
    near = [c for c in loops if c.split == loop.split and c.category == loop.category and c.caption != loop.caption]
    far = [c for c in loops if c.split == loop.split and c.category != loop.category]
    # A caption that is alone in its category has no near ones.
    chosen, level = (near, 2) if level == 2 and near else (far, 4)
    return chosen[int(rng.integers(len(chosen)))], level


def _like(first: _Side, second: _Side, rng: np.random.Generator) -> _Side:
    """`second` with some dimensions like the first's, or all; and never from the same frame of the same clip."""
    visual, moved, aligned = (rng.random(3) < _ALIKE) | (rng.random() < _TWINS)
    levels = list(second.levels)
    if visual:
        levels[0], second = first.levels[0], replace(second, visual=first.visual)
    if aligned and levels[2] != first.levels[2]:
        levels[2], second = first.levels[2], replace(second, shown=first.shown)
    if moved:
        levels[1], second = first.levels[1], replace(second, motion=first.motion)
    if second.motion not in _kinds(second.shown):
        second = replace(second, motion="shake")
    start, length = second.start, len(second.shown.frames)
    if second.shown is first.shown and start % length == first.start:
        start += length // 2
    return replace(second, start=start % length, levels=(levels[0], levels[1], levels[2]))


def _kinds(shown: Footage) -> list[str]:
    """The corruptions of motion that can be seen in a clip."""
    return list(corruptions.MOTION) if motion(shown.frames) >= _MOVES else ["shake"]


def _candidate(side: _Side, rng: np.random.Generator) -> Candidate:
    frames = side.shown.window(side.start)
    frames = corruptions.apply(corruptions.MOTION, side.motion, frames, side.levels[1], rng)
    frames = corruptions.apply(corruptions.VISUAL, side.visual, frames, side.levels[0], rng)
    faults = {"VQ": f"{side.visual} {side.levels[0]}", "MQ": f"{side.motion} {side.levels[1]}"}
    settings = {**faults, "TA": f"{side.shown.caption} {side.levels[2]}"}
    data = encode_clip(Clip(frames=frames, fps=FPS))
    return Candidate(media=Media.of(data), model="fluent animated", settings=settings)
