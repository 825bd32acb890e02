"""What the containers of sounds say of their own length, read by hand where FFmpeg keeps it to itself."""

from __future__ import annotations

import struct

_PLACEHOLDER = 0x7FFF0000
"""Writers to a pipe leave 0, or about 2 or 4 GB, for the size of a WAV's samples."""


def states_duration(data: bytes, mime: str) -> bool:
    """Whether the header counts samples or frames; FFmpeg guesses an MP3's length by its first frame otherwise."""
    if mime == "audio/wav":
        return _wav_samples(data) is not None
    if mime != "audio/mpeg":
        return True
    start = _after_id3(data)
    head = data[start : start + 256]
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))


def unfinished(data: bytes, mime: str) -> bool | None:
    """Whether the file ends before its own structure does; None where it has none that would tell."""
    if mime == "audio/wav":
        return _unfinished_wav(data)
    if mime == "audio/ogg":
        return _unfinished_ogg(data)
    return _unfinished_mp4(data) if mime == "audio/mp4" else None


def _after_id3(data: bytes) -> int:
    """Where the frames of an MP3 begin: behind its tag, whose size has seven bits a byte."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))


def _wav_samples(data: bytes) -> tuple[int, int] | None:
    """Where a WAV's samples begin and how many bytes they are; None where the size is a placeholder.

    A file that ends before them has none of them.
    """
    place = 12
    while place + 8 <= len(data):
        name, size = data[place : place + 4], struct.unpack("<I", data[place + 4 : place + 8])[0]
        if name == b"data":
            return (place + 8, size) if 0 < size < _PLACEHOLDER else None
        # Chunks are padded to even sizes.
        place += 8 + size + size % 2
    return len(data), 1


def _unfinished_wav(data: bytes) -> bool | None:
    samples = _wav_samples(data)
    return None if samples is None else sum(samples) > len(data)


def _unfinished_ogg(data: bytes) -> bool:
    """Pages (RFC 3533, section 6) must be whole, and the last one marked as the last of its stream.

    A recording of a broadcast, which nobody ended, counts as unfinished.
    """
    place, last = 0, False
    while place < len(data):
        if data[place : place + 4] != b"OggS":
            # Not where a page should be; FFmpeg looks for the next one, and so does this.
            place = data.find(b"OggS", place)
            if place < 0:
                break
        count = data[place + 26] if place + 27 <= len(data) else 255
        segments = data[place + 27 : place + 27 + count]
        end = place + 27 + count + sum(segments)
        if len(segments) < count or end > len(data):
            return True
        last, place = bool(data[place + 5] & 4), end
    return not last


def _unfinished_mp4(data: bytes) -> bool:
    place = 0
    while place + 8 <= len(data):
        size = struct.unpack(">I", data[place : place + 4])[0]
        if size == 1 and place + 16 <= len(data):
            size = struct.unpack(">Q", data[place + 8 : place + 16])[0]
        # Size 0 reaches to the end of the file; less than a header is damage, which the demuxer refuses.
        if size < 8:
            return False
        place += size
    return place > len(data)
