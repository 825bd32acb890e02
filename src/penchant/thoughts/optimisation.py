"""A trace made better: segmented, cut at the earliest sufficient point, pruned, ended (DTO, arXiv 2505.21765).

Every trace ends as an `Optimised` or as the reason why not. Left out are traces without a sufficient point, and right
ones whose better version is not shorter: the paper does not say what becomes of them.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penchant.thoughts.exits import ExitRule, Tally, earliest
from penchant.thoughts.finalising import Ending, Finalising
from penchant.thoughts.pruning import ExitPruning, Kept, Pruning
from penchant.thoughts.rollouts import Cut, Rollouts
from penchant.thoughts.segmentation import Markers, Segment, Segmenter, joined
from penchant.thoughts.traces import Trace

NO_END = "the thought was not closed."
NOT_READ = "the thought is empty, or what divided it did not answer in the form that was asked for."
NO_EXIT = "no point of the thought is sufficient."
NO_ENDING = "no ending is right."
SAME_TEXT = "the better version is the trace itself."
NOT_SHORTER = "the trace is right and its better version is not shorter."


@dataclass(frozen=True, kw_only=True)
class Method:
    """How traces are made better.

    Attributes:
        segmenter: divides a thought into thinking patterns.
        exits: which point is sufficient.
        pruning: which patterns before it go; None removes none.
        ending: how the cut thought is ended.
    """

    segmenter: Segmenter = field(default_factory=Markers)
    exits: ExitRule = field(default_factory=ExitRule)
    pruning: Pruning | None = field(default_factory=ExitPruning)
    ending: Ending = field(default_factory=Finalising)


@dataclass(frozen=True, kw_only=True)
class Optimised:
    """A trace and its better version.

    Attributes:
        trace: the original.
        text: the better one: thought, words that end it, answer. Its answer is right.
        tokens: its length.
        segments: the patterns of the original.
        kept: which of them are left.
        exits: at each pattern, how many of how many tried answers were right.
    """

    trace: Trace
    text: str
    tokens: int
    segments: tuple[Segment, ...]
    kept: tuple[int, ...]
    exits: tuple[Tally, ...]


def optimise(rollouts: Rollouts, traces: Sequence[Trace], method: Method) -> list[Optimised | str]:
    """The better version of every trace, or in one sentence why there is none.

    All traces go through each step together, so that the generator gets them in one call.
    """
    out: dict[int, Optimised | str] = {}
    segments = divided(rollouts, traces, method.segmenter, out)
    points = earliest(rollouts, [cuts(traces[i], found) for i, found in segments.items()], method.exits)
    seen = dict(zip(segments, points, strict=True))
    out |= {i: NO_EXIT for i, (point, _) in seen.items() if point is None}
    kept = [kept_to(traces[i], segments[i], point) for i, (point, _) in seen.items() if point is not None]
    if method.pruning is not None:
        kept = method.pruning.prune(rollouts, kept, method.exits)
    texts = method.ending.end(rollouts, [one.cut() for one in kept], method.exits)
    work = [i for i, (point, _) in seen.items() if point is not None]
    for i, one, text in zip(work, kept, texts, strict=True):
        out[i] = _judged(rollouts, traces[i], text, segments[i], one, seen[i][1])
    return [out[i] for i in range(len(traces))]


def divided(
    rollouts: Rollouts, traces: Sequence[Trace], segmenter: Segmenter, reasons: MutableMapping[int, Any]
) -> dict[int, tuple[Segment, ...]]:
    """The thinking patterns of traces by index; why one has none goes into `reasons`."""
    thoughts = {i: rollouts.format.split(trace.text) for i, trace in enumerate(traces)}
    reasons.update({i: NO_END for i, parts in thoughts.items() if parts is None})
    closed = [i for i, parts in thoughts.items() if parts is not None]
    asked = [(traces[i].problem, parts[0]) for i, parts in thoughts.items() if parts is not None]
    found = dict(zip(closed, segmenter.divide(asked, rollouts.count), strict=True))
    reasons.update({i: NOT_READ for i, segments in found.items() if not segments})
    return {i: segments for i, segments in found.items() if segments}


def cuts(trace: Trace, segments: Sequence[Segment]) -> list[Cut]:
    """The thought cut after each of its patterns."""
    return [Cut(problem=trace.problem, thought=joined(segments[: i + 1])) for i in range(len(segments))]


def kept_to(trace: Trace, segments: Sequence[Segment], point: int) -> Kept:
    """The patterns up to and with number `point`."""
    return Kept(problem=trace.problem, segments=tuple(segments[: point + 1]), indices=tuple(range(point + 1)))


def _judged(
    rollouts: Rollouts,
    trace: Trace,
    text: str | None,
    segments: tuple[Segment, ...],
    kept: Kept,
    exits: tuple[Tally, ...],
) -> Optimised | str:
    if text is None:
        return NO_ENDING
    if text == trace.text:
        return SAME_TEXT
    tokens = rollouts.count(text)
    if trace.right and tokens >= trace.tokens:
        return NOT_SHORTER
    return Optimised(trace=trace, text=text, tokens=tokens, segments=segments, kept=kept.indices, exits=exits)
