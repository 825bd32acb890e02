"""Part (a) of DTO's reproduction: what the construction does to the thinker's traces, and the feedback it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from dto_bench import RUNS, flops, ratio, rollouts, traces

FIGURE = Path(__file__).resolve().parent.parent / "docs" / "dto-exits.png"
CURVES = 100  # problems whose every exit is drawn


@cache
def results(pruned: bool = True) -> list[list[Any]]:
    """What became of every trace, also of problems that are always wrong."""
    from penchant.thoughts import optimise
    from penchant.zoo.thinker.thoughts import thinker_thoughts

    method = thinker_thoughts().method
    found = optimise(
        rollouts(), [t for some in traces() for t in some], method if pruned else replace(method, pruning=None)
    )
    each = len(traces()[0])
    return [found[i : i + each] for i in range(0, len(found), each)]


@cache
def random_cuts() -> list[list[Any]]:
    """As many patterns as DTO kept of each trace, but drawn at random; ended like DTO's, right and shorter as there."""
    from penchant.likelihoods.randomness import generator
    from penchant.thoughts import Optimised
    from penchant.thoughts.optimisation import NO_ENDING, SAME_TEXT
    from penchant.thoughts.pruning import Kept
    from penchant.zoo.thinker.thoughts import thinker_thoughts

    method, kept = thinker_thoughts().method, []
    for result in (r for some in results() for r in some if isinstance(r, Optimised)):
        draw = generator(0, 0, result.trace.id, "random-cut").permutation(len(result.segments))
        indices = tuple(sorted(int(i) for i in draw[: len(result.kept)]))
        kept.append(Kept(problem=result.trace.problem, segments=result.segments, indices=indices))
    texts = iter(zip(kept, method.ending.end(rollouts(), [k.cut() for k in kept], method.exits), strict=True))

    def cut(result: Any) -> Any:
        if not isinstance(result, Optimised):
            return result
        one, text = next(texts)
        if text is None:
            return NO_ENDING
        tokens = rollouts().count(text)
        short = not result.trace.right or tokens < result.trace.tokens
        return replace(result, text=text, tokens=tokens, kept=one.indices) if short else SAME_TEXT

    return [[cut(result) for result in some] for some in results()]


def feedback() -> dict[str, int]:
    """Writes the feedback of every method; returns how many groups each has."""
    from penchant.feedback import replace_groups
    from penchant.thoughts.pairs import ALL_WRONG, optimised_pairs, right_wrong, shortest_longest, shortest_right

    name = rollouts().verifier.name

    def optimised(found: Sequence[Sequence[Any]], made: str) -> list[Any]:
        usable = [
            some if any(t.right for t in of) else [ALL_WRONG] * len(some)
            for some, of in zip(found, traces(), strict=True)
        ]
        return optimised_pairs(usable, verifier=name, settings={"made": made})[0]

    groups = {
        "shortest-right": shortest_right(traces(), verifier=name),
        "shortest-longest": shortest_longest(traces(), verifier=name),
        "right-wrong": right_wrong(traces(), verifier=name),
        "dto": optimised(results(), "optimised"),
        "no-prune": optimised(results(pruned=False), "optimised without pruning"),
        "random-cut": optimised(random_cuts(), "cut at random"),
    }
    for method, some in groups.items():
        replace_groups(some, RUNS / "feedback" / method)
    return {method: len(some) for method, some in groups.items()}


def saved(found: Sequence[Sequence[Any]], *, right: bool) -> dict[str, Any]:
    """What a construction did to the traces that were right, or to those that were not.

    A right trace without a better version counts as it is. `changed` is the share that got one (of wrong traces: the
    rescued); `flops` and `tokens` are what is left of them, as shares.
    """
    from penchant.thoughts import Optimised

    rows = []
    for some, of in zip(found, traces(), strict=True):
        pairs = [(r, t) for r, t in zip(some, of, strict=True) if t.right == right]
        better = [(r.tokens if isinstance(r, Optimised) else t.tokens, t) for r, t in pairs]
        rows.append(
            (
                len(pairs),
                sum(isinstance(r, Optimised) for r, _ in pairs),
                sum(n for n, _ in better),
                sum(t.tokens for _, t in better),
                sum(flops(t.problem.text, n) for n, t in better),
                sum(flops(t.problem.text, t.tokens) for _, t in better),
            )
        )
    count, changed, after, before, flops_after, flops_before = zip(*rows, strict=True)
    return {
        "traces": sum(count),
        "changed": ratio(changed, count),
        "tokens": ratio(after, before),
        "flops": ratio(flops_after, flops_before),
    }


