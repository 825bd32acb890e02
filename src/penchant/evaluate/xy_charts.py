"""Inline SVG charts of one measure over another: tracks of runs, and dots with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penchant.evaluate.charts import HEIGHT, WIDTH, Frame, axes
from penchant.evaluate.markup import Markup, el

MOST = 240
"""Points drawn of a track; of a longer one every n-th."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """A run's way through the plane, from its start to its end; `style` as in `penchant.evaluate.charts.Line`."""

    name: str
    points: tuple[tuple[float, float], ...]
    style: int = 0


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A named point; `style` None is the base."""

    name: str
    x: float
    y: float
    style: int | None = 0


def xy_chart(tracks: Sequence[Track], dots: Sequence[Dot] = (), *, label: str) -> Markup:
    """A chart of tracks and dots, finite points all.

    Args:
        tracks: drawn as lines with a dot at the end.
        dots: drawn with their names.
        label: what a screen reader says.
    """
    points = [point for track in tracks for point in track.points] + [(dot.x, dot.y) for dot in dots]
    frame = _frame(points)
    marks = [axes(frame, whole=False)]
    for track in reversed(tracks):
        placed = [frame.place(*point) for point in _thinned(track.points)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        marks.append(el("path", d=path, class_=f"line s{track.style % 4}"))
        marks.append(_circle(*placed[-1], style=track.style))
    marks += _named(dots, frame)
    return el("svg", *marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label, class_="chart")


def _named(dots: Sequence[Dot], frame: Frame) -> list[Markup]:
    """Dots with their names beside them: above, or below where another name stands already."""
    marks: list[Markup] = []
    taken: list[tuple[float, float]] = []
    for dot in dots:
        x, y = frame.place(dot.x, dot.y)
        left = x > 0.75 * WIDTH
        places = [max(12.0, y - 6), y + 15, y + 28, y - 20]
        free = [place for place in places if not any(abs(x - a) < 60 and abs(place - b) < 12 for a, b in taken)]
        at = free[0] if free else places[0]
        taken.append((x, at))
        name = el(
            "text", dot.name, x=f"{x + (-8 if left else 8):.1f}", y=f"{at:.1f}", text_anchor="end" if left else "start"
        )
        marks += [_circle(x, y, style=dot.style), name]
    return marks


def _frame(points: Sequence[tuple[float, float]]) -> Frame:
    def padded(values: Sequence[float], share: float) -> tuple[float, float]:
        low, high = min(values), max(values)
        pad = share * (high - low) or 0.1 * abs(high) or 1.0
        return low - pad, high + pad

    return Frame(x=padded([x for x, _ in points], 0.04), y=padded([y for _, y in points], 0.1))


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    every = max(1, -(-len(points) // MOST))
    return [*points[:-1:every], points[-1]]


def _circle(x: float, y: float, *, style: int | None) -> Markup:
    kind = "spot base" if style is None else f"spot s{style % 4}"
    return el("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=4, class_=kind)
