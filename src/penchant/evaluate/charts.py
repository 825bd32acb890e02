"""Inline SVG charts: lines over steps, and the small interval glyph of the evidence table.

Written by hand instead of by matplotlib, so that colours come from the page's own style (light and dark alike), a chart
weighs a few kilobytes, and no namespace address of a metadata block enters the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from penchant.evaluate.curves import Curve
from penchant.evaluate.figures import count, number, percent, percent_range
from penchant.evaluate.markup import Markup, el, join
from penchant.evaluate.winrate import WinRate

POINTS = 240
"""Points drawn of a line; longer runs are averaged in bins of equal length."""

WIDTH, HEIGHT = 460, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 26


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve to draw; `style` counts from 0 (the accent) and chooses colour and dashes in the page's style sheet."""

    name: str
    curve: Curve
    style: int = 0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The data rectangle and where it lies on the paper."""

    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies on the paper."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)


def line_chart(lines: Sequence[Line], *, label: str, level: float | None = None) -> Markup:
    """A chart of curves over steps, each drawn faintly as logged and firmly as a moving mean.

    Args:
        lines: the curves; values that are not finite are left out.
        label: what a screen reader says.
        level: a value to mark with a horizontal line (0.5 for an accuracy).

    Returns:
        an <svg> element; a sentence in its place where no value is finite.
    """
    finite = [(line, points) for line in lines if (points := _finite(line.curve))]
    drawn = [(line, _binned(curve), _binned(_smooth(curve))) for line, curve in finite]
    points = [point for _, curve, _ in drawn for point in curve]
    if not points:
        return el("p", "No finite value was logged.", class_="quiet")
    frame = _line_frame(points, level, steps=[step for _, curve in finite for step, _ in curve])
    marks = [axes(frame)]
    if level is not None:
        (left, y), (right, _) = frame.place(frame.x[0], level), frame.place(frame.x[1], level)
        marks.append(el("line", x1=_n(left), x2=_n(right), y1=_n(y), y2=_n(y), class_="level"))
    for line, curve, smooth in reversed(drawn):
        style = f"line s{line.style % 4}"
        if len(curve) > 12:  # fewer points have no noise to smooth
            marks.append(el("path", d=_path(curve, frame), class_=f"{style} raw"))
            marks.append(el("path", d=_path(smooth, frame), class_=style))
        else:
            marks.append(el("path", d=_path(curve, frame), class_=style))
    return el("svg", *marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label, class_="chart")


def interval_glyph(win: WinRate) -> Markup:
    """The win rate as a dot and its interval as a bar on a scale from 0 to 100 %, with a line at 50 %.

    The dot is full where the interval leaves 50 % out, hollow where it does not.
    """
    low, rate, high = (4 + 132 * v for v in (win.low, win.rate, win.high))
    decided = win.better or win.worse
    return el(
        "svg",
        el("line", x1=4, x2=136, y1=9, y2=9, class_="axis"),
        el("line", x1=70, x2=70, y1=1, y2=17, class_="level"),
        el("line", x1=_n(low), x2=_n(high), y1=9, y2=9, class_="bar"),
        el("circle", cx=_n(rate), cy=9, r=4, class_="dot" if decided else "dot hollow"),
        viewBox="0 0 140 18",
        role="img",
        aria_label=f"{percent(win.rate)}, interval {percent_range(win.low, win.high)}",
        class_="glyph",
    )


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`."""
    rough = (high - low) / max(1, wanted - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _line_frame(points: Sequence[tuple[float, float]], level: float | None, *, steps: Sequence[float]) -> Frame:
    ys = sorted(y for _, y in points)
    low, high = ys[0], ys[-1]
    if len(ys) > 100:  # one spike must not flatten the rest; what is outside is drawn at the edge
        trimmed = ys[len(ys) // 200], ys[-1 - len(ys) // 200]
        if high - low > 4 * (trimmed[1] - trimmed[0]) > 0:
            low, high = trimmed
    if level is not None:
        low, high = min(low, level), max(high, level)
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    first, last = min(steps), max(steps)
    return Frame(x=(first, last if last > first else first + 1), y=(low - pad, high + pad))


def axes(frame: Frame, *, whole: bool = True) -> Markup:
    """Grid, axis and numbers; with `whole` only whole numbers stand on the horizontal axis."""
    marks = []
    for y in ticks(*frame.y, wanted=6):
        left, height = frame.place(frame.x[0], y)
        marks.append(el("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=_n(height), y2=_n(height), class_="grid"))
        marks.append(el("text", _tick(y), x=_n(left - 7), y=_n(height + 4), text_anchor="end"))
    for x in ticks(*frame.x, wanted=5 if whole else 7):
        if whole and x != round(x):
            continue
        across, _ = frame.place(x, frame.y[0])
        anchor = "end" if across > WIDTH - _RIGHT - 14 else "middle"
        marks.append(
            el("text", count(round(x)) if x == round(x) else _tick(x), x=_n(across), y=HEIGHT - 8, text_anchor=anchor)
        )
    base = HEIGHT - _BOTTOM
    marks.append(el("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=base, y2=base, class_="axis"))
    return join(marks)


def _tick(value: float) -> str:
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.6g}".replace("-", "\u2212")
    return number(value, 2)


def _finite(curve: Curve) -> list[tuple[float, float]]:
    return [(float(x), y) for x, y in zip(curve.steps, curve.values, strict=True) if math.isfinite(y)]


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Centred moving mean over a twentieth of the run; one-sided at the ends, where a shrinking window would wag."""
    half = max(1, len(points) // 40)
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    smoothed = []
    for i, (x, _) in enumerate(points):
        first, last = max(0, i - half), min(len(points), i + half + 1)
        smoothed.append((x, (sums[last] - sums[first]) / (last - first)))
    return smoothed


def _binned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    width = max(1, -(-len(points) // POINTS))
    bins = [points[i : i + width] for i in range(0, len(points), width)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in bins]


def _path(points: Sequence[tuple[float, float]], frame: Frame) -> str:
    low, high = frame.y
    placed = (frame.place(x, min(max(y, low), high)) for x, y in points)
    steps = [f"{_n(x)} {_n(y)}" for x, y in placed]
    if len(steps) == 1:  # a single point needs a length to be seen
        steps.append(steps[0])
    return "M" + "L".join(steps)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
