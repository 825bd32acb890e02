"""Sounds decoded under caps by PyAV: WAV, FLAC, Ogg (Vorbis, Opus, FLAC), MP3 and M4A (AAC, ALAC).

Every sound becomes float32 of one or two channels in [-1, 1] by documented repairs, or is refused with a remedy.
Repairs, each named in the returned list: three to eight channels mixed down to stereo; whole numbers stored as floats
brought to full scale; what lies beyond full scale clipped; the first of several tracks taken; bytes behind the last
frame of an MP3 dropped. Refused: empty files, web pages saved as sounds, pictures and clips, other formats and codecs,
no sample, NaN and infinite samples, silence, truncated or corrupt data, a rate or number of channels that is absurd or
changes, less than `MIN_SECONDS`, more seconds or samples than the caps.

A header is only believed where it says that a sound is too long; the caps are counted again while frames are decoded,
so that memory and time follow the caps and not the file. FLAC and Ogg carry checksums, which are verified. MP3 and AAC
have none: there a wrong bit is seldom seen, nor is the end that was cut off an MP3 without a table of contents.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float

from penchant.errors import MediaError
from penchant.feedback.audio_headers import states_duration, unfinished
from penchant.feedback.groups import Candidate, sniff_mime
from penchant.feedback.media import refuse_before_decoding
from penchant.feedback.sound import Sound

MAX_SECONDS = 600.0
MAX_SAMPLES = 60_000_000
"""Channels x samples: 240 MB once decoded; ten minutes of 48 kHz stereo are 57.6 million."""

MIN_SECONDS = 0.4
"""The block of ITU-R BS.1770-4: what is shorter has no loudness."""

MIN_RATE, MAX_RATE = 4_000, 192_000
MAX_CHANNELS = 8
SILENT = 1e-4
"""Half the range of the samples below which a sound is silence: -80 dB of full scale, 3 steps of 16 bits."""

# Floats may overshoot: lossy codecs do by a little, mixes by some decibels. What is beyond is no mistake of level.
_OVERSHOOT = 4.0

# One demuxer a type: FFmpeg's guessing would also open playlists, which name other files.
_DEMUXERS = {
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/mpeg": "mp3",
    "audio/mp4": "mp4",
}
# Decoders that a set of sounds needs, beside PCM; FFmpeg's two hundred others are attack surface.
_CODECS = ("flac", "vorbis", "opus", "libopus", "mp3", "mp3float", "aac", "alac")
_FETCH = "fetch the file again, or remove the row."
# Encoders pad and trim frames at both ends; of so little that is missing nothing is concluded.
_SLACK_SECONDS, _SLACK_SHARE = 0.1, 0.005


@dataclass(frozen=True, kw_only=True)
class _Caps:
    seconds: float
    samples: int

    def require(self, *, seconds: float, samples: float) -> None:
        """Raises MediaError for what is over a cap."""
        for value, cap, name in ((seconds, self.seconds, "seconds"), (samples, self.samples, "samples")):
            if value > cap:
                raise MediaError(
                    f"the sound has too many {name}.",
                    remedy=f"cut it to {cap:g} {name} or less; the caps guard against bombs.",
                )


def decode_sound(
    data: bytes,
    *,
    max_seconds: float = MAX_SECONDS,
    max_samples: int = MAX_SAMPLES,
    min_seconds: float = MIN_SECONDS,
    floor: float = SILENT,
) -> tuple[Sound, list[str]]:
    """Encoded bytes to a sound and the list of repairs that were made.

    Args:
        data: a WAV, FLAC, Ogg, MP3 or M4A file.
        max_seconds: duration above which it is refused.
        max_samples: channels x samples above which it is refused.
        min_seconds: the shortest duration that is accepted.
        floor: half the range of the samples below which it is refused as silent; 0 lets silence pass.

    Raises:
        MediaError: the reason and its remedy; no other exception leaves this function.
    """
    refuse_before_decoding(data, "sound")
    caps, mime = _Caps(seconds=max_seconds, samples=max_samples), sniff_mime(data)
    if mime not in _DEMUXERS:
        raise _stranger(mime)
    try:
        samples, rate, repairs = _decode(data, mime, caps)
    except MediaError:
        raise
    # Codecs fed with hostile bytes raise almost anything, all meaning this.
    except Exception as error:
        _refuse_unreadable(data, error)
    if not np.isfinite(samples).all():
        raise MediaError("the sound has NaN or infinite samples.", remedy="write it again from finite samples.")
    samples = _at_full_scale(samples, repairs)
    if samples.shape[1] < min_seconds * rate:
        raise MediaError("the sound is too short.", remedy=f"it must last {min_seconds:g} seconds or more.")
    if np.ptp(samples, axis=1).max() / 2 < floor:
        raise MediaError("the sound is silent.", remedy="nothing can be heard: make it again, or remove the row.")
    return Sound(samples=np.ascontiguousarray(samples), rate=rate), repairs


def is_sound(data: bytes) -> bool:
    """Whether a file's first bytes say that it is a sound, broken as it may be."""
    return sniff_mime(data) in _DEMUXERS


