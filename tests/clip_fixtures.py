"""Real clips for tests: shipped emoji pictures under a moving camera, encoded here."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from penchant import assets
from penchant.feedback.clip import Clip

FPS = 6.0


@functools.cache
def _pictures() -> list[bytes]:
    table = pq.ParquetFile(assets.path("emoji/artists")).read_row_groups(range(4), columns=["jpg_0", "jpg_1"])
    return [data for pair in table.to_pylist() for data in pair.values()]


def emoji(k: int, side: int = 48) -> Image.Image:
    """The k-th shipped picture of some dozens."""
    picture = Image.open(io.BytesIO(_pictures()[k % len(_pictures())])).convert("RGB")
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def pan(k: int = 0, *, frames: int = 9, side: int = 32, step: int = 2, fps: float = FPS) -> Clip:
    """The camera moves `step` pixels a frame to the left, so the picture moves to the right."""
    wide = Image.new("RGB", (side + frames * step, side), "white")
    for left in range(0, wide.width, side):
        wide.paste(emoji(k, side), (left, 0))
    pixels = np.asarray(wide)
    lefts = [(frames - i) * step for i in range(frames)]
    return Clip(frames=np.stack([pixels[:, left : left + side] for left in lefts]), fps=fps)


def zoom(k: int = 0, *, frames: int = 9, side: int = 32, fps: float = FPS) -> Clip:
    """The camera comes nearer."""
    large, shown = emoji(k, 2 * side), []
    for i in range(frames):
        margin = side // 3 * i // frames
        box = (margin, margin, 2 * side - margin, 2 * side - margin)
        shown.append(np.asarray(large.resize((side, side), Image.Resampling.BILINEAR, box=box)))
    return Clip(frames=np.stack(shown), fps=fps)


def still(k: int = 0, *, frames: int = 9, side: int = 32, fps: float = FPS) -> Clip:
    """Nothing moves."""
    return Clip(frames=np.repeat(np.asarray(emoji(k, side))[None], frames, axis=0), fps=fps)


def shuffled(clip: Clip, seed: int = 0) -> Clip:
    """The same frames in another order."""
    return Clip(frames=clip.frames[np.random.default_rng(seed).permutation(len(clip))], fps=clip.fps)


def encoded(
    clip: Clip,
    format: str = "mp4",
    codec: str = "libx264",
    *,
    pixels: str = "yuv420p",
    times: Sequence[float] | None = None,
) -> bytes:
    """A video file; `times` are seconds at which the frames begin, where these are not equally spaced."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream(codec, rate=Fraction(clip.fps).limit_denominator(10_000))
        stream.height, stream.width = clip.frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, pixels_ in enumerate(clip.frames):
            frame = av.VideoFrame.from_ndarray(pixels_, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[index]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def no_frame() -> bytes:
    """A container that promises pictures and holds none."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=6)
        stream.height = stream.width = 32
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    return buffer.getvalue()


def sound() -> bytes:
    """An MP4 without pictures."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000)
        wave = (3000 * np.sin(np.arange(16_000) / 20)).astype(np.float32)[None] / 32768
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def animated(clip: Clip, format: str = "WEBP", **options: object) -> bytes:
    """An animation as Pillow writes it: equal frames are joined."""
    pictures = [Image.fromarray(frame) for frame in clip.frames]
    buffer = io.BytesIO()
    options = {"duration": round(1000 / clip.fps), "lossless": True, "loop": 0} | options
    pictures[0].save(buffer, format, save_all=True, append_images=pictures[1:], **options)
    return buffer.getvalue()
