"""Sounds as the bytes of a file: lossless for caches and stores, compressed for pages."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from penchant.errors import MediaError
from penchant.feedback.audio_files import pyav
from penchant.feedback.sound import Sound

Format = Literal["wav", "flac", "ogg", "mp3"]
FORMATS: tuple[Format, ...] = get_args(Format)

BITS_A_CHANNEL = 64_000
"""Bits a second of each channel where a format is lossy: what is lost must not decide a vote."""

# Rates that the encoders take; another one is brought to the next above.
_RATES = {
    "ogg": (8000, 12000, 16000, 24000, 48000),
    "mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
}
_ENCODERS = {"flac": ("flac", "s32"), "ogg": ("libopus", "flt"), "mp3": ("libmp3lame", "fltp")}


def encode_sound(sound: Sound, format: Format = "wav") -> bytes:
    """A sound as a file; what lies beyond full scale is clipped. The same sound gives the same bytes.

    `flac`, `ogg` and `mp3` need PyAV, and their bytes may differ between versions of it.

    Args:
        sound: what to write.
        format: `wav` keeps every bit (32-bit floats), `flac` 24 bits a sample. `ogg` (Opus, at 48 kHz unless the rate
            is one of Opus's own) and `mp3` are small, for pages.

    Raises:
        MediaError: an unknown format, samples that are NaN or infinite, or PyAV is not installed.
    """
    if format not in FORMATS:
        raise MediaError(f"sounds are not written as '{format}'.", remedy=f"one of {', '.join(FORMATS)}.")
    if not np.isfinite(sound.samples).all():
        raise MediaError("the sound has NaN or infinite samples.", remedy="it was made so: look at the model.")
    samples = sound.samples.clip(-1, 1)
    return _wav(samples, sound.rate) if format == "wav" else _encoded(samples, sound.rate, format)


def _wav(samples: Float[np.ndarray, "C N"], rate: int) -> bytes:
    """RIFF with IEEE floats: format tag 3, with the extension's size and a `fact` chunk, as that tag asks for."""
    channels, count = samples.shape
    body = samples.T.astype("<f4").tobytes()
    parts = struct.pack("<HHIIHHH", 3, channels, rate, rate * channels * 4, channels * 4, 32, 0)
    chunks = (b"fmt ", parts), (b"fact", struct.pack("<I", count)), (b"data", body)
    content = b"WAVE" + b"".join(name + struct.pack("<I", len(part)) + part for name, part in chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _encoded(samples: Float[np.ndarray, "C N"], rate: int, format: Format) -> bytes:
    av = pyav()
    codec, kind = _ENCODERS[format]
    layout = ("mono", "stereo")[len(samples) - 1]
    target = next((r for r in _RATES.get(format, ()) if r >= rate), 48_000) if format in _RATES else rate
    buffer = io.BytesIO()
    # Without the flags the writers put in their version and a random serial number.
    with av.open(buffer, "w", format=format, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=target)
        stream.layout, stream.format = layout, kind
        stream.codec_context.options = {"flags": "+bitexact"}
        stream.codec_context.thread_count = 1
        if format in _RATES:
            stream.bit_rate = BITS_A_CHANNEL * len(samples)
        frame = _frame(av, samples, rate, layout, format)
        resampler = av.AudioResampler(format=kind, layout=layout, rate=target)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _frame(av: Any, samples: Float[np.ndarray, "C N"], rate: int, layout: str, format: Format) -> Any:
    if format == "flac":
        # 24 bits in the upper bytes of 32, rounded by us: the converter's own rounding is not ours to promise.
        whole = np.round(samples.astype(np.float64) * 2**23).clip(-(2**23), 2**23 - 1).astype(np.int32) << 8
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(whole), format="s32p", layout=layout)
    else:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    return frame
