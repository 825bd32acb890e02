"""Clips: VideoAlign's training table, VideoGen-RewardBench, VideoFeedback.

VideoAlign and VideoGen-RewardBench are CSV tables of pairs with one label a dimension: `A`, `B` or `same` for visual
quality (VQ), motion quality (MQ), text alignment (TA), and in the benchmark the comparison as a whole (`Overall`, our
`overall`). An empty cell means that nobody judged the pair in that dimension; anything else is refused, where the
authors' code masks it silently (arXiv:2501.13918). Paths are relative to the table.

VideoFeedback has one clip a row with absolute scores in five dimensions (their columns' names); the rows of one prompt
make one group, since only under one prompt scores can be compared (arXiv:2406.15252). Its links name files of an
archive: the file of that name must lie beside the table or in `videos/`.
"""

from __future__ import annotations

import math
from urllib.parse import urlsplit

from penchant.feedback.groups import Candidate, Group, Judgement
from penchant.feedback.readers.cells import clip, name_or_none, number, refuse_same, source_of, text
from penchant.feedback.readers.layout import Layout, Row

LABELS: dict[str, tuple[float, float]] = {"A": (1.0, 0.0), "B": (0.0, 1.0), "same": (0.5, 0.5)}
"""What a table says, as values of a pair judgement."""

DIMENSIONS = {"VQ": "VQ", "MQ": "MQ", "TA": "TA", "Overall": "overall"}
"""Column -> dimension."""

_SIDES = ("A", "B")


def _pair(row: Row, layout: str) -> Group:
    judgements = tuple(
        Judgement(kind="pair", dimension=dimension, values=label, source=source_of(row))
        for column, dimension in DIMENSIONS.items()
        if (label := _label(row, column)) is not None
    )
    if not judgements:
        raise row.error("the row has no label.", "VQ", "only labelled rows state a preference; remove the row.")
    candidates = tuple(_side(row, side) for side in _SIDES)
    refuse_same(row, candidates, "path_B", what="clip")
    return Group(
        prompt=text(row, "prompt"),
        candidates=candidates,
        judgements=judgements,
        split=row.split,
        provenance=row.provenance(layout),
    )


def _label(row: Row, column: str) -> tuple[float, float] | None:
    value = row.values.get(column)
    if value is None:
        return None
    if str(value).strip() not in LABELS:
        raise row.error("the label is none of A, B, same.", column, "correct the label, or empty the cell.")
    return LABELS[str(value).strip()]


def _side(row: Row, side: str) -> Candidate:
    field = f"path_{side}"
    fps, frames = _decimal(row, f"fps_{side}"), _decimal(row, f"num_frames_{side}")
    settings = {name: value for name, value in (("fps", fps), ("num_frames", frames)) if value is not None}
    return Candidate(
        media=clip(row, field, row.values.get(field), fps=fps),
        model=name_or_none(row.values.get(f"{side}_model")),
        settings=settings,
    )


def _decimal(row: Row, field: str) -> float | None:
    """A positive number that stands in a table of texts; None for an empty cell."""
    value = row.values.get(field)
    if value is None:
        return None
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise row.error("a rate or number of frames is not positive.", field, "correct it, or empty the cell.")
    return found


_RATINGS = (
    "visual quality",
    "temporal consistency",
    "dynamic degree",
    "text-to-video alignment",
    "factual consistency",
)


def _rated(row: Row) -> Group:
    ratings = tuple(
        Judgement(kind="score", dimension=name, values=(number(row, name, row.values.get(name), name="the rating"),))
        for name in _RATINGS
    )
    link = text(row, "video link", name="the link")
    return Group(
        prompt=text(row, "text prompt"),
        candidates=(Candidate(media=clip(row, "video link", _linked(row, link)), settings={"link": link}),),
        judgements=ratings,
        split=row.split,
        provenance=row.provenance("videofeedback"),
    )


def _linked(row: Row, link: str) -> str:
    """The path of what a link names: its last part, in `videos/` if it lies there."""
    path = urlsplit(link).path if "://" in link else link
    name = path.rpartition("/")[2]
    folders = [row.root / row.split, row.root] if row.split else [row.root]
    there = any((folder / "videos" / name).is_file() for folder in folders)
    return f"videos/{name}" if there else name


def _merge(rows: list[Group]) -> Group:
    """K rows of one prompt to one group."""
    ratings = (
        Judgement(kind="score", dimension=name, values=tuple(row.judgements[k].values[0] for row in rows))
        for k, name in enumerate(_RATINGS)
    )
    return Group(
        prompt=rows[0].prompt,
        candidates=tuple(row.candidates[0] for row in rows),
        judgements=tuple(ratings),
        split=rows[0].split,
        provenance=rows[0].provenance,
    )


_PAIR = frozenset({"path_A", "path_B", "prompt", "VQ", "MQ", "TA"})
_FACTS = frozenset({f"{name}_{side}" for name in ("fps", "num_frames") for side in _SIDES})
_MODELS = frozenset({"A_model", "B_model"})

REWARDBENCH = Layout(
    name="videogen-rewardbench",
    required=_PAIR | _MODELS | {"Overall"},
    optional=_FACTS | {"source"},
    to_group=lambda row: _pair(row, "videogen-rewardbench"),
    sample="clip",
)
VIDEOALIGN = Layout(
    name="videoalign",
    required=_PAIR,
    optional=_FACTS | _MODELS | {"Overall", "source"},
    to_group=lambda row: _pair(row, "videoalign"),
    sample="clip",
)
VIDEOFEEDBACK = Layout(
    name="videofeedback",
    required=frozenset({"text prompt", "video link", *_RATINGS}),
    optional=frozenset({"id", "images", "conversations"}),
    to_group=_rated,
    gather_by="text prompt",
    merge=_merge,
    sample="clip",
)
