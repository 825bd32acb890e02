"""The doctor's checks: each looks at all groups for one thing and returns a finding or None."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from penchant.feedback.groups import Group
from penchant.feedback.report import ReadingReport
from penchant.feedback.views import counted_rng, mixed_scales, scores

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing worth knowing: `error` should stop a run, `warning` should be looked at, `info` is only told."""

    name: str
    severity: Severity
    message: str
    remedy: str = ""
    count: int = 0
    details: dict[str, Any] = field(default_factory=dict)


def refused_rows(report: ReadingReport | None) -> Finding | None:
    """Rows the reader refused; more than half a percent is an error."""
    if report is None or not report.bad:
        return None
    share = report.bad / report.rows
    return Finding(
        name="refused rows",
        severity="error" if share > 0.005 else "warning",
        message=f"{report.bad} of {report.rows} rows were refused ({share:.1%}).",
        remedy="; ".join(f"{reason} {r.remedy}" for reason, r in report.refused.items()),
        count=report.bad,
    )


def preference(group: Group, dimension: str = "overall") -> str | None:
    """The id of the one best candidate, `tie`, or None when nobody judged (or the scales cannot be compared)."""
    if mixed_scales(j for j in group.judgements if j.dimension == dimension and j.weight > 0):
        return None
    judged = zip(scores(group, dimension), group.candidates, strict=True)
    given = [(value, c.id) for value, c in judged if value is not None]
    if len(given) < 2:
        return None
    best = max(value for value, _ in given)
    winners = [name for value, name in given if value == best]
    return winners[0] if len(winners) == 1 else "tie"


