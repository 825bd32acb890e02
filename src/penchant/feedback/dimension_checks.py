"""The doctor's look at dimensions beside `overall`: who wins, who ties, and whether a side is favoured."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from penchant.feedback.checks import Finding, preference
from penchant.feedback.groups import Group


def dimensions(groups: Sequence[Group]) -> Finding | None:
    """Each dimension's judged groups, share of ties and how often the first of two candidates wins, with its p value.

    Exact binomial test, ties excluded.
    """
    names = sorted({j.dimension for group in groups for j in group.judgements} - {"overall"})
    told = {name: facts for name in names if (facts := _facts(groups, name))}
    if not told:
        return None
    biased = [name for name, facts in told.items() if facts["p"] < 1e-3]
    lines = [
        f"{name}: {facts['judged']} judged, {facts['ties']:.1%} ties, the first wins {facts['first_wins']:.1%}"
        for name, facts in told.items()
    ]
    return Finding(
        name="dimensions",
        severity="warning" if biased else "info",
        message=f"{len(told)} dimensions beside the overall one. {'; '.join(lines)}.",
        remedy=f"in {', '.join(biased)} a side is favoured: shuffle the candidates, and find out why."
        if biased
        else "",
        count=len(told),
        details={"dimensions": told},
    )


def compared(group: Group, dimension: str) -> str | None:
    """`preference` in a dimension; where people compared and rated the same candidates, their comparisons count."""
    judgements = [j for j in group.judgements if j.dimension == dimension]
    if {j.kind for j in judgements} > {"score"}:
        judgements = [j for j in judgements if j.kind != "score"]
    return preference(replace(group, judgements=tuple(judgements)), dimension)


def _facts(groups: Sequence[Group], dimension: str) -> dict[str, Any] | None:
    from scipy.stats import binomtest

    pairs: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        if len(group.candidates) == 2 and (best := compared(group, dimension)) is not None:
            pairs[best if best == "tie" else "decided"].append("first" if group.candidates[0].id == best else "second")
    judged = sum(map(len, pairs.values()))
    if not judged:
        return None
    decided = Counter(pairs["decided"])
    count = decided.total()
    p = float(binomtest(decided["first"], count).pvalue) if count else 1.0
    first = decided["first"] / count if count else 0.5
    return {"judged": judged, "ties": len(pairs["tie"]) / judged, "first_wins": first, "p": p}
