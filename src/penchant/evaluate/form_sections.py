"""The section on the form of samples: length and repetition of texts, motion of clips, and what music is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penchant.evaluate.clip_form import ClipForm
from penchant.evaluate.contents import ReportData
from penchant.evaluate.figures import number, percent
from penchant.evaluate.form import REPEATED, TextForm
from penchant.evaluate.markup import Markup, el, join
from penchant.evaluate.medium_form import Form
from penchant.evaluate.sound_form import SoundForm
from penchant.evaluate.tables import signed, table
from penchant.evaluate.tune_form import SEQUENCE, TuneForm

_CHANGE = "in parentheses the 95\u202f% interval of the change."


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How one kind of form is shown: a caption, rows of (field, title, how a value is written), and a note."""

    caption: str
    rows: tuple[tuple[str, str, Callable[[float], str]], ...]
    note: str = ""


_LAYOUTS: dict[type[Form], _Layout] = {
    TextForm: _Layout(
        caption="Form of the texts;",
        rows=(
            ("tokens", "Tokens a text", number),
            ("words", "Words a text", number),
            ("repeated", f"Repeated sequences of {REPEATED} words", percent),
            ("unfinished", "Cut off at the limit of tokens", percent),
        ),
    ),
    ClipForm: _Layout(
        caption="Motion of the clips by optical flow;",
        rows=(
            ("dynamic_degree", "Dynamic degree, shorter sides a second", number),
            ("smoothness", "Smoothness, 0 to 1", number),
            ("steadiness", "Steadiness, 0 to 1", number),
        ),
        note=(
            "The dynamic degree is the mean length of the flow: how much moves and how fast. Smoothness compares the "
            "change of the flow with the flow, steadiness the next frame with where the flow says it went; a clip that "
            "stands still has 1 in both, so they speak only beside the dynamic degree."
        ),
    ),
    TuneForm: _Layout(
        caption="Form of the tunes;",
        rows=(
            ("notes", "Notes a tune", number),
            ("bars", "Bars a tune", number),
            ("density", "Notes a bar", number),
            ("range", "Range, semitones", number),
            ("intervals", "Entropy of intervals, bits", number),
            ("entropy", "Entropy of the policy, nats a token", number),
            ("distinct", f"Different sequences of {SEQUENCE} notes", percent),
            ("own", "Of them in no other tune", percent),
            ("unfinished", "Without an end", percent),
            ("unread", "Words that are no notation", percent),
        ),
        note=(
            "Counted on the written notes, without a judge. The entropy of the policy is the mean of \u2212log p of "
            "its own tokens as they were drawn; without an end are tunes that ran into the limit of tokens."
        ),
    ),
    SoundForm: _Layout(
        caption="Form of the sounds, before they were brought to equal loudness;",
        rows=(
            ("seconds", "Seconds a sound", number),
            ("loudness", "Loudness, dB of full scale", number),
            ("centroid", "Spectral centroid, Hz", number),
        ),
    ),
}


def form(data: ReportData) -> Markup | None:
    """The form of base's and policies' samples; None for samples that have none."""
    kind = next((type(policy.form) for policy in data.policies if policy.form is not None), None)
    if kind is None:
        return None
    layout = _LAYOUTS[kind]
    formed = [(policy.name, policy.form) for policy in data.policies if isinstance(policy.form, kind)]
    rows = [
        [title, shown(gains[0].before), *_cells(gains, shown)]
        for name, title, shown in layout.rows
        if None not in (gains := [getattr(own, name) for _, own in formed])
    ]
    titles = ["", data.base, *[name for name, _ in formed]]
    note = el("p", layout.note, class_="note") if layout.note else None
    return join([table(f"{layout.caption} {_CHANGE}", titles, rows, "narrow"), note])


def _cells(gains: Sequence, shown: Callable[[float], str]) -> list[str]:
    return [f"{shown(g.after)} ({signed(shown, g.low)} to {signed(shown, g.high)})" for g in gains]
