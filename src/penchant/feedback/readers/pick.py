"""Pick-a-Pic v1/v2 and what follows it (Pick-Style, Pick-Safety): one row, two embedded images, two labels."""

from __future__ import annotations

from penchant.feedback.groups import Candidate, Group, Judgement, plain
from penchant.feedback.readers.cells import annotator, image, name_or_none, refuse_same, share, source_of, text
from penchant.feedback.readers.layout import Layout, Row


def _group(row: Row, layout: str) -> Group:
    prompt = text(row, "caption")
    values = _labels(row)
    candidates = tuple(
        Candidate(
            media=image(row, f"jpg_{k}", row.values.get(f"jpg_{k}")),
            model=name_or_none(row.values.get(f"model_{k}")),
            settings=_known(row, {"uid": f"image_{k}_uid", "url": f"image_{k}_url"}),
        )
        for k in (0, 1)
    )
    refuse_same(row, candidates, "jpg_1")
    return Group(
        prompt=prompt,
        candidates=candidates,
        judgements=(
            Judgement(
                kind="pair", values=values, annotator=annotator(row.values.get("user_id")), source=source_of(row)
            ),
        ),
        split=row.split,
        provenance=row.provenance(layout),
        extra=_known(row, {"ranking_id": "ranking_id", "created_at": "created_at"}),
    )


def _labels(row: Row) -> tuple[float, float]:
    if "has_label" in row.values and not row.values["has_label"]:
        raise row.error(
            "the row has no label.", "has_label", "only labelled rows state a preference; filter on has_label."
        )
    first, second = share(row, "label_0"), share(row, "label_1")
    if abs(first + second - 1) > 1e-6:
        raise row.error(
            "the labels are inconsistent: they do not add up to 1.", "label_1", "correct or remove the row."
        )
    best = row.values.get("best_image_uid")
    winner = 0 if first > second else 1
    loser_uid = row.values.get(f"image_{1 - winner}_uid")
    if first != second and best and best == loser_uid != row.values.get(f"image_{winner}_uid"):
        raise row.error(
            "the labels are inconsistent: best_image_uid names the loser.",
            "best_image_uid",
            "the sides were swapped in some columns; correct or remove the row.",
        )
    return first, second


def _known(row: Row, names: dict[str, str]) -> dict[str, object]:
    values = ((key, row.values.get(column)) for key, column in names.items())
    return {key: plain(value) for key, value in values if value is not None}


_REQUIRED = frozenset({"caption", "jpg_0", "jpg_1", "label_0", "label_1"})

PICK_A_PIC = Layout(
    name="pick-a-pic",
    required=_REQUIRED | {"has_label"},
    optional=frozenset({"best_image_uid", "created_at", "model_0", "model_1", "ranking_id", "user_id"})
    | {"image_0_uid", "image_0_url", "image_1_uid", "image_1_url", "source"},
    to_group=lambda row: _group(row, "pick-a-pic"),
)
PICK_STYLE = Layout(
    name="pick-style",
    required=_REQUIRED,
    optional=frozenset({"model_0", "model_1"}),
    to_group=lambda row: _group(row, "pick-style"),
)
