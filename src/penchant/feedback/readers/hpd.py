"""HPDv2 (train.json, test.json) and HPDv3: JSON lists that name image files beside them."""

from __future__ import annotations

from typing import Any

from penchant.feedback.groups import Candidate, Group, Judgement, plain, rank_values
from penchant.feedback.readers.cells import (
    annotator,
    drawn_pair,
    image,
    items,
    name_or_none,
    number,
    refuse_same,
    text,
    winner_first,
)
from penchant.feedback.readers.layout import Layout, Row


def _images(row: Row, field: str) -> tuple[Candidate, ...]:
    candidates = tuple(Candidate(media=image(row, field, path)) for path in items(row, field))
    refuse_same(row, candidates, field)
    return candidates


def _hpdv2_train(row: Row) -> Group:
    prompt = text(row, "prompt")
    count = len(items(row, "file_path"))
    preferred = [
        number(row, "human_preference", v, name="the label") for v in items(row, "human_preference", count=count)
    ]
    if not set(preferred) <= {0.0, 1.0} or sum(preferred) != 1:
        raise row.error(
            "the labels are inconsistent: not exactly one candidate is preferred.",
            "human_preference",
            "use one 1 and otherwise 0; correct or remove the row.",
        )
    # One favourite among K: it beats all others, and nothing was said between those.
    judgement = Judgement(kind="pair" if count == 2 else "rank", values=rank_values([1 - v for v in preferred]))
    return Group(
        prompt=prompt,
        candidates=_images(row, "file_path"),
        judgements=(judgement,),
        split=row.split,
        provenance=row.provenance("hpdv2-train"),
    )


def _hpdv2_test(row: Row) -> Group:
    prompt = text(row, "prompt")
    count = len(items(row, "image_path"))
    raw = items(row, "raw_annotations") if row.values.get("raw_annotations") else []
    # The aggregated rank is made from the raw ones, so it only counts where those are not given.
    judgements = tuple(_annotation(row, one, count) for one in raw)
    if not judgements:
        judgements = (Judgement(kind="rank", values=_ranks(row, "rank", row.values.get("rank"), count)),)
    return Group(
        prompt=prompt,
        candidates=_images(row, "image_path"),
        judgements=judgements,
        split=row.split,
        provenance=row.provenance("hpdv2-test"),
    )


def _annotation(row: Row, one: Any, count: int) -> Judgement:
    ranks = _ranks(row, "raw_annotations", one.get("rank") if isinstance(one, dict) else None, count)
    return Judgement(kind="rank", values=ranks, annotator=annotator(one.get("user_hash")))


def _ranks(row: Row, field: str, ranks: Any, count: int) -> tuple[float | None, ...]:
    if not isinstance(ranks, list) or len(ranks) != count:
        raise row.error("lists of one row differ in length.", field, "give one rank for each candidate.")
    return rank_values([number(row, field, rank, name="the rank") for rank in ranks])


def _hpdv3(row: Row) -> Group:
    prompt = text(row, "prompt")
    winner, loser = (
        Candidate(
            media=image(row, f"path{k}", row.values.get(f"path{k}")), model=name_or_none(row.values.get(f"model{k}"))
        )
        for k in (1, 2)
    )
    refuse_same(row, (winner, loser), "path2")
    known = {k: plain(v) for k in ("confidence", "choice_dist") if (v := row.values.get(k)) is not None}
    group = Group(
        prompt=prompt,
        candidates=(winner, loser),
        judgements=(winner_first(**known),),
        split=row.split,
        provenance=row.provenance("hpdv3"),
    )
    return drawn_pair(row, group)


HPDV2_TRAIN = Layout(
    name="hpdv2-train", required=frozenset({"human_preference", "prompt", "file_path"}), to_group=_hpdv2_train
)
HPDV2_TEST = Layout(
    name="hpdv2-test",
    required=frozenset({"prompt", "image_path", "rank"}),
    optional=frozenset({"raw_annotations"}),
    absent=frozenset({"prompt_id"}),
    to_group=_hpdv2_test,
)
HPDV3 = Layout(
    name="hpdv3",
    required=frozenset({"prompt", "path1", "path2"}),
    optional=frozenset({"model1", "model2", "confidence", "choice_dist"}),
    to_group=_hpdv3,
)