def sound_of(candidate: Candidate) -> Sound:
    """The sound of a candidate, be it short or silent: what a model drew is judged as it is.

    Raises:
        MediaError: it has no media, or these cannot be decoded.
    """
    if candidate.media is None:
        raise MediaError(f"candidate {candidate.id[:12]} has no sound.", remedy="use feedback about sounds.")
    return decode_sound(candidate.media.bytes(), min_seconds=0, floor=0)[0]


def _decode(data: bytes, mime: str, caps: _Caps) -> tuple[Float[np.ndarray, "C N"], int, list[str]]:
    av = pyav()
    with av.open(io.BytesIO(data), format=_DEMUXERS[mime]) as container:
        if any("attached_pic" not in str(s.disposition).lower() for s in container.streams.video):
            raise _stranger("video")
        if not container.streams.audio:
            raise _no_sample()
        stream = container.streams.audio[0]
        repairs = ["first of several tracks taken"] if len(container.streams.audio) > 1 else []
        rate, channels = _format(stream.codec_context)
        seconds = _seconds(data, mime, container, stream)
        caps.require(seconds=seconds, samples=seconds * rate * min(channels, 2))
        chunks, count = list[np.ndarray](), 0
        for frame in _frames(container, stream, mime, repairs):
            form = frame.sample_rate, len(frame.layout.channels)
            if chunks and form != (rate, channels):
                raise MediaError("the sound changes its rate or channels.", remedy="write it again in one format.")
            # Of AAC with band replication the header knows half the rate.
            rate, channels = _allowed(*form)
            count += frame.samples
            caps.require(seconds=count / rate, samples=count * min(channels, 2))
            chunks.append(_mixed(_floats(frame), [c.name for c in frame.layout.channels]))
    cut = unfinished(data, mime)
    missing = seconds - count / rate
    # A FLAC's header counts samples: one frame that was skipped for a wrong sync code is missed, however short.
    slack = 0.5 / rate if mime == "audio/flac" else max(_SLACK_SECONDS, _SLACK_SHARE * seconds)
    if cut or missing > slack:
        # A file that is whole and gave too little lost pages to their checksums.
        raise _corrupt() if cut is False else _truncated()
    if not count:
        raise _no_sample()
    if channels > 2:
        repairs.append(f"{channels} channels mixed down to stereo")
    return np.concatenate(chunks, axis=1), rate, repairs


def _format(context: Any) -> tuple[int, int]:
    """Rate and channels by the header. Raises MediaError for a codec that is not read, and as `_allowed`."""
    codec = context.name
    if codec not in _CODECS and not codec.startswith("pcm_"):
        raise MediaError("the sound's codec is not read.", remedy="convert it to WAV, FLAC, Ogg, MP3 or M4A.")
    return _allowed(context.sample_rate or 0, context.layout.nb_channels)


