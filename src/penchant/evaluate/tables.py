"""Plain tables of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penchant.evaluate.markup import Markup, el


def table(caption: str, titles: Sequence[str], rows: Sequence[Sequence[str | Markup]], kind: str = "plain") -> Markup:
    """Titles, and rows whose first cell names them; `kind` is a class of the style sheet."""
    head = el("tr", *[el("th", title, scope="col") if title else el("td", "") for title in titles])
    body = [el("tr", el("th", row[0], scope="row"), *[el("td", cell) for cell in row[1:]]) for row in rows]
    shown = el("table", el("caption", caption), el("thead", head), el("tbody", *body), class_=kind)
    return el("div", shown, class_="scroll")


def signed(shown: Callable[[float], str], value: float) -> str:
    """The value with its sign."""
    return f"+{shown(value)}" if value > 0 else shown(value).replace("-", "\u2212")
