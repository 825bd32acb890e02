"""Many small clips in one AV1 video: every clip is a tile of its frames.

A tile is too small for the halved colour of ordinary video, so luma and both chroma planes (BT.601, full range) are
stacked as three grey pictures of full size. AV1 says exactly what a decoder returns, so every machine gets the same
pixels. 368 clips of 18 frames take 0.4 MB so, a quarter of what animated WebP needs for more error.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from penchant.errors import MediaError
from penchant.zoo.clips.data import FPS, SIDE

_COLUMNS = 20
_OPTIONS = {"preset": "3", "svtav1-params": "lp=1"}
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
# In millionths: whole numbers round alike on every machine.
_TO_RGB = np.array([[1_000_000, 0, 1_402_000], [1_000_000, -344_136, -714_136], [1_000_000, 1_772_000, 0]])


def write(clips: UInt8[np.ndarray, "N F S S 3"], file: Path, *, crf: int) -> int:
    """Writes clips of 32 x 32 pixels as a WebM file; returns its bytes. `crf` is AV1's quality, 0 (best) to 63.

    Raises:
        MediaError: PyAV is not installed.
    """
    return file.write_bytes(_encode(_planes(_mosaic(clips.swapaxes(0, 1))), crf))


def read(file: Path, *, clips: int, frames: int) -> UInt8[np.ndarray, "N F S S 3"]:
    """The first `clips` tiles of what `write` wrote, as the decoder returns them.

    Raises:
        MediaError: PyAV is not installed, or the video has not the expected frames.
    """
    planes = _decode(file.read_bytes())
    if len(planes) != frames:
        raise MediaError(f"{len(planes)} of {frames} frames are left.", file=file, remedy="install penchant again.")
    return _tiles(_rgb(planes))[:, :clips].swapaxes(0, 1)


def _mosaic(frames: UInt8[np.ndarray, "F N S S 3"]) -> UInt8[np.ndarray, "F H W 3"]:
    length, count = frames.shape[:2]
    blank = np.full((length, -count % _COLUMNS, SIDE, SIDE, 3), 255, np.uint8)
    grid = np.concatenate([frames, blank], 1).reshape(length, -1, _COLUMNS, SIDE, SIDE, 3)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(length, -1, _COLUMNS * SIDE, 3)


def _tiles(mosaic: UInt8[np.ndarray, "F H W 3"]) -> UInt8[np.ndarray, "F N S S 3"]:
    grid = mosaic.reshape(len(mosaic), -1, SIDE, _COLUMNS, SIDE, 3).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(grid.reshape(len(mosaic), -1, SIDE, SIDE, 3))


def _planes(rgb: UInt8[np.ndarray, "F H W 3"]) -> UInt8[np.ndarray, "F P W"]:
    """Luma, blue and red difference below each other."""
    values = rgb @ _TO_YCC.T + np.array([0, 128, 128])
    return np.concatenate(list(np.moveaxis(values.round().clip(0, 255).astype(np.uint8), -1, 0)), 1)


def _rgb(planes: UInt8[np.ndarray, "F P W"]) -> UInt8[np.ndarray, "F H W 3"]:
    values = np.stack(np.split(planes.astype(np.int64), 3, axis=1), -1) - np.array([0, 128, 128])
    return ((values @ _TO_RGB.T + 500_000) // 1_000_000).clip(0, 255).astype(np.uint8)


def _encode(planes: UInt8[np.ndarray, "F P W"], crf: int) -> bytes:
    av = _pyav()
    out, (height, width) = BytesIO(), planes.shape[1:]
    with av.open(out, "w", format="webm") as container:
        stream = container.add_stream("libsvtav1", rate=int(FPS), options={**_OPTIONS, "crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for plane in planes:
            for packet in stream.encode(_grey(av, plane)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return out.getvalue()


def _grey(av: Any, plane: UInt8[np.ndarray, "P W"]) -> Any:
    frame = av.VideoFrame(plane.shape[1], plane.shape[0], "yuv420p")
    for own, content in zip(frame.planes, (plane, None, None), strict=True):
        rows = np.full((own.height, own.line_size), 128, np.uint8)
        if content is not None:
            rows[:, : own.width] = content
        own.update(rows.tobytes())
    return frame


def _decode(data: bytes) -> UInt8[np.ndarray, "F P W"]:
    with _pyav().open(BytesIO(data)) as container:
        lumas = [frame.planes[0] for frame in container.decode(video=0)]
        return np.stack([np.frombuffer(bytes(p), np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in lumas])


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise MediaError("clips need PyAV.", remedy='pip install "penchant[video]"') from error
    return av
