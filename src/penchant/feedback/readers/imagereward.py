"""ImageRewardDB: one candidate a row (flat and metadata), one prompt a row (group), one comparison a row (pair).

Rank 1 is the best and equal ranks are ties. The three ratings become `score` judgements of their own dimensions
(overall_rating, image_text_alignment, fidelity); the preference itself stays `overall`.
"""

from __future__ import annotations

from typing import Any

from penchant.feedback.groups import Candidate, Group, Judgement, rank_values
from penchant.feedback.readers.cells import drawn_pair, image, items, number, refuse_same, text, winner_first
from penchant.feedback.readers.layout import Layout, Row

_RATINGS = {
    "overall_rating": "overall_rating",
    "image_text_alignment_rating": "image_text_alignment",
    "fidelity_rating": "fidelity",
}
_FLAT_RANK = "rank of one row"


def _extra(row: Row) -> dict[str, Any]:
    return {k: v for k in ("prompt_id", "classification") if (v := row.values.get(k)) is not None}


def _flat(row: Row, layout: str, field: str) -> Group:
    rank = number(row, "rank", row.values.get("rank"), name="the rank")
    ratings = tuple(
        Judgement(kind="score", dimension=dimension, values=(number(row, column, value, name="the rating"),))
        for column, dimension in _RATINGS.items()
        if (value := row.values.get(column)) is not None
    )
    # A rank means something beside the other rows only: it waits in a score judgement until `_merge` sees them all.
    waiting = Judgement(kind="score", dimension=_FLAT_RANK, values=(rank,))
    return Group(
        prompt=text(row, "prompt"),
        candidates=(Candidate(media=image(row, field, row.values.get(field))),),
        judgements=(waiting, *ratings),
        split=row.split,
        provenance=row.provenance(layout),
        extra=_extra(row),
    )


def _merge(rows: list[Group]) -> Group:
    """K rows of one prompt to one group; a dimension that only some rows rated is None elsewhere."""
    values: dict[str, list[float | None]] = {}
    for k, row in enumerate(rows):
        for judgement in row.judgements:
            values.setdefault(judgement.dimension, [None] * len(rows))[k] = judgement.values[0]
    ranks = values.pop(_FLAT_RANK)
    overall = Judgement(kind="rank", values=rank_values(ranks))
    ratings = (Judgement(kind="score", dimension=name, values=tuple(given)) for name, given in values.items())
    return Group(
        prompt=rows[0].prompt,
        candidates=tuple(row.candidates[0] for row in rows),
        judgements=(overall, *ratings),
        split=rows[0].split,
        provenance=rows[0].provenance,
        extra=rows[0].extra,
    )


def _listed(row: Row, layout: str, pictures: str, ranks: str) -> Group:
    prompt = text(row, "prompt")
    cells = items(row, pictures)
    ranking = [number(row, ranks, rank, name="the rank") for rank in items(row, ranks, count=len(cells))]
    judgements = [Judgement(kind="rank", values=rank_values(ranking))]
    for column, dimension in _RATINGS.items():
        if row.values.get(column) is not None:
            given = [number(row, column, v, name="the rating") for v in items(row, column, count=len(cells))]
            judgements.append(Judgement(kind="score", dimension=dimension, values=tuple(given)))
    candidates = tuple(Candidate(media=image(row, pictures, cell)) for cell in cells)
    refuse_same(row, candidates, pictures)
    return Group(
        prompt=prompt,
        candidates=candidates,
        judgements=tuple(judgements),
        split=row.split,
        provenance=row.provenance(layout),
        extra=_extra(row),
    )


def _pair(row: Row) -> Group:
    prompt = text(row, "prompt")
    better, worse = (Candidate(media=image(row, k, row.values.get(k))) for k in ("img_better", "img_worse"))
    refuse_same(row, (better, worse), "img_worse")
    group = Group(
        prompt=prompt,
        candidates=(better, worse),
        judgements=(winner_first(),),
        split=row.split,
        provenance=row.provenance("imagereward-pair"),
        extra=_extra(row),
    )
    return drawn_pair(row, group)


_IDS = frozenset({"prompt_id", "prompt"})
_OPTIONAL = frozenset({"classification", *_RATINGS})

FLAT = Layout(
    name="imagereward-flat",
    required=_IDS | {"image", "rank", "image_amount_in_total"},
    optional=_OPTIONAL,
    to_group=lambda row: _flat(row, "imagereward-flat", "image"),
    gather_by="prompt_id",
    gather_count="image_amount_in_total",
    merge=_merge,
)
METADATA = Layout(
    name="imagereward-metadata",
    required=_IDS | {"image_path", "rank"},
    optional=_OPTIONAL | {"image_amount_in_total"},
    to_group=lambda row: _flat(row, "imagereward-metadata", "image_path"),
    gather_by="prompt_id",
    gather_count="image_amount_in_total",
    merge=_merge,
)
GROUPED = Layout(
    name="imagereward-group",
    required=_IDS | {"image", "rank"},
    optional=_OPTIONAL,
    absent=frozenset({"image_amount_in_total"}),
    to_group=lambda row: _listed(row, "imagereward-group", "image", "rank"),
)
PAIR = Layout(
    name="imagereward-pair",
    required=_IDS | {"img_better", "img_worse"},
    optional=frozenset({"classification"}),
    to_group=_pair,
)
TEST = Layout(
    name="imagereward-test",
    required=frozenset({"prompt", "generations", "ranking"}),
    to_group=lambda row: _listed(row, "imagereward-test", "generations", "ranking"),
)
