"""The sections of a report, each a function of the report's data; None where there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from penchant.evaluate.alarm import Alarm
from penchant.evaluate.charts import Line, interval_glyph, line_chart
from penchant.evaluate.contents import PolicyResult, ReportData, Timing
from penchant.evaluate.diversity import Diversity
from penchant.evaluate.drift import Drift, SequenceKL
from penchant.evaluate.evidence import Evidence, words_of
from penchant.evaluate.figures import count, duration, number, percent, percent_range, size
from penchant.evaluate.markup import Markup, el, join
from penchant.evaluate.tables import table
from penchant.evaluate.winrate import LEVEL, RESAMPLES
from penchant.evaluate.words import spelt

CHARTS: tuple[tuple[str, str, float | None], ...] = (
    ("loss", "Loss", None),
    ("rewards/accuracies", "Implicit accuracy (share of pairs ordered as preferred)", 0.5),
    ("rewards/margins", "Margin (implicit reward of preferred minus rejected)", 0.0),
    ("drift/chosen", "Winner drift (log-prob of the preferred, policy minus base)", 0.0),
    ("logps/chosen", "Log-prob of the preferred samples", None),
    ("rewards/mean", "Mean reward of the samples that were drawn", None),
    ("kl/sequence", "KL from the reference, nats a sample", 0.0),
    ("kl", "KL from the reference, as training logged it", 0.0),
    ("rollouts/steps", "Tokens or transitions of a sample", None),
    ("rollouts/surprise", "Mean surprise of a token or transition, nats: the policy\u2019s entropy", None),
    ("rollouts/unfinished", "Share of samples without an end", 0.0),
)
"""(metric, title, marked level) of the charts; a metric that no run logged has no chart."""

MAY_STAND_STILL = ("rollouts/steps", "rollouts/unfinished")
"""No chart where these never move: pictures, say, all have as many transitions, and an end."""

DISTANCES = {
    "pixel_mse": "Pixel MSE",
    "feature_cosine": "Feature distance",
    "word_distance": "Word distance",
    "tune_distance": "Melodic distance",
    "pitch_classes": "Pitch classes, Jensen\u2013Shannon bits",
    "durations": "Durations, Jensen\u2013Shannon bits",
    "spectrum_db": "Spectrum, dB",
    "log_ratio": "Mean log-ratio",
    "divergence": "Divergence",
}
"""What the distances of a `Drift` are called."""


def evidence(data: ReportData) -> Markup:
    """The table of win rates: caption sets, in them judges, in them policies."""
    rows = [row for policy in data.policies for row in policy.evidence]
    if not rows:
        return el("p", "No judge has scored this run's samples.", class_="quiet")
    several = len(data.policies) > 1
    controlled, prompts = any(row.controlled for row in rows), data.words.prompts
    titles = ["Judge", *(["Policy"] if several else []), "Win rate", _scale(), "95\u202f% interval"]
    titles += ["At equal length"] if controlled else []
    titles += ["Mean score, before \u2192 after", "Prompts \u00d7 seeds"]
    bodies = []
    kinds = {"held-out": f"Held-out {prompts}", "seen": f"{prompts.capitalize()} seen in training"}
    for captions, title in kinds.items():
        chosen = sorted(
            (row for row in rows if row.captions == captions), key=lambda row: row.role == "trained against"
        )
        if chosen:
            heading = el("tr", el("th", title, colspan=len(titles), scope="rowgroup"), class_="group")
            bodies.append(el("tbody", heading, *_judges(chosen, several=several, controlled=controlled)))
    shown = el(
        "table",
        el("caption", f"Win rate over {data.base}, paired by prompt and seed; a tie counts one half."),
        el(
            "thead",
            el(
                "tr",
                *[
                    el("th", title, scope="col", class_=kind)
                    for title, kind in zip(titles, _classes(several, controlled), strict=True)
                ],
            ),
        ),
        *bodies,
        class_=" ".join(["evidence", *(["several"] if several else []), *(["controlled"] if controlled else [])]),
    )
    return join([shown, el("p", _method(rows, prompts), class_="note")])


def alarms(data: ReportData) -> Markup:
    """Alarms by policy, or the sentence that there are none."""
    found: dict[Alarm, list[str]] = {}
    for policy in data.policies:
        for alarm in policy.alarms:  # what is the same for several is said once
            found.setdefault(alarm, []).append(policy.name)
    if not found:
        return el("p", "No alarm was raised.", class_="quiet")
    several = len(data.policies) > 1
    items = [
        el(
            "li",
            el(
                "p",
                el("b", alarm.name[:1].upper() + alarm.name[1:]),
                el("span", alarm.severity, class_="tag"),
                ", ".join(names) if several else None,
            ),
            el("p", alarm.sentence),
            el("p", alarm.remedy, class_="remedy"),
            class_=f"alarm {alarm.severity}",
        )
        for alarm, names in found.items()
    ]
    return el("ul", *items, class_="alarms")


def exhibits(data: ReportData) -> Markup | None:
    """The grid of samples, each frame of the same prompt and seed."""
    if not data.exhibits:
        return None
    sample = data.words.sample
    words = f"Same prompt and same seed in each frame; the underlined name is the {sample} that the judge prefers."
    if data.exhibits[0].modality in ("tune", "sound"):
        words += " The players of a frame are at equal loudness; pictures of a frame have one scale of time."
    if data.words.sample == "clip":
        words += " The clips of a frame play in step: pause them, or choose a picture by pointer or arrow keys."
    note = el("p", words, f" {data.exhibits_note}" if data.exhibits_note else None, class_="note above")
    return join([note, el("div", *[item.figure() for item in data.exhibits], class_="exhibits")])


def curves(data: ReportData) -> Markup | None:
    """Training curves of all policies, one chart a metric."""
    charts = []
    for metric, title, level in CHARTS:
        if metric == "logps/chosen" and any("drift/chosen" in policy.curves for policy in data.policies):
            continue  # the drift says the same without the samples' own level
        if metric == "kl" and any("kl/sequence" in policy.curves for policy in data.policies):
            continue
        lines = [
            Line(name=policy.name, curve=policy.curves[metric], style=index)
            for index, policy in enumerate(data.policies)
            if metric in policy.curves
        ]
        if metric in MAY_STAND_STILL and all(len(set(line.curve.values)) == 1 for line in lines):
            continue
        if lines:
            chart = line_chart(lines, label=f"{title} over optimiser steps", level=level)
            charts.append(el("figure", el("figcaption", title, _not_finite(lines)), chart))
    if not charts:
        return None
    note = "Horizontal: optimiser steps. Faint: as logged, long runs averaged in bins; "
    note += "firm: moving mean over a twentieth of the run."
    return join([_legend(data.policies), el("div", *charts, class_="charts"), el("p", note, class_="note")])


def drift(data: ReportData) -> Markup | None:
    """Drift and diversity of every policy beside the base's diversity; rows nobody measured are left out."""
    columns: list[tuple[str | None, ...]] = [(*(None,) * (len(DISTANCES) + 2), _diversity(data.base_diversity), None)]
    for policy in data.policies:
        moved = policy.drift or Drift()
        measured = [getattr(moved, name) for name in DISTANCES]
        texts = [None if value is None else number(value) for value in measured]
        columns.append((*texts, *_kl(moved.kl), _diversity(policy.diversity), _fraction(policy, data)))
    each = data.words.sample
    titles = (
        *DISTANCES.values(),
        *(f"KL, nats a {each}", "KL, nats a token", "Diversity", "Share of the base\u2019s"),
    )
    rows = [(title, *cells) for title, *cells in zip(titles, *columns, strict=True) if any(cells)]
    if not rows:
        return None
    shown = table(
        "Distance from the base at equal prompt and seed, and distance between samples of the same prompt.",
        ["", data.base, *[policy.name for policy in data.policies]],
        [[cell or "\u2014" for cell in row] for row in rows],
        "narrow",
    )
    space = data.base_diversity.space if data.base_diversity else None
    note = (
        "Feature distance is 1 \u2212 cosine; log-ratio and divergence are means over held data. "
        f"A drift as large as the base\u2019s diversity leaves nothing of the base\u2019s {data.words.sample}."
    )
    if any(policy.drift and policy.drift.kl for policy in data.policies):
        note += (
            f" KL is the mean of log policy \u2212 log base over the policy\u2019s own {data.words.samples}, with its "
            "standard error over prompts; at a temperature other than 1 or a top-p below 1 that mean is no longer a "
            "divergence."
        )
    if space:
        note += f" Diversity was measured in {space}."
    return join([shown, el("p", note, class_="note")])


