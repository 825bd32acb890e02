"""The page: head, title, verdict and the sections in their order."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from penchant.evaluate import form_sections, reels, sections, standings
from penchant.evaluate.contents import ReportData
from penchant.evaluate.markup import Markup, el, join
from penchant.evaluate.players import PlayerRow
from penchant.evaluate.verdict import verdict

# Nothing may be fetched and nothing may run, whatever a prompt or a file name contains.
_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def page(data: ReportData) -> str:
    """The whole document as text."""
    extra = reels.style() if any(item.modality == "clip" for item in data.exhibits) else ""
    return _document(data.title, el("main", _header(data), *_sections(data)), _footer(data.facts), style=extra)


def sheet_page(title: str, exhibits: Sequence[PlayerRow]) -> str:
    """A document of exhibits and nothing else, as text."""
    return _document(title, el("main", el("header", el("h1", title)), *[row.figure() for row in exhibits]), _footer([]))


def _document(title: str, *body: Markup, style: str = "") -> str:
    sheet = files("penchant.evaluate").joinpath("page.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Markup(sheet + style)),
    )
    return f"<!doctype html>\n{el('html', head, el('body', *body), lang='en')}\n"


def _header(data: ReportData) -> Markup:
    verdicts = [verdict(policy.name, data.base, policy.evidence) for policy in data.policies]
    kind = "verdict" if len(verdicts) == 1 else "verdict several"
    return el(
        "header",
        el("p", "Preference alignment report", class_="kicker"),
        el("h1", data.title),
        *[el("p", v.sentence, class_=f"{kind} {v.outcome.replace(' ', '-')}") for v in verdicts],
        el("p", data.lead, class_="lead") if data.lead else None,
    )


def _sections(data: ReportData) -> list[Markup]:
    listening = (data.words.shown, sections.exhibits(data))
    parts = [
        *([listening] if data.tournaments else []),
        ("Evidence", sections.evidence(data)),
        ("Alarms", sections.alarms(data)),
        *([] if data.tournaments else [listening]),
        ("One against another", standings.standings(data)),
        ("What rewards cost", standings.costs(data)),
        ("Training", sections.curves(data)),
        (data.words.form, form_sections.form(data)),
        ("Drift and diversity", sections.drift(data)),
        ("The data, as read", sections.reading(data)),
        ("Cost", sections.timing(data)),
        ("How to run it again", sections.rerun(data)),
        ("References", sections.citations(data)),
    ]
    return [el("section", el("h2", title), content) for title, content in parts if content is not None]


def _footer(facts: Sequence[tuple[str, str]]) -> Markup:
    items = [el("span", el("b", name), " ", value) for name, value in facts]
    return el("footer", join(items) if items else None, el("span", "Written by penchant."))
