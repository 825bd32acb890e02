"""Groups to one Parquet file, media embedded: pairs in the Pick-a-Pic layout that other tools read, or all there is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from penchant.errors import FeedbackError
from penchant.feedback.groups import Group
from penchant.feedback.views import scores

# Ten rows with images are about 1.5 MB: a row can be read without its thousand neighbours (479/s against 3/s).
ROW_GROUP = 10


def export_parquet(groups: Iterable[Group], path: str | PathLike[str], *, dimension: str = "overall") -> int:
    """Write judged pairs of images as Pick-a-Pic rows and return their number; the file appears when it is whole.

    Labels are the pair's scores if these add up to 1 (pair, vote, rank), else 1, 0 or 0.5 by their order.

    Raises:
        FeedbackError: a group is not a pair of images, or nobody judged it in `dimension`.
    """
    return _write((_row(group, dimension) for group in groups), _schema(), Path(path))


def export_groups(groups: Iterable[Group], path: str | PathLike[str]) -> int:
    """Write groups of any size with all their judgements, and return their number; `read` gives them back as they were.

    Raises:
        MediaError: a medium is gone or was altered.
    """
    from penchant.feedback.rows import row_of, schema

    return _write((row_of(group, with_media=True) for group in groups), schema(with_media=True), Path(path))


def _write(made: Iterable[dict[str, Any]], schema: Any, path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    count, rows = 0, list[dict[str, Any]]()
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with pq.ParquetWriter(temporary, schema) as writer:
            for row in made:
                rows.append(row)
                count += 1
                if len(rows) == ROW_GROUP:
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                    rows = []
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _schema() -> Any:
    import pyarrow as pa

    text = pa.large_string()
    sides = {name.format(k): text for k in (0, 1) for name in ("image_{}_uid", "model_{}")}
    return pa.schema(
        {
            "are_different": pa.bool_(),
            "best_image_uid": text,
            "caption": text,
            "has_label": pa.bool_(),
            **sides,
            "jpg_0": pa.large_binary(),
            "jpg_1": pa.large_binary(),
            "label_0": pa.float64(),
            "label_1": pa.float64(),
            "source": text,
        }
    )


def _row(group: Group, dimension: str) -> dict[str, Any]:
    media = [candidate.media for candidate in group.candidates if candidate.media is not None]
    if len(group.candidates) != 2 or len(media) != 2:
        raise FeedbackError(
            f"group {group.id[:12]} is not a pair of images.", remedy="choose pairs, e.g. feedback.filter(...)."
        )
    labels = _labels(group, dimension)
    uids = [one.sha256 for one in media]
    row: dict[str, Any] = {"caption": group.prompt, "has_label": True, "are_different": labels[0] != labels[1]}
    row["best_image_uid"] = "tie" if labels[0] == labels[1] else uids[0 if labels[0] > labels[1] else 1]
    for k, candidate in enumerate(group.candidates):
        row |= {f"jpg_{k}": media[k].bytes(), f"label_{k}": labels[k], f"image_{k}_uid": uids[k]}
        row[f"model_{k}"] = candidate.model
    # Simulated feedback must not come back as people's.
    sources = {j.source for j in group.judgements if j.dimension == dimension}
    row["source"] = sources.pop() if len(sources) == 1 else None
    if sources:
        raise FeedbackError(
            f"group {group.id[:12]} was judged by several sources.", field="source", remedy="keep one of them."
        )
    return row


def _labels(group: Group, dimension: str) -> tuple[float, float]:
    first, second = scores(group, dimension)
    if first is None or second is None:
        raise FeedbackError(
            f"group {group.id[:12]} is not judged.", field=dimension, remedy="filter the groups that have judgements."
        )
    if abs(first + second - 1) <= 1e-9 and 0 <= first <= 1:
        return first, second
    return (1.0, 0.0) if first > second else (0.0, 1.0) if first < second else (0.5, 0.5)
