"""A group as a row of Parquet: what the store's parts and single-file exports have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from penchant.feedback.groups import Candidate, Group, Judgement, Media, plain


def schema(*, with_media: bool = False) -> Any:
    """The columns; `with_media` adds the encoded bytes to every candidate."""
    import pyarrow as pa

    text = pa.large_string()
    candidate = {
        "id": text,
        "sha256": text,
        "mime": text,
        "text": text,
        "model": text,
        "seed": pa.int64(),
        "settings": text,
    }
    judgement = {
        "kind": text,
        "dimension": text,
        "values": pa.list_(pa.float64()),
        "annotator": text,
        "source": text,
        "weight": pa.float64(),
        "extra": text,
    }
    media = {"data": pa.large_binary()} if with_media else {}
    return pa.schema(
        {
            "id": text,
            "prompt": text,
            "candidates": pa.list_(pa.struct(candidate | media)),
            "judgements": pa.list_(pa.struct(judgement)),
            "split": text,
            "licence": text,
            "provenance": text,
            "extra": text,
        }
    )


def row_of(group: Group, *, with_media: bool = False) -> dict[str, Any]:
    """The row of a group."""
    return {
        "id": group.id,
        "prompt": group.prompt,
        "candidates": [_candidate(c, with_media) for c in group.candidates],
        "judgements": [
            {
                "kind": j.kind,
                "dimension": j.dimension,
                "values": list(j.values),
                "annotator": j.annotator,
                "source": j.source,
                "weight": j.weight,
                "extra": _as_json(j.extra),
            }
            for j in group.judgements
        ],
        "split": group.split,
        "licence": group.licence,
        "provenance": _as_json(group.provenance),
        "extra": _as_json(group.extra),
    }


def _candidate(candidate: Candidate, with_media: bool) -> dict[str, Any]:
    media = candidate.media
    return {
        "id": candidate.id,
        "sha256": media.sha256 if media else None,
        "mime": media.mime if media else None,
        "text": candidate.text,
        "model": candidate.model,
        "seed": candidate.seed,
        "settings": _as_json(candidate.settings),
    } | ({"data": media.bytes() if media else None} if with_media else {})


def _as_json(mapping: object) -> str:
    return json.dumps(plain(mapping), ensure_ascii=False)


def group_of(row: Mapping[str, Any], media: Callable[[dict[str, Any]], Media | None]) -> Group:
    """The group of a row; `media` finds the media of a candidate's cell.

    Raises KeyError, TypeError or JSONDecodeError for a row that `row_of` did not make.
    """
    candidates = []
    for cell in row["candidates"]:
        found = media(cell)
        kept = {k: cell[k] for k in ("id", "text", "model", "seed")}
        candidates.append(Candidate(**kept, settings=json.loads(cell["settings"]), media=found))
    judgements = (
        Judgement(**{**cell, "values": tuple(cell["values"]), "extra": json.loads(cell["extra"])})
        for cell in row["judgements"]
    )
    plainly = {name: row[name] for name in ("id", "prompt", "split", "licence")}
    mappings = {name: json.loads(row[name]) for name in ("provenance", "extra")}
    return Group(**plainly, **mappings, candidates=tuple(candidates), judgements=tuple(judgements))
