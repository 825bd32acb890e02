"""Pictures of music: the piano roll of a tune, the wave and the spectrogram of a sound; small, and without a script."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import numpy as np

from penchant.evaluate.figures import count
from penchant.evaluate.markup import Markup, el
from penchant.feedback.sound import Sound
from penchant.feedback.tune import Tune

WIDTH = 1000
"""Units across a picture."""

_SEMITONE, _PAD, _LEAST = 7, 6, 14  # units a semitone and at the edges; semitones shown at least
_COLUMNS, _ROWS = 320, 48  # of a spectrogram
_DEEP = 60.0  # dB below the loudest that a spectrogram shows
_TINT = (38, 140, 145)  # seen on light and on dark paper


@dataclass(frozen=True, kw_only=True)
class Stave:
    """What the piano rolls of a row share, so that lengths and heights can be compared: the longest tune in ticks, the
    lowest and the highest note."""

    ticks: int
    low: int
    high: int

    @classmethod
    def of(cls, tunes: list[Tune]) -> Stave:
        """The smallest one that holds all tunes."""
        pitches = [note.pitch for tune in tunes for note in tune.notes if note.pitch is not None] or [0]
        low, high = min(pitches), max(pitches)
        missing = max(0, _LEAST - (high - low))
        return cls(
            ticks=max(1, *(tune.ticks for tune in tunes)), low=low - missing // 2, high=high + missing - missing // 2
        )

    @property
    def height(self) -> int:
        """Units from top to bottom."""
        return (self.high - self.low + 1) * _SEMITONE + 2 * _PAD

    def x(self, tick: float) -> float:
        """Where a tick lies."""
        return WIDTH * tick / self.ticks

    def y(self, pitch: int) -> float:
        """The middle of a note's line."""
        return _PAD + (self.high - pitch + 0.5) * _SEMITONE


def piano_roll(tune: Tune, stave: Stave, *, label: str, heard: float = 1.0, finished: bool = True) -> Markup:
    """A tune as bars over time: pitch upwards, tonics as lines, bar lines faint.

    Args:
        tune: what is drawn.
        stave: the scales of the row.
        label: what a screen reader says first.
        heard: share of the tune that the player plays; the rest is drawn paler.
        finished: whether it ended by itself; otherwise a dashed line stands at its end.
    """
    end = stave.x(tune.ticks * heard)
    notes = [(stave.x(n.start), stave.x(n.start + n.ticks), stave.y(n.pitch or 0)) for n in tune.notes]
    bars = "".join(f"M{_n(stave.x(tick))} 0V{stave.height}" for tick in tune.bar_ends)
    tonics = range(-(-stave.low // 12) * 12, stave.high + 1, 12)
    lines = "".join(f"M0 {_n(stave.y(pitch))}H{_n(stave.x(tune.ticks))}" for pitch in tonics)
    marks = [
        el("path", d=bars, class_="bars") if bars else None,
        el("path", d=lines, class_="tonics") if lines else None,
        _strokes([note for note in notes if note[0] < end], "notes"),
        _strokes([note for note in notes if note[0] >= end], "notes unheard"),
    ]
    if not finished:
        at = min(WIDTH - 1, stave.x(tune.ticks) + 3)
        marks.append(el("path", d=f"M{_n(at)} 0V{stave.height}", class_="cut"))
    words = f"{label}: piano roll, {count(len(notes))} notes in {count(tune.bars)} bars"
    return el("svg", *marks, viewBox=f"0 0 {WIDTH} {stave.height}", role="img", aria_label=words, class_="roll")


def wave(sound: Sound, seconds: float, *, label: str) -> Markup:
    """The envelope of a sound over `seconds`, which the sounds of a row share."""
    samples = np.abs(sound.mono())
    width = WIDTH * sound.seconds / seconds
    bins = max(1, min(_COLUMNS, len(samples)))
    edges = np.linspace(0, len(samples), bins + 1).astype(np.int64)
    peaks = np.maximum.reduceat(samples, edges[:-1]).clip(0, 1)
    at = (np.arange(bins) + 0.5) * width / bins
    upper = [f"{_n(x)} {_n(30 - 29 * p)}" for x, p in zip(at, peaks, strict=True)]
    lower = [f"{_n(x)} {_n(30 + 29 * p)}" for x, p in zip(at[::-1], peaks[::-1], strict=True)]
    path = el("path", d="M" + "L".join([*upper, *lower]) + "Z", class_="wave")
    return el("svg", path, viewBox=f"0 0 {WIDTH} 60", role="img", aria_label=f"{label}: wave", class_="roll")


def spectrogram(sound: Sound, seconds: float, *, label: str) -> Markup:
    """Level over time and frequency (each row a factor more), the loudest opaque; over `seconds`, as `wave`."""
    from PIL import Image

    alpha = _levels(sound)
    picture = np.empty((*alpha.shape, 4), dtype=np.uint8)
    picture[..., :3], picture[..., 3] = _TINT, alpha
    buffer = BytesIO()
    Image.fromarray(picture, "RGBA").save(buffer, format="PNG", optimize=True)
    return el(
        "img",
        src=f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}",
        alt=f"{label}: spectrogram",
        class_="spectrogram",
        style=f"width:{100 * sound.seconds / seconds:.4g}%",
    )


def _levels(sound: Sound) -> np.ndarray:
    """Opacity uint8 [rows, columns] of a spectrogram, high frequencies first."""
    samples, n = sound.mono().astype(np.float64), 1024
    samples = np.pad(samples, (n // 2, n // 2))
    starts = np.linspace(0, len(samples) - n, min(_COLUMNS, max(1, len(samples) // 64))).astype(np.int64)
    frames = samples[starts[:, None] + np.arange(n)] * np.hanning(n)
    power = np.abs(np.fft.rfft(frames, axis=-1)) ** 2
    frequencies = np.fft.rfftfreq(n, 1 / sound.rate)
    edges = np.geomspace(max(40.0, frequencies[1]), sound.rate / 2, _ROWS + 1)
    rows = [
        power[:, (frequencies >= low) & (frequencies <= high)].max(-1)
        if ((frequencies >= low) & (frequencies <= high)).any()
        else power[:, int(np.argmin(np.abs(frequencies - (low * high) ** 0.5)))]
        for low, high in pairwise(edges)
    ]
    level = 10 * np.log10(np.maximum(np.stack(rows[::-1]), 1e-20))
    return (255 * ((level - level.max()) / _DEEP + 1).clip(0, 1)).astype(np.uint8)


def _strokes(notes: list[tuple[float, float, float]], kind: str) -> Markup | None:
    if not notes:
        return None
    # A gap lets two equal notes be seen as two.
    path = "".join(f"M{_n(x)} {_n(y)}H{_n(max(x + 0.8, end - 1.2))}" for x, end, y in notes)
    return el("path", d=path, class_=kind)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
