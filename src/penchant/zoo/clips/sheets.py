"""Contact sheets of clips: animated, for the documentation, and still, three frames a clip, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penchant.feedback.clip import Clip

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_TILE, _STILL_FRAMES = 64, (0, 4, 8)


def animated(clips: Sequence[Clip], captions: Sequence[str], file: Path, *, columns: int) -> int:
    """Writes clips of one length side by side as an animated WebP that plays in step; returns bytes.

    Args:
        clips: in reading order, with the same number of frames and frames a second.
        captions: one under each clip.
        file: where to write.
        columns: clips in a row.
    """
    from penchant.evaluate import contact_sheet

    frames = [
        contact_sheet([_picture(clip, index) for clip in clips], captions, columns=columns, tile=_TILE)
        for index in range(len(clips[0]))
    ]
    pace = {"save_all": True, "append_images": frames[1:], "duration": round(1000 / clips[0].fps), "loop": 0}
    frames[0].save(file, "WEBP", quality=60, method=6, **pace)
    return file.stat().st_size


def still(clips: Sequence[Clip], captions: Sequence[str], file: Path, *, columns: int) -> None:
    """Writes the first, the middle and the last of nine frames of every clip as a PNG."""
    from penchant.evaluate import contact_sheet

    pictures = [_picture(clip, index) for clip in clips for index in _STILL_FRAMES]
    words = [text for caption in captions for text in (caption, *[""] * (len(_STILL_FRAMES) - 1))]
    contact_sheet(pictures, words, columns=columns * len(_STILL_FRAMES), tile=96).save(file)


def _picture(clip: Clip, index: int) -> Picture:
    from PIL import Image

    return Image.fromarray(clip.frames[index]).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
