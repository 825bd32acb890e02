"""The sections of several policies at once: who wins against whom, and what each reward cost in KL."""

from __future__ import annotations

from collections.abc import Sequence

from penchant.evaluate.contents import PolicyResult, ReportData
from penchant.evaluate.figures import count, number, percent, percent_range
from penchant.evaluate.markup import Markup, el, join
from penchant.evaluate.reward_curves import MEAN, against, reward_names
from penchant.evaluate.tables import table
from penchant.evaluate.tournament import Bout, Standing, Tournament
from penchant.evaluate.winrate import LEVEL, RESAMPLES
from penchant.evaluate.xy_charts import Dot, Track, xy_chart


def standings(data: ReportData) -> Markup | None:
    """A matrix of win, tie and loss for each judge, and mean scores with the number of wins; None without any."""
    if not data.tournaments:
        return None
    parts = [_totals(data.tournaments), *[_matrix(found) for found in data.tournaments]]
    note = (
        "Each cell is the row against the column: win \u00b7 tie \u00b7 loss in per cent of all comparisons, then "
        f"win / (win + loss) with its {100 * LEVEL:.0f}\u202f% interval ({count(RESAMPLES)} resamples of prompts, each "
        "with all its seeds), then p of a Wilcoxon signed-rank test over prompts, not corrected for the number of "
        "cells. Bold: the interval leaves one half out."
    )
    return join([*parts, el("p", note, class_="note")])


def costs(data: ReportData) -> Markup | None:
    """Rewards of training over KL, one chart a reward; None where no run logged both."""
    learnt = [policy for policy in data.policies if "kl" in policy.curves and MEAN in policy.curves]
    # A sample's KL, where all runs logged it: then the charts of rewards and of judges have one unit.
    kl = "kl/sequence" if all("kl/sequence" in policy.curves for policy in learnt) else "kl"
    names = dict.fromkeys(name for policy in learnt for name in ["mean", *reward_names(policy.curves)])
    charts = [chart for name in names if (chart := _cost(data.policies, name, kl)) is not None]
    charts += [chart for found in data.tournaments if (chart := _frontier(data, found)) is not None]
    if not charts:
        return None
    note = (
        "Horizontal: in the charts of rewards KL from the run\u2019s reference as training logged it, in nats a "
        f"{data.words.sample if kl == 'kl/sequence' else 'step'}; in those of judges KL from the base in nats a "
        f"{data.words.sample}, measured on the samples judged here. A training curve is a moving mean over a tenth of "
        "the run; its dot is the end."
    )
    return join([_legend(data), el("div", *charts, class_="charts"), el("p", note, class_="note")])


def _totals(tournaments: Sequence[Tournament]) -> Markup:
    """Policies down, judges across."""
    first = tournaments[0]
    rows = [
        [one.name, *[_score(found.standings[place]) for found in tournaments]]
        for place, one in enumerate(first.standings)
    ]
    caption = f"Mean score by each judge, its {100 * LEVEL:.0f}\u202f% interval over prompts, and comparisons won."
    return table(caption, ["", *[found.judge for found in tournaments]], rows, "bouts")


def _score(one: Standing) -> Markup:
    between = f"{number(one.low)} to {number(one.high)}"
    won = f"{count(one.wins)} of {count(one.comparisons)}"
    return join(
        [
            el("span", number(one.mean), class_="rate"),
            el("span", between, class_="under"),
            el("span", won, class_="under"),
        ]
    )


def _matrix(found: Tournament) -> Markup:
    names = [one.name for one in found.standings]
    rows = [
        [first, *["" if first == second else _cell(found.bout(first, second)) for second in names]] for first in names
    ]
    ties = f"a difference up to {number(found.tie_margin)} is a tie" if found.tie_margin else "equal scores are ties"
    caption = f"Row against column by {found.judge}; {ties}. {_over(found)}"
    return table(caption, ["", *names], rows, "bouts")


def _cell(bout: Bout) -> Markup:
    decided = bout.low > 0.5 or bout.high < 0.5
    shares = " \u00b7 ".join(f"{100 * share:.0f}" for share in (bout.win, bout.tie, bout.loss))
    rate = el("b" if decided else "span", percent(bout.rate), class_="rate")
    under = f"{percent_range(bout.low, bout.high)}, p {_p(bout.p)}"
    words = f"win {percent(bout.win)}, tie {percent(bout.tie)}, loss {percent(bout.loss)}"
    return join([el("span", shares, title=words, class_="shares"), rate, el("span", under, class_="under")])


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"= {value:.3f}".replace("0.", ".", 1)


def _over(found: Tournament) -> str:
    bout = found.bouts[0]
    return f"{count(bout.prompts)} prompts \u00d7 {count(bout.seeds)} seed{'' if bout.seeds == 1 else 's'}."


def _cost(policies: Sequence[PolicyResult], name: str, kl: str) -> Markup | None:
    reward = f"rewards/{name}"
    tracks = [
        Track(name=policy.name, points=points, style=index)
        for index, policy in enumerate(policies)
        if kl in policy.curves
        and reward in policy.curves
        and (points := tuple(against(policy.curves[kl], policy.curves[reward])))
    ]
    if not tracks:
        return None
    title = "What the run maximises, over KL" if name == "mean" else f"Reward {name}, over KL"
    chart = xy_chart(tracks, label=f"{title} in nats")
    return el("figure", el("figcaption", title), chart)


def _frontier(data: ReportData, found: Tournament) -> Markup | None:
    """Mean score of each policy at the KL that its samples have from the base."""
    means = {one.name: one.mean for one in found.standings}
    dots = [
        Dot(name=policy.name, x=policy.drift.kl.nats, y=means[policy.name], style=index)
        for index, policy in enumerate(data.policies)
        if policy.drift is not None and policy.drift.kl is not None and policy.name in means
    ]
    if not dots:
        return None
    dots = [Dot(name=data.base, x=0.0, y=means[data.base], style=None), *dots] if data.base in means else dots
    title = f"Score by {found.judge}, over KL from the base"
    chart = xy_chart([], dots, label=f"{title}, nats a {data.words.sample}")
    return el("figure", el("figcaption", title), chart)


def _legend(data: ReportData) -> Markup | None:
    if len(data.policies) == 1:
        return None
    keys = [
        el(
            "span",
            el("svg", el("path", d="M1 5H25", class_=f"line s{index % 4}"), viewBox="0 0 26 10", aria_hidden="true"),
            policy.name,
        )
        for index, policy in enumerate(data.policies)
    ]
    return el("p", *keys, class_="legend")
