"""Short sounds made here, and the files that others' encoders make of them."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from penchant.feedback.sound import Sound

RATE = 16_000


def tone(
    hertz: float = 440.0, *, seconds: float = 1.0, rate: int = RATE, channels: int = 1, level: float = 0.5
) -> Sound:
    """A sine with two overtones; of two channels the second is a third higher."""
    time = np.arange(round(seconds * rate)) / rate
    parts = [
        sum(np.sin(2 * np.pi * hertz * ratio * k * time) / k for k in (1, 2, 3)) / 1.9
        for ratio in (1.0, 1.25)[:channels]
    ]
    return Sound(samples=(level * np.stack(parts)).astype(np.float32), rate=rate)


def sweep(*, seconds: float = 1.0, rate: int = RATE, channels: int = 1, level: float = 0.5) -> Sound:
    """A sine that rises from 200 Hz by 2 kHz a second: it agrees with itself at one place alone. The second falls."""
    time = np.arange(round(seconds * rate)) / rate
    phases = (200 * time + 1000 * time**2, 3000 * time - 1000 * time**2)[:channels]
    return Sound(samples=(level * np.sin(2 * np.pi * np.stack(phases))).astype(np.float32), rate=rate)


def melody(seed: int = 0, *, seconds: float = 2.0, rate: int = RATE, channels: int = 1, level: float = 0.5) -> Sound:
    """Eight notes a second of a drawn scale, each dying away."""
    rng = np.random.default_rng(seed)
    length = rate // 8
    fade = np.exp(-np.arange(length) / (0.3 * length))
    notes = [
        tone(220 * 2 ** (int(rng.choice([0, 2, 4, 7, 9, 12])) / 12), seconds=length / rate, rate=rate, level=level)
        for _ in range(round(8 * seconds))
    ]
    line = np.concatenate([note.samples[0] * fade for note in notes]).astype(np.float32)
    return Sound(samples=np.stack([line] * channels), rate=rate)


def noise(seed: int = 0, *, seconds: float = 1.0, rate: int = RATE, level: float = 0.1) -> Sound:
    """White noise of one channel."""
    samples = np.random.default_rng(seed).uniform(-level, level, (1, round(seconds * rate)))
    return Sound(samples=samples.astype(np.float32), rate=rate)


def written(
    samples: Sound | NDArray[Any],
    format: str = "wav",
    codec: str = "pcm_s16le",
    kind: str = "s16",
    *,
    rate: int = RATE,
    layout: str | None = None,
    **options: str,
) -> bytes:
    """A file as FFmpeg writes it; `samples` [C, N] of any type that `kind` has."""
    if isinstance(samples, Sound):
        samples, rate = samples.samples, samples.rate
    samples = np.ascontiguousarray(samples)
    layout = layout or {1: "mono", 2: "stereo", 4: "quad", 6: "5.1", 8: "7.1"}[len(samples)]
    planar = {"float32": "fltp", "float64": "dblp", "int16": "s16p", "int32": "s32p", "uint8": "u8p"}
    # Some writers go back to the head of the file by its name.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        with av.open(str(path), "w", format=format, options=options) as container:
            stream = container.add_stream(codec, rate=rate)
            stream.layout, stream.format = layout, kind
            frame = av.AudioFrame.from_ndarray(samples, format=planar[samples.dtype.name], layout=layout)
            frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            resampler = av.AudioResampler(format=kind, layout=layout, rate=rate)
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
        return path.read_bytes()
