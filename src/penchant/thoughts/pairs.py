"""Feedback of traces: a better trajectory against the one it was made from, and the pairs that it is compared with.

`optimised_pairs` is DTO's (arXiv 2505.21765): chosen = the optimised trajectory, rejected = its original, which is
longer, or wrong. That the rejected one is the very original is ours: the paper says "suboptimal". The others are
baselines that need no cut: the shortest right trace alone (SFT), against the longest right one, against a wrong one.

Never the same text on both sides, never the same pair twice. The preference is a rule's: right is better than wrong,
then shorter is better than longer. Its judgements are of source `judge:NAME`, NAME being the verifier that said what is
right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penchant.feedback.groups import Candidate, Group, Judgement, Kind, Prompt
from penchant.thoughts.optimisation import Optimised
from penchant.thoughts.traces import Trace

ALL_WRONG = "every trace of the problem is wrong."
TWICE = "another trace of the problem gave the same pair."


def optimised_pairs(
    results: Sequence[Sequence[Optimised | str]], *, verifier: str, settings: Mapping[str, Any]
) -> tuple[list[Group], dict[str, int]]:
    """A pair for every trace that has a better version.

    Args:
        results: for every problem what became of its traces.
        verifier: name of the verifier.
        settings: what made the trajectories, for the candidates' records.

    Returns:
        (pairs, how many traces gave none, by reason).
    """
    groups: list[Group] = []
    refused: dict[str, int] = {}
    for problem in results:
        found: set[str] = set()
        for result in problem:
            pair = result if isinstance(result, str) else _pair(result, verifier, settings)
            reason = pair if isinstance(pair, str) else TWICE if pair.id in found else None
            if reason is not None:
                refused[reason] = refused.get(reason, 0) + 1
            elif isinstance(pair, Group):
                groups.append(pair)
                found.add(pair.id)
    return groups, refused


def shortest_longest(traces: Sequence[Sequence[Trace]], *, verifier: str) -> list[Group]:
    """The shortest right trace of each problem against its longest right one, where their lengths differ."""
    pairs = []
    for some in traces:
        right = sorted(_distinct(trace for trace in some if trace.right), key=_length)
        if len(right) > 1 and right[0].tokens < right[-1].tokens:
            pairs.append(_of(right[0], right[-1], verifier))
    return pairs


def right_wrong(traces: Sequence[Sequence[Trace]], *, verifier: str) -> list[Group]:
    """Right traces of each problem against wrong ones, first against first and so on, none used twice."""
    pairs = []
    for some in traces:
        right = _distinct(trace for trace in some if trace.right)
        wrong = _distinct(trace for trace in some if not trace.right)
        pairs += [_of(a, b, verifier) for a, b in zip(right, wrong, strict=False)]
    return pairs


def shortest_right(traces: Sequence[Sequence[Trace]], *, verifier: str) -> list[Group]:
    """The shortest right trace of each problem, alone (K = 1): what SFT learns from."""
    found = []
    for some in traces:
        right = sorted((trace for trace in some if trace.right), key=_length)
        if right:
            found.append(_group(right[0].problem, (_candidate(right[0]),), verifier, {}))
    return found


def _length(trace: Trace) -> tuple[int, str]:
    # The text breaks ties: an order of equals that follows the sampling would not survive another order.
    return trace.tokens, trace.text


def _distinct(traces: Any) -> list[Trace]:
    return list({trace.text: trace for trace in traces}.values())


def _pair(result: Optimised, verifier: str, settings: Mapping[str, Any]) -> Group:
    chosen = Candidate(text=result.text, settings={"right": True, "tokens": result.tokens, **settings})
    how = {
        "patterns": [segment.pattern for segment in result.segments],
        "kept": list(result.kept),
        "exits": [[tally.right, tally.tried] for tally in result.exits],
    }
    return _group(result.trace.problem, (chosen, _candidate(result.trace)), verifier, {"thoughts": how})


def _of(chosen: Trace, rejected: Trace, verifier: str) -> Group:
    return _group(chosen.problem, (_candidate(chosen), _candidate(rejected)), verifier, {})


def _candidate(trace: Trace) -> Candidate:
    settings = {"right": trace.right, "tokens": trace.tokens, "made": "sampled"}
    return Candidate(text=trace.text, seed=trace.seed, settings=settings)


def _group(problem: Prompt, candidates: tuple[Candidate, ...], verifier: str, extra: Mapping[str, Any]) -> Group:
    values = (1.0, 0.0) if len(candidates) == 2 else (1.0,)
    kind: Kind = "pair" if len(candidates) == 2 else "binary"
    asked = {"messages": [dict(message) for message in problem.messages]} if problem.messages else {}
    return Group(
        prompt=problem.text,
        candidates=candidates,
        judgements=(Judgement(kind=kind, values=values, source=f"judge:{verifier}"),),
        extra={**asked, **extra},
    )
