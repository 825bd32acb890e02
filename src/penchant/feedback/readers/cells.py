"""Cells to values: captions, labels, media. What cannot be trusted is refused with a fixed sentence and a remedy."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from penchant.errors import MediaError
from penchant.feedback.audio_files import MIN_SECONDS, SILENT, decode_sound
from penchant.feedback.groups import Candidate, Group, Judgement, Media
from penchant.feedback.media import decode_image
from penchant.feedback.readers.layout import Row
from penchant.feedback.video_files import decode_clip
from penchant.feedback.views import counted_rng

MAX_CAPTION = 100_000
MAX_TEXT = 16_000_000


def text(row: Row, field: str, *, name: str = "the caption", longest: int = MAX_CAPTION) -> str:
    """A text cell that is not empty and is valid Unicode; NUL characters are removed (a documented repair)."""
    return clean_text(row, row.values.get(field), field, name=name, longest=longest)


def clean_text(row: Row, value: Any, field: str, *, name: str, longest: int = MAX_TEXT) -> str:
    """`text`, for a value taken from within a cell."""
    if value is None:
        raise row.error(f"{name} is missing.", field, "fill it in, or remove the row.")
    if not isinstance(value, str):
        raise row.error(f"{name} is not text.", field, "store it as a string.")
    if len(value) > longest:
        raise row.error(f"{name} is too long.", field, f"shorten it to at most {longest} characters.")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise row.error(
            f"{name} is not valid Unicode.", field, "it holds half a surrogate pair: write it again as UTF-8."
        )
    if "\x00" in value:
        value = value.replace("\x00", "")
        row.repairs.append(f"NUL removed from {name}")
    if not value.strip():
        raise row.error(f"{name} is empty.", field, "a preference needs a prompt and an answer; remove the row.")
    return value


def number(row: Row, field: str, value: Any, *, name: str) -> float:
    """A finite number; a numeric text is refused rather than guessed at."""
    if value is None:
        raise row.error(f"{name} is missing.", field, "fill it in, or remove the row.")
    if isinstance(value, str) or not isinstance(value, int | float):
        raise row.error(f"{name} is not a number.", field, "store it as an integer or float.")
    if not math.isfinite(value):
        raise row.error(f"{name} is NaN or infinite.", field, "fill it in, or remove the row.")
    return float(value)


def share(row: Row, field: str) -> float:
    """A label in [0, 1]."""
    value = number(row, field, row.values.get(field), name="the label")
    if not 0 <= value <= 1:
        raise row.error("the label is outside 0 to 1.", field, "use 1 for the winner, 0 for the loser, 0.5 for a tie.")
    return value


def items(row: Row, field: str, *, count: int | None = None) -> list[Any]:
    """A list cell that is not empty, of `count` elements if given."""
    value = row.values.get(field)
    if not isinstance(value, list) or not value:
        raise row.error("a list is missing or empty.", field, "give one element for each candidate.")
    if count is not None and len(value) != count:
        raise row.error("lists of one row differ in length.", field, "give one element for each candidate.")
    return value


def name_or_none(value: Any) -> str | None:
    """A model's or annotator's name; empty means unknown."""
    return str(value) if value not in (None, "") else None


def annotator(value: Any) -> str | None:
    """The hash of an annotator's id, so that no name travels with the data."""
    return None if value in (None, "") else hashlib.sha256(f"annotator:{value}".encode()).hexdigest()[:16]


def source_of(row: Row) -> str:
    """Who labelled the row: people, unless our own `source` column says that a reward or a simulation did."""
    source = name_or_none(row.values.get("source")) or "human"
    if source != "human" and not source.startswith(("reward:", "judge:", "simulated:")):
        raise row.error("the source is unknown.", "source", "one of human, reward:, judge:, simulated: and a name.")
    return source


def image(row: Row, field: str, cell: Any) -> Media:
    """The image of a cell: bytes, `{bytes, path}`, or a path below the row's root.

    Raises FeedbackError for a missing image or a path that leaves the folder, MediaError for one that does not decode.
    """
    return _checked(row, field, _medium(row, field, cell, "image"), decode_image)


def clip(row: Row, field: str, cell: Any, *, fps: float | None = None) -> Media:
    """The clip of a cell, as `image`; `fps` is the rate that the layout states."""
    return _checked(row, field, _medium(row, field, cell, "clip"), partial(decode_clip, fps=fps))


def sound(row: Row, field: str, cell: Any, *, min_seconds: float = MIN_SECONDS, floor: float = SILENT) -> Media:
    """The sound of a cell, as `image`; see `decode_sound` for what is too short or silent."""
    decode = partial(decode_sound, min_seconds=min_seconds, floor=floor)
    return _checked(row, field, _medium(row, field, cell, "sound"), decode)


def _medium(row: Row, field: str, cell: Any, what: str) -> Media:
    if isinstance(cell, dict):
        cell = cell.get("bytes") if cell.get("bytes") is not None else cell.get("path")
    if isinstance(cell, str):
        path = inside(row, field, cell, what=what)
        try:
            return Media.of(path.read_bytes(), path=str(path))
        except OSError as error:
            raise row.error(f"the {what} file cannot be read.", field, "check its permissions.") from error
    if isinstance(cell, bytes):
        return Media.of(cell)
    raise row.error(f"the {what} is missing.", field, "fetch it, or remove the row.")


def _checked(row: Row, field: str, media: Media, decode: Callable[[bytes], tuple[Any, list[str]]]) -> Media:
    """The medium, decoded once if the reading verifies media."""
    if row.verify_media:
        try:
            _, repairs = decode(media.bytes())
        except MediaError as error:
            raise MediaError(error.problem, file=row.file, row=row.number, field=field, remedy=error.remedy) from error
        row.repairs.extend(repairs)
    return media


def inside(row: Row, field: str, name: str, *, what: str = "image") -> Path:
    """`name` below the row's root or its split's folder; absolute paths, `..` and links leading outside are refused."""
    outside = row.error(
        "a path leaves the folder of the data.", field, "use paths relative to the folder, with the files inside it."
    )
    if "\x00" in name or "\\" in name or Path(name).is_absolute():
        raise outside
    root = row.root.resolve()
    for base in (root, root / row.split if row.split else root):
        try:
            path = (base / name).resolve()
            exists = path.is_file()
        # A name too long for the file system, or a circle of links.
        except (OSError, RuntimeError, ValueError):
            continue
        if not path.is_relative_to(root):
            raise outside
        if exists:
            return path
    raise row.error(
        f"the {what} file does not exist.", field, f"unpack the {what} archives beside the file that names them."
    )


def refuse_same(row: Row, candidates: tuple[Candidate, ...], field: str, *, what: str = "image") -> None:
    """Two sides with the same content state no preference, whatever the label says (larger groups pass).

    `what` names candidates that have media.
    """
    if len(candidates) == 2 and candidates[0].id == candidates[1].id:
        what = what if candidates[0].media is not None else "text"
        raise row.error(f"same {what} on both sides.", field, "remove the row; nothing can be learned from it.")


def drawn_pair(row: Row, group: Group) -> Group:
    """The group with its two candidates in a drawn order, for layouts that always list the winner first.

    The draw depends on the (order-free) group id alone, so position carries nothing and every reading agrees.
    """
    row.repairs.append("winner always listed first: order drawn")
    return group.only((1, 0)) if counted_rng(0, f"position:{group.id}").integers(2) else group


def winner_first(**extra: Any) -> Judgement:
    """The judgement of a pair whose first candidate won."""
    return Judgement(kind="pair", values=(1.0, 0.0), extra=extra)
