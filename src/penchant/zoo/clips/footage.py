"""The clips that penchant ships: all loops as one mosaic video, and what each tile is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from penchant.zoo.clips import mosaic
from penchant.zoo.clips.data import Footage
from penchant.zoo.emoji.data import split_of

LENGTH = 18
"""Frames of the video: most loops have as many; a shorter one goes on from its start, a longer one is left out."""

VIDEO, INDEX = "clips.webm", "clips.json"


def write(loops: Sequence[Footage], folder: Path) -> int:
    """Writes `clips.webm` and `clips.json`; returns the bytes of the video.

    Raises:
        MediaError: PyAV is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    loops = [one for one in loops if len(one.frames) <= LENGTH]
    tiles = np.stack([one.frames[np.arange(LENGTH) % len(one.frames)] for one in loops])
    size = mosaic.write(tiles, folder / VIDEO, crf=38)
    (folder / INDEX).write_text(json.dumps([_row(c) for c in loops], separators=(",", ":")) + "\n")
    return size


def read(folder: Path) -> list[Footage]:
    """What `write` wrote, as the decoder returns it; every loop has its own length again.

    Raises:
        MediaError: PyAV is not installed, or the video is not whole.
    """
    rows = json.loads((folder / INDEX).read_text())
    tiles = mosaic.read(folder / VIDEO, clips=len(rows), frames=LENGTH)
    return [_loop(row, tile) for row, tile in zip(rows, tiles, strict=True)]


def _row(loop: Footage) -> dict[str, Any]:
    return {"caption": loop.caption, "category": loop.category, "codepoint": loop.codepoint, "frames": len(loop.frames)}


def _loop(row: dict[str, Any], tile: UInt8[np.ndarray, "F H W 3"]) -> Footage:
    return Footage(**{**row, "split": split_of(row["caption"]), "frames": tile[: row["frames"]]})
