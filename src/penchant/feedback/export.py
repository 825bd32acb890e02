"""Groups to files that other tools read, or to one that keeps all there is.

Pairs of images become Pick-a-Pic rows in Parquet, pairs of clips VideoAlign's table with the clips beside it, pairs of
sounds audio-alpaca's rows in Parquet.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from penchant.errors import FeedbackError
from penchant.feedback.groups import Candidate, Group, Media
from penchant.feedback.objects import write_atomically
from penchant.feedback.readers.video import DIMENSIONS
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


def export_videoalign(groups: Iterable[Group], folder: str | PathLike[str], *, name: str = "data.csv") -> int:
    """Write judged pairs of clips as VideoAlign's table, with the clips in `videos/` beside it; return their number.

    `read` gives back the same prompts, clips, models and labels. A label is the order of the pair's scores in that
    dimension, so strengths, weights and annotators are not kept. The table appears when all clips are there.

    Args:
        groups: pairs of clips, judged in VQ, MQ, TA or overall.
        folder: made where it is missing.
        name: of the table; a split in it is read again.

    Raises:
        FeedbackError: a group is not a pair of clips, or nobody judged it in these dimensions.
        MediaError: a clip is gone, or cannot be decoded where its rate and length are not known.
    """
    root, rows = Path(folder), list[dict[str, Any]]()
    (root / "videos").mkdir(parents=True, exist_ok=True)
    for group in groups:
        rows.append(_clip_row(group))
        for side, candidate in zip("AB", group.candidates, strict=True):
            place = root / rows[-1][f"path_{side}"]
            assert candidate.media is not None
            if not place.is_file():
                write_atomically(place, candidate.media.bytes())
    columns = list(rows[0]) if rows else []
    temporary = root / f".tmp-{os.getpid()}-{name}"
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, root / name)
    finally:
        temporary.unlink(missing_ok=True)
    return len(rows)


def export_audio_alpaca(groups: Iterable[Group], path: str | PathLike[str], *, dimension: str = "overall") -> int:
    """Write decided pairs of sounds as audio-alpaca's rows and return their number; the file appears when it is whole.

    `read` gives back the same prompts, sounds, models and winners. Strengths, weights, annotators and listening times
    are kept by `export_groups` and the store.

    Raises:
        FeedbackError: a group is not a pair of sounds, it is a tie, or nobody judged it in `dimension`.
    """
    import pyarrow as pa

    audio, text = pa.struct({"bytes": pa.large_binary(), "path": pa.large_string()}), pa.large_string()
    columns = {"prompt": text, "chosen": audio, "rejected": audio, "strategy": text}
    models = {f"{side}_model": text for side in ("chosen", "rejected")}
    schema = pa.schema(columns | models | {"source": text})
    return _write((_sound_row(group, dimension) for group in groups), schema, Path(path))


def _sound_row(group: Group, dimension: str) -> dict[str, Any]:
    media = [c.media for c in group.candidates if c.media is not None and c.media.mime.startswith("audio/")]
    if len(group.candidates) != 2 or len(media) != 2:
        raise FeedbackError(
            f"group {group.id[:12]} is not a pair of sounds.", remedy="choose pairs, e.g. feedback.filter(...)."
        )
    first, second = _labels(group, dimension)
    if first == second:
        raise FeedbackError(
            f"group {group.id[:12]} is a tie, which the layout cannot say.", remedy="drop ties, or use export_groups."
        )
    row: dict[str, Any] = {"prompt": group.prompt, "strategy": str(group.extra.get("strategy", "")) or None}
    for side, place in zip(("chosen", "rejected"), (0, 1) if first > second else (1, 0), strict=True):
        row[side] = {"bytes": media[place].bytes(), "path": None}
        row[f"{side}_model"] = group.candidates[place].model
    return row | {"source": _source(group, {dimension})}


def _clip_row(group: Group) -> dict[str, Any]:
    from penchant.feedback.video_files import is_clip

    media = [c.media for c in group.candidates if c.media is not None and is_clip(c.media.bytes())]
    if len(group.candidates) != 2 or len(media) != 2:
        raise FeedbackError(
            f"group {group.id[:12]} is not a pair of clips.", remedy="choose pairs, e.g. feedback.filter(...)."
        )
    row: dict[str, Any] = {f"path_{side}": _clip_path(one) for side, one in zip("AB", media, strict=True)}
    row |= {f"{side}_model": c.model for side, c in zip("AB", group.candidates, strict=True)}
    row["prompt"] = group.prompt
    row |= {column: _order(group, dimension) for column, dimension in DIMENSIONS.items()}
    if not any(row[column] for column in DIMENSIONS):
        raise FeedbackError(
            f"group {group.id[:12]} is not judged.",
            field=", ".join(DIMENSIONS.values()),
            remedy="filter the groups that have judgements in one of these dimensions.",
        )
    for side, candidate in zip("AB", group.candidates, strict=True):
        row[f"fps_{side}"], row[f"num_frames_{side}"] = _rate(candidate)
    return row | {"source": _source(group, set(DIMENSIONS.values()))}


_ENDINGS = {"video/mp4": ".mp4", "video/quicktime": ".mov", "video/webm": ".webm", "video/x-msvideo": ".avi"}
_MOVING = (*_ENDINGS, "image/apng")


def _no_picture(media: Media) -> bool:
    return media.mime in _MOVING or media.mime.startswith("audio/")


def _clip_path(media: Media) -> str:
    ending = _ENDINGS.get(media.mime) or f".{media.mime.rpartition('/')[2]}"
    return f"videos/{media.sha256}{ending}"


def _order(group: Group, dimension: str) -> str | None:
    first, second = scores(group, dimension)
    if first is None or second is None:
        return None
    return "A" if first > second else "B" if first < second else "same"


def _rate(candidate: Candidate) -> tuple[float, float]:
    """Frames a second and frames, as the layout stated them or as they are."""
    from penchant.feedback.video_files import clip_of

    if {"fps", "num_frames"} <= candidate.settings.keys():
        return candidate.settings["fps"], candidate.settings["num_frames"]
    clip = clip_of(candidate)
    return clip.fps, float(len(clip))


def _source(group: Group, dimensions: set[str]) -> str | None:
    """Who judged: simulated feedback must not come back as people's."""
    sources = {j.source for j in group.judgements if j.dimension in dimensions}
    if len(sources) > 1:
        raise FeedbackError(
            f"group {group.id[:12]} was judged by several sources.", field="source", remedy="keep one of them."
        )
    return sources.pop() if sources else None


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
    if len(group.candidates) != 2 or len(media) != 2 or any(_no_picture(one) for one in media):
        raise FeedbackError(
            f"group {group.id[:12]} is not a pair of images.",
            remedy="choose pairs, e.g. feedback.filter(...); of clips with export_videoalign, of sounds with "
            "export_audio_alpaca.",
        )
    labels = _labels(group, dimension)
    uids = [one.sha256 for one in media]
    row: dict[str, Any] = {"caption": group.prompt, "has_label": True, "are_different": labels[0] != labels[1]}
    row["best_image_uid"] = "tie" if labels[0] == labels[1] else uids[0 if labels[0] > labels[1] else 1]
    for k, candidate in enumerate(group.candidates):
        row |= {f"jpg_{k}": media[k].bytes(), f"label_{k}": labels[k], f"image_{k}_uid": uids[k]}
        row[f"model_{k}"] = candidate.model
    row["source"] = _source(group, {dimension})
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