def reading(data: ReportData) -> Markup | None:
    """What became of the feedback's records, with reasons."""
    read = data.reading
    if read is None:
        return None
    words = f"{count(read.kept)} records kept ({count(read.repaired)} of them repaired), {count(read.refused)} refused"
    sentence = el("p", f"{words}{f', from {read.source}' if read.source else ''}.")
    if not read.reasons:
        return sentence
    rows = [[r.fate, r.reason, count(r.count), r.example or "\u2014"] for r in read.reasons]
    return join(
        [sentence, table("Repaired and refused records.", ["Fate", "Reason", "Records", "For example"], rows, "words")]
    )


def timing(data: ReportData) -> Markup | None:
    """Seconds, CPU seconds, peak memory and speed of every policy."""
    timed = [(policy.name, policy.timing) for policy in data.policies if policy.timing is not None]
    if not timed:
        return None
    stages = list(dict.fromkeys(name for _, cost in timed for name, _ in cost.stages))
    titles = ["Wall time", "CPU time", "Peak memory", "Pairs per second"]
    columns = [[*_costs(cost), *[_stage(cost, stage) for stage in stages]] for _, cost in timed]
    rows = [[title, *cells] for title, *cells in zip([*titles, *[f"\u2003{s}" for s in stages]], *columns, strict=True)]
    rows = rows[:1] + rows[len(titles) :] + rows[1 : len(titles)]  # the stages are parts of the wall time
    rows = [row for row in rows if set(row[1:]) != {"\u2014"}]
    return table("What the run cost.", ["", *[name for name, _ in timed]], rows, "narrow")


