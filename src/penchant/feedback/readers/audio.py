"""Sounds: Music Arena's battles, audio-alpaca, CRPO. Audio cells are the hub's `{bytes, path}`, bytes, or a path.

Music Arena (arXiv:2507.20900) is a vote of a person on two systems' answers to one prompt: `A`, `B`, `TIE`, or
`BOTH_BAD`, which is read as a tie and two bad labels: pairs see the tie, unpaired methods two undesirable samples. A
vote says how long each side was played. As MusicRL keeps its votes (arXiv:2402.04229), a row counts only
if both sides were heard; where the table does not tell, or the layout `music-arena-all` is insisted on, all rows do.
Audio of systems that are not public is missing, and such rows are refused.

audio-alpaca (arXiv:2404.09956) and CRPO (arXiv:2412.21037) list winners first, found by CLAP scores and not by people:
their order is drawn, and the source is `reward:clap`. CRPO calls its losers `reject`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.errors import FeedbackError
from penchant.feedback.groups import Candidate, Group, Judgement, plain
from penchant.feedback.readers.cells import (
    annotator,
    drawn_pair,
    name_or_none,
    number,
    refuse_same,
    sound,
    source_of,
    text,
)
from penchant.feedback.readers.layout import Layout, Row

PREFERENCES: dict[str, tuple[float, float]] = {
    "A": (1.0, 0.0),
    "B": (0.0, 1.0),
    "TIE": (0.5, 0.5),
    "BOTH_BAD": (0.5, 0.5),
}
"""What a battle's vote says, as values of a pair judgement."""

ALL = "music-arena-all"
_SIDES = ("a", "b")
_CLAP = "reward:clap"


def _battle(row: Row, layout: str) -> Group:
    vote = _vote(row)
    prompt = text(row, "prompt")
    listened = [_seconds(row, f"total_listening_time_{side}", "a listening time") for side in _SIDES]
    if layout != ALL:
        _refuse_unheard(row, listened)
    candidates = tuple(_side(row, side) for side in _SIDES)
    refuse_same(row, candidates, "audio_b", what="sound")
    return Group(
        prompt=prompt,
        candidates=candidates,
        judgements=_judgements(row, vote, {c.id: s for c, s in zip(candidates, listened, strict=True)}),
        split=row.split,
        provenance=row.provenance(layout),
        extra=_known(row, ("battle_uuid", "date", "timestamp", "is_instrumental", "is_prebaked", "lyrics")),
    )


def _vote(row: Row) -> str:
    value = row.values.get("preference")
    if value in (None, ""):
        raise row.error("the row has no label.", "preference", "only voted battles state a preference; remove the row.")
    if not isinstance(value, str) or value.strip() not in PREFERENCES:
        known = ", ".join(PREFERENCES)
        raise row.error(f"the preference is none of {known}.", "preference", "correct the label, or remove the row.")
    return value.strip()


def _refuse_unheard(row: Row, listened: list[float | None]) -> None:
    for side, seconds in zip(_SIDES, listened, strict=True):
        if not seconds:
            what = "it is not known whether a side was heard." if seconds is None else "a side was not heard."
            remedy = f"a vote needs both; read with layout='{ALL}' to keep such rows."
            raise row.error(what, f"total_listening_time_{side}", remedy)


def _judgements(row: Row, vote: str, listened: dict[str, float | None]) -> tuple[Judgement, ...]:
    """The vote, with the seconds that each candidate (by its id) was played; after BOTH_BAD two labels too."""
    who, source = annotator(row.values.get("user_pseudonym")), source_of(row)
    times = {name: seconds for name, seconds in listened.items() if seconds is not None}
    extra: dict[str, Any] = {"listened": times} if times else {}
    if comment := name_or_none(row.values.get("feedback")):
        extra |= {"comment": comment}
    pair = Judgement(kind="pair", values=PREFERENCES[vote], annotator=who, source=source, extra=extra | {"vote": vote})
    if vote != "BOTH_BAD":
        return (pair,)
    return pair, Judgement(kind="binary", values=(0.0, 0.0), annotator=who, source=source, extra=extra)


