"""Tiny self-made tables in the layouts of clips, with real clips beside them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clip_fixtures import encoded, pan, zoom

HEADER = ("path_A", "path_B", "prompt", "VQ", "MQ", "TA", "fps_A", "num_frames_A", "fps_B", "num_frames_B")


def write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns or list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def clips_beside(folder: Path, count: int) -> list[str]:
    """Clips 0.mp4, 1.mp4, ... in `videos/`; even ones pan, odd ones zoom."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for k in range(count):
        clip = (zoom if k % 2 else pan)(k // 2, side=64, frames=12, fps=12)
        (folder / "videos" / f"{k}.mp4").write_bytes(encoded(clip))
    return [f"videos/{k}.mp4" for k in range(count)]


def pair_row(a: str = "videos/0.mp4", b: str = "./videos/1.mp4", **changes: Any) -> dict[str, Any]:
    """A row as the authors' example has it: one path begins with `./`, the other does not."""
    row = {"path_A": a, "path_B": b, "prompt": 'a "round" face, smiling', "VQ": "A", "MQ": "B", "TA": "same"}
    facts = {"fps_A": 12.0, "num_frames_A": 12.0, "fps_B": 12.0, "num_frames_B": 12.0}
    return row | facts | changes


def videoalign(folder: Path) -> Path:
    clips_beside(folder, 4)
    rows = [pair_row(), pair_row("./videos/2.mp4", "videos/3.mp4", prompt="a heart\nthat beats", VQ="same", MQ="")]
    return write_csv(folder / "train.csv", rows, HEADER)


def rewardbench(folder: Path) -> Path:
    clips_beside(folder, 2)
    row = pair_row(A_model="kling", B_model="luma", Overall="B")
    return write_csv(folder / "videogen-rewardbench.csv", [row])


RATINGS = {"visual quality": 3, "temporal consistency": 4, "dynamic degree": 2, "text-to-video alignment": 3}


def rated_row(k: int, prompt: str, **changes: Any) -> dict[str, Any]:
    row = {"id": f"{k:07d}", "images": [f"{k}_00.jpg"], "text prompt": prompt}
    row |= {"video link": f"https://example.org/resolve/main/videos/{k}.mp4", **RATINGS, "factual consistency": k}
    return row | {"conversations": [{"from": "human", "value": "rate it"}]} | changes


def videofeedback(folder: Path) -> Path:
    clips_beside(folder, 3)
    rows = [rated_row(0, "a face"), rated_row(1, "a heart"), rated_row(2, "a face")]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet")
    return folder / "train-00000-of-00001.parquet"


MAKERS = {"videoalign": videoalign, "videogen-rewardbench": rewardbench, "videofeedback": videofeedback}