def _by_id(groups: Sequence[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        found[group.id].append(group)
    return found


def duplicates(groups: Sequence[Group]) -> Finding | None:
    """Groups with the same prompt and the same candidates, in whatever order."""
    repeated = {name: len(same) for name, same in _by_id(groups).items() if len(same) > 1}
    if not repeated:
        return None
    extra = sum(repeated.values()) - len(repeated)
    return Finding(
        name="duplicate groups",
        severity="error" if extra > 0.05 * len(groups) else "warning",
        message=f"{extra} groups repeat another's prompt and candidates.",
        remedy="merge their judgements into one group, or drop the repetitions.",
        count=extra,
        details={"groups": _first(repeated)},
    )


def contradictions(groups: Sequence[Group]) -> Finding | None:
    """The same prompt and candidates with opposite winners: between groups, or between judgements of one group."""
    contested = []
    for name, same in _by_id(groups).items():
        winners = set()
        for group in same:
            for judgement in group.judgements:
                if judgement.dimension == "overall":
                    alone = Group(prompt=group.prompt, candidates=group.candidates, judgements=(judgement,), id=name)
                    winners.add(preference(alone))
        if len(winners - {None, "tie"}) > 1:
            contested.append(name)
    if not contested:
        return None
    return Finding(
        name="contradictory judgements",
        severity="error" if len(contested) > 0.05 * len(groups) else "warning",
        message=f"{len(contested)} comparisons have judgements with opposite winners.",
        remedy="aggregate their votes into one group (soft labels), or drop them.",
        count=len(contested),
        details={"groups": contested[:5]},
    )


def shared_candidates(groups: Sequence[Group]) -> Finding | None:
    """One sample that stands in groups of different prompts or candidates."""
    places: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        for candidate in group.candidates:
            places[candidate.id].add(group.id)
    shared = {name: len(ids) for name, ids in places.items() if len(ids) > 1}
    if not shared:
        return None
    return Finding(
        name="candidates in several groups",
        severity="info",
        message=f"{len(shared)} samples stand in more than one group, at most in {max(shared.values())}.",
        remedy="fine within a split; split by prompt so that none stands in train and test.",
        count=len(shared),
        details={"candidates": _first(shared)},
    )


def position_bias(groups: Sequence[Group]) -> Finding | None:
    """Does the first candidate win more often than chance? Exact binomial test for each K, ties excluded."""
    from scipy.stats import binomtest

    wins: dict[int, list[bool]] = defaultdict(list)
    for group in groups:
        best = preference(group)
        if best not in (None, "tie"):
            wins[len(group.candidates)].append(group.candidates[0].id == best)
    if not wins:
        return None
    tests = {k: binomtest(sum(first), len(first), 1 / k) for k, first in wins.items()}
    worst = min(tests, key=lambda k: tests[k].pvalue)
    p, rate, n = float(tests[worst].pvalue), sum(wins[worst]) / len(wins[worst]), len(wins[worst])
    return Finding(
        name="position bias",
        severity="error" if p < 1e-6 else "warning" if p < 1e-3 else "info",
        message=f"the first of {worst} candidates wins {rate:.1%} of {n} decided groups (p = {p:.2g}).",
        remedy="shuffle the candidates, and find out whether annotators or the export favoured a side."
        if p < 1e-3
        else "",
        count=n,
        details={"p": p, "first_wins": rate, "candidates": worst},
    )


def ties(groups: Sequence[Group]) -> Finding | None:
    """The share of groups without a strict preference, and of groups nobody judged.

    Where all judgements are of other dimensions, `dimension_checks` has their ties.
    """
    judged = {j.dimension for group in groups for j in group.judgements}
    if judged and "overall" not in judged:
        return None
    decided = Counter(preference(group) for group in groups if len(group.candidates) > 1)
    tied, unjudged, total = decided["tie"], decided[None], sum(decided.values())
    if not total:
        return None
    share = tied / max(total - unjudged, 1)
    return Finding(
        name="ties",
        severity="warning" if share > 0.5 or unjudged else "info",
        message=f"{tied} of {total - unjudged} judged groups have no single best candidate ({share:.1%}); "
        f"{unjudged} groups are not judged.",
        remedy="choose a tie policy knowingly: `drop` would lose them." if share > 0.5 else "",
        count=tied,
        details={"share": share, "unjudged": unjudged},
    )


def agreement(groups: Sequence[Group]) -> Finding | None:
    """Krippendorff's alpha (nominal) of the winners that annotators chose, over comparisons two or more of them judged.

    The answer is coded by the winner's place among the *sorted* candidate ids, so codes mean the same in every unit and
    are balanced by chance.
    """
    units: dict[str, dict[str, int]] = defaultdict(dict)
    for group in groups:
        order = sorted(c.id for c in group.candidates)
        for judgement in group.judgements:
            if judgement.dimension == "overall" and judgement.annotator is not None and len(order) > 1:
                alone = Group(prompt=group.prompt, candidates=group.candidates, judgements=(judgement,))
                winner = preference(alone)
                if winner is not None:
                    units[group.id][judgement.annotator] = -1 if winner == "tie" else order.index(winner)
    units = {name: answers for name, answers in units.items() if len(answers) > 1}
    if not units:
        return None
    together = [len(set(answers.values())) == 1 for answers in units.values()]
    alpha = _alpha(list(units.values()))
    return Finding(
        name="annotator agreement",
        severity="warning" if alpha is not None and alpha < 0.2 else "info",
        message=f"{sum(together)} of {len(units)} comparisons judged by several annotators are unanimous; "
        + ("alpha is undefined." if alpha is None else f"Krippendorff's alpha = {alpha:.3f} (nominal, evalica)."),
        remedy="look at the guidelines and at single annotators; aggregate votes."
        if alpha is not None and alpha < 0.2
        else "",
        count=len(units),
        details={"alpha": alpha, "unanimous": sum(together) / len(units)},
    )


def _alpha(units: list[dict[str, int]]) -> float | None:
    import math

    import evalica
    import pandas as pd

    if len({answer for answers in units for answer in answers.values()}) < 2:
        return None
    table = pd.DataFrame(units).T
    alpha = float(evalica.alpha(table, distance="nominal").alpha)
    return alpha if math.isfinite(alpha) else None


def prompts(groups: Sequence[Group]) -> Finding:
    """How often prompts repeat."""
    counts = Counter(group.prompt for group in groups)
    top = {prompt[:80]: n for prompt, n in counts.most_common(5) if n > 1}
    first = max(top.values(), default=1)
    heavy = first > max(20, 0.1 * len(groups))
    return Finding(
        name="prompts",
        severity="warning" if heavy else "info",
        message=f"{len(counts)} distinct prompts in {len(groups)} groups; the commonest stands in {first}.",
        remedy="weight or subsample the commonest prompts." if heavy else "",
        count=len(groups) - len(counts),
        details={"top": top},
    )


def length_bias(groups: Sequence[Group]) -> Finding | None:
    """How often the longer of two texts wins: a policy learns length where it is most of what distinguishes them."""
    from scipy.stats import binomtest

    longer_wins = []
    for group in groups:
        lengths = {c.id: len(c.text) for c in group.candidates if c.text is not None and c.media is None}
        best = preference(group)
        if len(lengths) == len(group.candidates) == 2 and best in lengths and len(set(lengths.values())) == 2:
            longer_wins.append(lengths[best] == max(lengths.values()))
    if not longer_wins:
        return None
    rate, n = sum(longer_wins) / len(longer_wins), len(longer_wins)
    p = float(binomtest(sum(longer_wins), n).pvalue)
    heavy = p < 1e-3 and abs(rate - 0.5) > 0.15
    return Finding(
        name="length bias",
        severity="warning" if heavy else "info",
        message=f"the longer of two texts wins {rate:.1%} of {n} decided pairs (p = {p:.2g}).",
        remedy="report win rates with length control; SimPO and LD-DPO weaken it." if heavy else "",
        count=n,
        details={"p": p, "longer_wins": rate},
    )


def leakage(groups: Sequence[Group]) -> Finding | None:
    """Prompts that stand in more than one split (white space and case aside).

    `train_prefs` and `train_sft`, `test` and `test_unique` are parts of one split.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        if group.split is not None:
            splits[" ".join(group.prompt.lower().split())].add(group.split.partition("_")[0])
    leaked = [prompt for prompt, names in splits.items() if len(names) > 1]
    if not leaked:
        return None
    return Finding(
        name="prompt leakage",
        severity="error",
        message=f"{len(leaked)} prompts stand in more than one split.",
        remedy="split by prompt; a held-out result on these prompts is none.",
        count=len(leaked),
        details={"prompts": [prompt[:80] for prompt in leaked[:5]]},
    )


def pictures(groups: Sequence[Group], *, sample: int) -> list[Finding]:
    """Decode the images of up to `sample` groups: sizes, files that do not decode, near-duplicates inside a group."""
    from penchant.errors import MediaError
    from penchant.feedback.media import decode_image, dhash
    from penchant.feedback.video_files import is_clip

    sizes: Counter[tuple[int, int]] = Counter()
    broken: list[str] = []
    near: list[str] = []
    for group in sampled(groups, sample):
        hashes: list[int] = []
        for media in (c.media for c in group.candidates if c.media is not None and c.media.mime.startswith("image/")):
            try:
                if is_clip(data := media.bytes()):
                    continue
                image, _ = decode_image(data)
            except MediaError as error:
                broken.append(str(error))
                continue
            sizes[image.size] += 1
            hashes.append(dhash(image))
        if _any_near(hashes):
            near.append(group.id)
    return _picture_findings(sizes, broken, near)


def sampled(groups: Sequence[Group], sample: int) -> Sequence[Group]:
    """At most `sample` groups, the same ones every time."""
    if len(groups) <= sample:
        return groups
    chosen = counted_rng(0, "doctor").choice(len(groups), size=sample, replace=False)
    return [groups[int(k)] for k in sorted(chosen)]


# Four of 64 bits: re-encodings and small crops stay below, unrelated pictures differ in about 32.
_NEAR_BITS = 4


def _any_near(hashes: list[int]) -> bool:
    return any((a ^ b).bit_count() <= _NEAR_BITS for i, a in enumerate(hashes) for b in hashes[i + 1 :])


def _picture_findings(sizes: Counter[tuple[int, int]], broken: list[str], near: list[str]) -> list[Finding]:
    found: list[Finding] = []
    if broken:
        found.append(
            Finding(
                name="broken images",
                severity="error",
                message=f"{len(broken)} images do not decode; the first: {broken[0]}",
                remedy="read with verify_media=True, which refuses their rows.",
                count=len(broken),
            )
        )
    if near:
        found.append(
            Finding(
                name="near-duplicate candidates",
                severity="warning",
                message=f"{len(near)} groups hold two images that are nearly the same.",
                remedy="drop them: their preference is noise.",
                count=len(near),
                details={"groups": near[:5]},
            )
        )
    if sizes:
        common = ", ".join(f"{w}x{h} ({n})" for (w, h), n in sizes.most_common(5))
        histogram = {f"{w}x{h}": n for (w, h), n in sizes.most_common(20)}
        message = f"{sum(sizes.values())} images decoded in {len(sizes)} sizes: {common}."
        found.append(Finding(name="image sizes", severity="info", message=message, details={"sizes": histogram}))
    return found


def _first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5])


CHECKS: tuple[Callable[[Sequence[Group]], Finding | None], ...] = (
    duplicates,
    contradictions,
    shared_candidates,
    position_bias,
    length_bias,
    ties,
    agreement,
    prompts,
    leakage,
)
