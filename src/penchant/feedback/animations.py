"""Animated pictures: WebP, GIF and PNG read by Pillow, and the lossless animated PNG that clips are kept as.

Why PNG: WebP and GIF keep milliseconds and hundredths of a second, and their writers join frames that are equal, so
nine frames at 24 a second do not come back as they were. An animated PNG keeps its delays as fractions; we write its
chunks ourselves, one a frame, since Pillow's writer joins equal frames too. The rate stands beside in a text chunk, as
a decimal that keeps every bit of the float: not every rate is a fraction of two 16-bit numbers.

Source: Portable Network Graphics (third edition, W3C 2025), sections 11.3.6 (acTL, fcTL, fdAT) and 11.3.3 (tEXt).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from penchant.errors import MediaError
from penchant.feedback.clip import Clip

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("WEBP", "GIF", "PNG")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RATE = "penchant:fps"
_SHORT = 2**16 - 1
# What browsers show a frame for whose delay is missing or zero.
_DEFAULT_SECONDS = 0.1
_UNTIMED = "frames without a duration shown for 0.1 s"
_TRANSPARENT = "transparency laid on white"


def encode_animation(clip: Clip) -> bytes:
    """The clip as an animated PNG: every frame by itself, bit for bit."""
    count, height, width, _ = clip.frames.shape
    ratio = delay(clip.fps)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), _chunk(b"acTL", struct.pack(">II", count, 0))]
    chunks.append(_chunk(b"tEXt", f"{_RATE}\x00{clip.fps!r}".encode("latin-1")))
    number = 0
    for index, frame in enumerate(clip.frames):
        # Whole frames that replace what was there (dispose none, blend source).
        chunks.append(_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, *ratio, 0, 0)))
        number += 1
        pixels = _pixels(frame)
        if index == 0:
            chunks.append(_chunk(b"IDAT", pixels))
        else:
            chunks.append(_chunk(b"fdAT", struct.pack(">I", number) + pixels))
            number += 1
    return b"".join([_SIGNATURE, *chunks, _chunk(b"IEND", b"")])


def delay(fps: float) -> tuple[int, int]:
    """Seconds a frame as two 16-bit numbers, the nearest fraction that there is."""
    nearest = (1 / Fraction(fps)).limit_denominator(_SHORT)
    return min(max(nearest.numerator, 1), _SHORT), nearest.denominator


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _pixels(frame: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """The compressed pixels of a frame: Pillow chooses the filters, the image data are taken out of its file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).save(buffer, "PNG")
    return b"".join(data for kind, data in _chunks(buffer.getvalue()) if kind == b"IDAT")


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place + 8 <= len(png):
        size, kind = struct.unpack(">I4s", png[place : place + 8])
        yield kind, png[place + 8 : place + 8 + size]
        place += size + 12


class Animation:
    """An animated picture that is open: size and number of frames are known, no pixel is decoded yet."""

    def __init__(self, data: bytes) -> None:
        """
        Raises:
            MediaError: the bytes are no WebP, GIF or PNG.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            self._image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise MediaError("the clip is corrupt.", remedy="fetch the file again, or remove the row.") from error
        self.width, self.height = self._image.size
        # A PNG may show readers without animation a picture that is no frame.
        self._first = 1 if self._image.info.get("default_image") else 0
        self.count: int = getattr(self._image, "n_frames", 1) - self._first

    @property
    def fps(self) -> float | None:
        """The exact rate, if `encode_animation` wrote it."""
        text = self._image.info.get(_RATE)
        return None if text is None else float(text)

    def read(self) -> tuple[UInt8[np.ndarray, "F H W 3"], list[float], list[str]]:
        """All frames on white, how many seconds each is shown, and the repairs that were made."""
        frames = np.empty((self.count, self.height, self.width, 3), dtype=np.uint8)
        seconds, repairs = list[float](), dict[str, None]()
        for k in range(self.count):
            self._image.seek(self._first + k)
            self._image.load()
            picture, transparent = _on_white(self._image)
            frames[k] = np.asarray(picture)
            shown = float(self._image.info.get("duration") or 0) / 1000
            seconds.append(shown or _DEFAULT_SECONDS)
            repairs |= {_TRANSPARENT: None} if transparent else {}
            repairs |= {} if shown else {_UNTIMED: None}
        return frames, seconds, list(repairs)


def _on_white(picture: Image) -> tuple[Image, bool]:
    """The picture as RGB, and whether anything shone through."""
    from PIL import Image

    if not picture.has_transparency_data:
        return picture.convert("RGB"), False
    rgba = picture.convert("RGBA")
    canvas = Image.new("RGB", rgba.size, (255, 255, 255))
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas, np.asarray(rgba.getchannel("A")).min() < 255