def rerun(data: ReportData) -> Markup | None:
    """The commands, and the resolved recipes folded away."""
    recipes = [
        el("details", el("summary", f"Resolved recipe of {policy.name}"), el("pre", el("code", policy.recipe_toml)))
        for policy in data.policies
        if policy.recipe_toml
    ]
    if not data.rerun and not recipes:
        return None
    commands = el("pre", el("code", "\n".join(data.rerun)), class_="commands") if data.rerun else None
    return join([commands, *recipes])


def citations(data: ReportData) -> Markup | None:
    """References as a plain list."""
    if not data.citations:
        return None
    return el("ol", *[el("li", reference) for reference in data.citations], class_="references")


def _judges(rows: Sequence[Evidence], *, several: bool, controlled: bool) -> list[Markup]:
    """Table rows by judge; with several policies a judge's name stands once, over its policies."""
    written = []
    for judge, role in dict.fromkeys((row.judge, row.role) for row in rows):
        own = [row for row in rows if (row.judge, row.role) == (judge, role)]
        for index, row in enumerate(own):
            title = el("span", row.scorer, el("b", f" {spelt(row.dimension)}") if row.dimension else None)
            name = title, el("span", role, class_=f"tag {role.replace(' ', '-')}")
            first = el("th", *name, scope="rowgroup", rowspan=len(own), class_="judge") if index == 0 else None
            policy = el("td", row.policy, class_="policy") if several else None
            written.append(el("tr", first, policy, *_measures(row, controlled), class_="first" if index == 0 else None))
    return written