@cache
def curves() -> dict[str, Any]:
    """Exit probability after every pattern, by how many patterns a trace has and what it came to, with intervals."""
    from penchant.thoughts.exits import probabilities
    from penchant.thoughts.optimisation import cuts, divided
    from penchant.zoo.thinker.thoughts import thinker_thoughts

    made, method = rollouts(), thinker_thoughts().method
    some = [t for of in traces()[:CURVES] for t in of]
    segments = divided(made, some, method.segmenter, {})
    asked = [cut for i, found in segments.items() for cut in cuts(some[i], found)]
    p = iter(probabilities(made, asked, method.exits))
    rows = [(some[i], [next(p) for _ in found]) for i, found in segments.items()]
    out: dict[str, Any] = {}
    for which, keep in (("all", None), ("right", True), ("wrong", False)):
        for length in (1, 2, 3, 4):
            chosen = [(t, line) for t, line in rows if len(line) == length and keep in (None, t.right)]
            if len({t.problem.text for t, _ in chosen}) > 1:
                out[f"{which}, {length}"] = {"traces": len(chosen), "points": _along(chosen)}
    return out


def _along(rows: Sequence[tuple[Any, list[float]]]) -> list[list[float]]:
    texts = sorted({t.problem.text for t, _ in rows})
    return [
        ratio(
            [sum(line[k] for t, line in rows if t.problem.text == text) for text in texts],
            [sum(t.problem.text == text for t, _ in rows) for text in texts],
        )
        for k in range(len(rows[0][1]))
    ]


def draw(lines: dict[str, Any]) -> None:
    """The figure of the curves."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True)
    for panel, which in zip(panels, ("all", "right", "wrong"), strict=True):
        for length, colour in zip((1, 2, 3, 4), ("#888888", "#4477aa", "#228833", "#cc3311"), strict=True):
            found = lines.get(f"{which}, {length}")
            if found is None:
                continue
            middle, low, high = np.array(found["points"]).T
            x = np.arange(1, length + 1) + 0.04 * (length - 2)
            panel.errorbar(
                x, middle, [middle - low, high - middle], marker="o", color=colour, capsize=2, label=f"of {length}"
            )
        panel.axhline(0.5, color="#bbbbbb", linewidth=0.8)
        panel.set(title=f"{which} traces", xlabel="after pattern", xticks=[1, 2, 3, 4], ylim=(0, 1.02))
    panels[0].set_ylabel("exit probability")
    panels[0].legend(title="patterns", frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=120, metadata={"Software": None})
    plt.close(figure)


def construction() -> dict[str, Any]:
    """Part (a)."""
    from penchant.thoughts.budget import saving
    from penchant.thoughts.optimisation import divided
    from penchant.zoo.thinker.thoughts import thinker_thoughts

    everything, made = [t for some in traces() for t in some], rollouts()
    segments = divided(made, everything, thinker_thoughts().method.segmenter, {})
    found = results()
    exits = str(saving(made.spent, samples=thinker_thoughts().method.exits.samples))
    done = {"DTO": found, "DTO without pruning": results(pruned=False), "DTO with random cuts": random_cuts()}
    draw(curves())
    return {
        "problems": len(traces()),
        "traces": len(everything),
        "right": float(np.mean([t.right for t in everything])),
        "patterns": float(np.mean([len(some) for some in segments.values()])),
        "tokens": float(np.mean([t.tokens for t in everything])),
        "feedback": feedback(),
        "right traces": {name: saved(some, right=True) for name, some in done.items()},
        "wrong traces": {name: saved(some, right=False) for name, some in done.items()},
        "exits": exits,
        "curves": curves(),
    }