def _allowed(rate: int, channels: int) -> tuple[int, int]:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise MediaError(
            "the sound has an absurd rate.", remedy=f"resample it to {MIN_RATE} to {MAX_RATE} samples a second."
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise MediaError("the sound has too many channels.", remedy="mix it down to one or two.")
    return rate, channels


def _seconds(data: bytes, mime: str, container: Any, stream: Any) -> float:
    """How long it lasts by the header; 0 where it does not say."""
    if not states_duration(data, mime):
        return 0.0
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else 0.0


def _frames(container: Any, stream: Any, mime: str, repairs: list[str]) -> Iterator[Any]:
    """Decoded frames; what follows an MP3's last frame (tags, padding) is told and left out."""
    # Concealed damage must not pass for music: without `crccheck` half of a FLAC's single wrong bits were not seen.
    # Frame threads were seen to hang when a broken file is closed.
    stream.codec_context.options = {"err_detect": "crccheck+explode"}
    stream.codec_context.thread_count = 1
    decoded = False
    packets = container.demux(stream)
    for packet in packets:
        try:
            frames = packet.decode()
        except Exception as error:
            if any(later.size for later in packets):
                raise
            if mime != "audio/mpeg" or not decoded:
                raise _truncated() from error
            repairs.append("bytes behind the last frame dropped")
            return
        for frame in frames:
            if frame.is_corrupt:
                raise _corrupt()
            decoded = True
            yield frame


def _floats(frame: Any) -> Float[np.ndarray, "C N"]:
    """The samples of a frame of any format, 1 = full scale."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(frame.samples, -1).T
    if array.dtype.kind == "f":
        # Doubles beyond float32 become infinite and are refused as such.
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / 128
    return array.astype(np.float32) * np.float32(2.0 ** (1 - 8 * array.dtype.itemsize))


def _mixed(samples_CN: Float[np.ndarray, "C N"], names: list[str]) -> Float[np.ndarray, "C N"]:
    """Three or more channels as two: ITU-R BS.775's -3 dB for centre and surround, the low-frequency channel left out.

    Each side is divided by the sum of its weights, so that nothing is clipped. Channels without a place go to both.
    """
    if len(names) <= 2:
        return samples_CN
    weights = np.array([_placed(name) for name in names], np.float32).T
    return (weights / weights.sum(1, keepdims=True)) @ samples_CN


def _placed(name: str) -> tuple[float, float]:
    low, third = 0.0, math.sqrt(0.5)
    if name.startswith("LFE"):
        return low, low
    weight = 1.0 if name in ("FL", "FR") else third
    if name.endswith("L"):
        return weight, low
    return (low, weight) if name.endswith("R") else (third, third)


def _at_full_scale(samples: Float[np.ndarray, "C N"], repairs: list[str]) -> Float[np.ndarray, "C N"]:
    """The samples in [-1, 1]. Raises MediaError for floats that have no known scale."""
    peak = float(np.abs(samples).max())
    if peak <= 1:
        return samples
    if peak <= 32768 and (samples == np.round(samples)).all():
        repairs.append("whole numbers brought to full scale")
        return samples / np.float32(32768)
    if peak > _OVERSHOOT:
        raise MediaError("the sound lies far beyond full scale.", remedy="scale its samples to [-1, 1].")
    repairs.append("samples beyond full scale clipped")
    return samples.clip(-1, 1)


def pyav() -> Any:
    """The module `av`. Raises MediaError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise MediaError(
            "PyAV, which decodes sounds, is not installed.", remedy="pip install 'penchant[audio]'."
        ) from error
    # Its messages on broken files say less than ours, and not to whom.
    av.logging.set_level(av.logging.PANIC)
    return av


def _refuse_unreadable(data: bytes, error: Exception) -> NoReturn:
    """Truncated, if the part that an M4A ends with is not there or the file ends too early; else corrupt."""
    mime = sniff_mime(data)
    cut = mime == "audio/mp4" and (b"moov" not in data or unfinished(data, mime))
    raise (_truncated() if cut or unfinished(data, mime) else _corrupt()) from error


def _stranger(mime: str) -> MediaError:
    if mime.startswith(("image", "video")):
        return MediaError(
            "the file is a picture or clip and no sound.",
            remedy="save its sound alone as WAV, FLAC, Ogg, MP3 or M4A.",
        )
    return MediaError(
        "the file is not a sound of a supported format.", remedy="convert it to WAV, FLAC, Ogg, MP3 or M4A."
    )


def _no_sample() -> MediaError:
    return MediaError("the sound has no sample.", remedy=_FETCH)


def _truncated() -> MediaError:
    return MediaError("the sound is truncated.", remedy=_FETCH)


def _corrupt() -> MediaError:
    return MediaError("the sound is corrupt.", remedy=_FETCH)