def _measures(row: Evidence, controlled: bool) -> list[Markup]:
    win, gain = row.win, row.gain
    cells = [
        percent(win.rate),
        interval_glyph(win),
        percent_range(win.low, win.high),
        *([_controlled(row)] if controlled else []),
        f"{number(gain.before)} \u2192 {number(gain.after)}",
        f"{win.prompts} \u00d7 {win.seeds}" + (f", {win.runs} runs" if win.runs > 1 else ""),
    ]
    classes = _classes(False, controlled)[1:]
    return [el("td", cell, class_=name) for cell, name in zip(cells, classes, strict=True)]


def _controlled(row: Evidence) -> str | Markup:
    if row.controlled is None:
        return "\u2014"
    interval = percent_range(row.controlled.low, row.controlled.high)
    return join([percent(row.controlled.rate), el("span", interval, class_="under")])


def _classes(several: bool, controlled: bool) -> tuple[str, ...]:
    equal = ("equal",) if controlled else ()
    return ("judge", *(("policy",) if several else ()), "rate", "interval", "range", *equal, "means", "counts")


def _scale() -> Markup:
    marks = [el("text", text, x=x, y=10, text_anchor=a) for text, x, a in (("0", 2, "start"), ("50", 70, "middle"))]
    end = el("text", "100\u202f%", x=138, y=10, text_anchor="end")
    return el("svg", *marks, end, viewBox="0 0 140 12", aria_hidden="true", class_="glyph")


def _method(rows: Sequence[Evidence], prompts: str) -> str:
    runs = any(row.win.runs > 1 for row in rows)
    ties = max(row.win.ties for row in rows)
    text = (
        f"Intervals are {100 * LEVEL:.0f}\u202f% percentile intervals of a cluster bootstrap: {count(RESAMPLES)} "
        f"resamples of prompts{' and of training runs' if runs else ''}, each prompt with all its seeds. The "
        "dotted line is 50\u202f%; a full dot marks an interval that leaves it out. Only held-out judges on "
        f"held-out {prompts} speak for a policy."
    )
    if any(row.role == "verifier" for row in rows):
        text += f" A verifier knows the answers and may have made the feedback too: only the {prompts} are held out."
    if any(row.controlled for row in rows):
        text += (
            f" Judges favour longer {words_of(rows).samples}: at equal length is what a logistic regression on the "
            "difference in length leaves of the win rate (Dubois et al., arXiv:2404.04475)."
        )
    return text if ties == 0 else f"{text} Ties: at most {percent(ties)} of the comparisons of a row."


def _not_finite(lines: Sequence[Line]) -> Markup | None:
    missing = sum(not math.isfinite(value) for line in lines for value in line.curve.values)
    return el("span", f"{count(missing)} values not finite, left out", class_="seed") if missing else None


def _legend(policies: Sequence[PolicyResult]) -> Markup | None:
    if len(policies) == 1:
        return None
    keys = [
        el(
            "span",
            el("svg", el("path", d="M1 5H25", class_=f"line s{i % 4}"), viewBox="0 0 26 10", aria_hidden="true"),
            policy.name,
        )
        for i, policy in enumerate(policies)
    ]
    return el("p", *keys, class_="legend")


def _kl(measured: SequenceKL | None) -> tuple[str | None, str | None]:
    if measured is None:
        return None, None
    return f"{number(measured.nats)} \u00b1 {number(measured.error, 2)}", number(measured.per_token)


def _diversity(measured: Diversity | None) -> str | None:
    return None if measured is None else number(measured.value)


def _fraction(policy: PolicyResult, data: ReportData) -> str | None:
    if policy.diversity is None or data.base_diversity is None or data.base_diversity.value == 0:
        return None
    return percent(policy.diversity.of(data.base_diversity))


def _costs(cost: Timing) -> list[str]:
    return [
        duration(cost.seconds),
        "\u2014" if cost.cpu_seconds is None else duration(cost.cpu_seconds),
        "\u2014" if cost.peak_bytes is None else size(cost.peak_bytes),
        number(cost.pairs_per_second),
    ]


def _stage(cost: Timing, stage: str) -> str:
    seconds = dict(cost.stages).get(stage)
    return "\u2014" if seconds is None else duration(seconds)
