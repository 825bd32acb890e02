"""Pairs of the generator's own clips: `zoo:clips/samples`, drawn once, shipped as a mosaic, labelled by a judge.

Two samples a caption with seeds of their own, each at a guidance scale drawn by count, so that weak and strong ones
meet. The labels are simulated feedback: a reward model gave them, no person did. The mosaic is compressed with loss;
`redraw` writes the same pairs without any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penchant.assets import path
from penchant.errors import FeedbackError
from penchant.feedback import Candidate, Group, Judgement, Media
from penchant.feedback.clip import Clip
from penchant.feedback.export import export_groups
from penchant.feedback.video_files import encode_clip
from penchant.likelihoods.randomness import generator
from penchant.zoo.clips import mosaic
from penchant.zoo.clips.data import FPS, FRAMES
from penchant.zoo.emoji.data import split_of

GUIDANCES = (1.0, 1.5, 2.0, 3.0, 4.0)
VIDEO, INDEX, FILE = "clips.webm", "clips.json", "samples.parquet"
# Counted up whenever the same clips and labels would give other groups.
_EDITION = 1


def draw(model: Any, captions: Sequence[str], folder: Path, *, steps: int, batch_size: int = 16) -> int:
    """Draws two clips of every caption, writes `clips.webm` and `clips.json`; returns the bytes of the video.

    Args:
        model: the generator, a video model.
        captions: what to draw.
        folder: where to write.
        steps: denoising steps.
        batch_size: clips at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = {"steps": steps, "clips": [row for caption in captions for row in _rows(caption)], "labels": None}
    drawn = _draw(model, index, batch_size)
    size = mosaic.write(np.stack([clip.frames for clip in drawn]), folder / VIDEO, crf=45)
    _write_index(folder, index)
    return size


def label(folder: Path, judge: Any) -> None:
    """Scores the drawn clips with a judge of clips and keeps its scores beside them."""
    index = json.loads((folder / INDEX).read_text())
    _write_index(folder, {**index, "labels": _labels(index, _clips(folder, index), judge)})


def groups(folder: Path) -> Iterator[Group]:
    """The pairs, one a caption, with the judge's score of each side in every dimension and "overall".

    Raises:
        FeedbackError: no judge has labelled them.
        MediaError: PyAV is not installed.
    """
    index = json.loads((folder / INDEX).read_text())
    if index["labels"] is None:
        raise FeedbackError("no judge has labelled the samples.", file=folder / INDEX, remedy="label them first.")
    return _groups(index, _clips(folder, index))


def redraw(model: Any, judge: Any, out: Path, *, limit: int | None = None, batch_size: int = 16) -> None:
    """Writes the shipped pairs as `samples.parquet` in `out`, drawn and labelled anew: what the video lost is there.

    Args:
        model: the generator, `zoo:clips`.
        judge: who labels, `zoo:clips/reward`.
        out: folder to write to.
        limit: only so many of the pairs.
        batch_size: clips at once.
    """
    index = json.loads((path("clips/drawn") / INDEX).read_text())
    index["clips"] = index["clips"][: None if limit is None else 2 * limit]
    clips = _draw(model, index, batch_size)
    export_groups(_groups({**index, "labels": _labels(index, clips, judge)}, clips), out / FILE)


def _draw(model: Any, index: dict[str, Any], batch_size: int) -> list[Clip]:
    """The index's clips, in its order; those of one guidance scale are drawn together."""
    rows, drawn = index["clips"], dict[int, Clip]()
    for scale in GUIDANCES:
        places = [i for i, row in enumerate(rows) if row["guidance"] == scale]
        prompts, seeds = [rows[i]["caption"] for i in places], [rows[i]["seed"] for i in places]
        options = {"steps": index["steps"], "guidance": scale, "batch_size": batch_size}
        drawn |= dict(zip(places, model.generate(prompts, seeds=seeds, **options), strict=True)) if places else {}
    return [drawn[i] for i in range(len(rows))]


def _labels(index: dict[str, Any], clips: Sequence[Clip], judge: Any) -> dict[str, Any]:
    scores_ND = judge.score([row["caption"] for row in index["clips"]], clips)
    return {"judge": judge.name, "dimensions": list(judge.dimensions), "scores": np.round(scores_ND, 4).tolist()}


def _groups(index: dict[str, Any], clips: Sequence[Clip]) -> Iterator[Group]:
    for first in range(0, len(clips), 2):
        sides = (first, first + 1)
        rows = [index["clips"][i] for i in sides]
        yield Group(
            prompt=rows[0]["caption"],
            candidates=tuple(_candidate(clips[i], row) for i, row in zip(sides, rows, strict=True)),
            judgements=_judgements(index["labels"], [index["labels"]["scores"][i] for i in sides]),
            split=split_of(rows[0]["caption"]),
        )


def version() -> str:
    """Names what `write` would write: the edition of this file, the shipped clips and their labels."""
    folder = path("clips/drawn")
    data = b"".join((folder / name).read_bytes() for name in (VIDEO, INDEX))
    return f"{_EDITION}-{hashlib.sha256(data).hexdigest()[:8]}"


def write(out: Path) -> None:
    """Writes the shipped pairs as `samples.parquet` in `out`.

    Raises:
        FeedbackError: no judge has labelled them.
        MediaError: PyAV is not installed.
    """
    export_groups(groups(path("clips/drawn")), out / FILE)


def _rows(caption: str) -> list[dict[str, Any]]:
    rows = []
    for side in range(2):
        rng = generator(0, side, caption, "clip candidate")
        scale, seed = GUIDANCES[int(rng.integers(len(GUIDANCES)))], int(rng.integers(2**31))
        rows.append({"caption": caption, "guidance": scale, "seed": seed})
    return rows


def _clips(folder: Path, index: dict[str, Any]) -> list[Clip]:
    frames = mosaic.read(folder / VIDEO, clips=len(index["clips"]), frames=FRAMES)
    return [Clip(frames=one, fps=FPS) for one in frames]


def _candidate(clip: Clip, row: dict[str, Any]) -> Candidate:
    name = f"clips, guidance {row['guidance']:g}"
    settings = {"guidance": row["guidance"]}
    return Candidate(media=Media.of(encode_clip(clip)), model=name, seed=row["seed"], settings=settings)


def _judgements(labels: dict[str, Any], scores: Sequence[Sequence[float]]) -> tuple[Judgement, ...]:
    """The scores of both sides by dimension, and their mean as "overall", as the reward's own `#overall` is."""
    source = f"simulated:{labels['judge']}"
    named = dict(zip(labels["dimensions"], zip(*scores, strict=True), strict=True))
    named["overall"] = tuple(float(np.mean(side)) for side in scores)
    return tuple(
        Judgement(kind="score", values=values, dimension=name, source=source) for name, values in named.items()
    )


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    (folder / INDEX).write_text(json.dumps(index, separators=(",", ":")) + "\n")