def _side(row: Row, side: str) -> Candidate:
    settings: dict[str, Any] = {}
    for name in ("duration", "sample_rate", "system_time", "gateway_time"):
        if (value := _seconds(row, f"{name}_{side}", "a duration, time or rate")) is not None:
            settings[name] = value
    return Candidate(
        media=sound(row, f"audio_{side}", row.values.get(f"audio_{side}")),
        model=_system(row.values.get(f"system_{side}")),
        settings=settings | _known(row, (f"hardware_{side}",), suffix=f"_{side}"),
    )


def _system(value: Any) -> str | None:
    """A system's name; a tag with its variant is written `tag:variant`."""
    if isinstance(value, Mapping):
        return name_or_none(":".join(str(part) for part in value.values() if part))
    return name_or_none(value)


def _seconds(row: Row, field: str, what: str) -> float | None:
    """A number that is not negative; None for an empty cell."""
    if row.values.get(field) is None:
        return None
    value = number(row, field, row.values[field], name=what)
    if value < 0:
        raise row.error(f"{what} is negative.", field, "correct it, or empty the cell.")
    return value


def _known(row: Row, names: tuple[str, ...], suffix: str = "") -> dict[str, Any]:
    found = ((name.removesuffix(suffix), row.values.get(name)) for name in names)
    try:
        return {name: plain(value) for name, value in found if value is not None}
    except FeedbackError as error:
        raise row.error("a cell cannot be kept as JSON.", ", ".join(names), "use numbers, texts and lists.") from error


def _won(row: Row, layout: str, *, prompt: str, winner: str, loser: str, known: tuple[str, ...]) -> Group:
    """A pair of a layout that lists the winner first."""
    asked, duration = text(row, prompt), _seconds(row, "duration", "the duration")
    candidates = tuple(
        Candidate(
            media=sound(row, field, row.values.get(field)),
            model=name_or_none(row.values.get(f"{field}_model")),
            settings={} if duration is None else {"duration": duration},
        )
        for field in (winner, loser)
    )
    refuse_same(row, candidates, loser, what="sound")
    source = source_of(row) if row.values.get("source") else _CLAP
    group = Group(
        prompt=asked,
        candidates=candidates,
        judgements=(Judgement(kind="pair", values=(1.0, 0.0), source=source),),
        split=row.split,
        provenance=row.provenance(layout),
        extra=_known(row, known),
    )
    return drawn_pair(row, group)


def _of_sides(*names: str) -> frozenset[str]:
    return frozenset(f"{name}_{side}" for name in names for side in _SIDES)


_BATTLE = _of_sides("audio", "system") | {"prompt", "preference"}
_TIMES = _of_sides("total_listening_time")
_FACTS = _of_sides("hardware", "system_time", "gateway_time", "duration", "sample_rate") | {
    *("battle_uuid", "date", "is_instrumental", "is_prebaked", "user_pseudonym"),
    *("feedback", "timestamp", "lyrics", "source"),
}

MUSIC_ARENA = Layout(
    name="music-arena",
    required=_BATTLE | _TIMES,
    optional=_FACTS,
    to_group=lambda row: _battle(row, "music-arena"),
    sample="sound",
)
MUSIC_ARENA_ALL = Layout(
    name=ALL,
    required=_BATTLE,
    optional=_FACTS | _TIMES,
    absent=_TIMES,
    to_group=lambda row: _battle(row, ALL),
    sample="sound",
)
AUDIO_ALPACA = Layout(
    name="audio-alpaca",
    required=frozenset({"prompt", "chosen", "rejected", "strategy"}),
    optional=frozenset({"chosen_model", "rejected_model", "source"}),
    to_group=lambda row: _won(
        row, "audio-alpaca", prompt="prompt", winner="chosen", loser="rejected", known=("strategy",)
    ),
    sample="sound",
)
CRPO = Layout(
    name="crpo",
    required=frozenset({"captions", "chosen", "reject"}),
    optional=frozenset({"duration", "iteration", "source"}),
    to_group=lambda row: _won(row, "crpo", prompt="captions", winner="chosen", loser="reject", known=("iteration",)),
    sample="sound",
)
