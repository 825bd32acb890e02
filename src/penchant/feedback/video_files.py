"""Clips decoded under caps: MP4, MOV, WebM, Matroska and AVI by PyAV, animated WebP, GIF and PNG by Pillow.

Every clip becomes RGB frames at a constant rate by documented repairs, or is refused with a remedy. Repairs, each named
in the returned list: rotation of the container applied; transparency laid on white; more than 8 bits a colour brought
to 8; frames that an animation's writer joined repeated; a variable rate brought to a rate that the caller knows.
Refused: empty files, web pages saved as clips, other formats, sound without pictures, no frame or a single one,
truncated or corrupt data, a variable rate, frames of different sizes, more frames, pixels or seconds than the caps.

A header is only believed where it says that a clip is too large; the caps are counted again while frames are decoded.
Damage inside compressed pictures that happens to be a valid stream is not seen by any decoder.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from penchant.errors import MediaError
from penchant.feedback.animations import Animation, delay, encode_animation
from penchant.feedback.clip import Clip
from penchant.feedback.groups import Candidate, sniff_mime
from penchant.feedback.media import refuse_before_decoding
from penchant.feedback.pacing import Pace, constant, resampled, restored

MAX_FRAMES = 2000
MAX_PIXELS = 500_000_000
"""Width x height x frames: 1.5 GB once decoded; 10 seconds of 1408 x 768 at 24 a second are 260 million."""

MAX_SECONDS = 300.0

# One demuxer a type: FFmpeg's guessing would also open playlists, which name other files.
_DEMUXERS = {"video/mp4": "mp4", "video/quicktime": "mov", "video/webm": "matroska", "video/x-msvideo": "avi"}
_ANIMATED = ("image/webp", "image/gif", "image/png", "image/apng")
_STILL = ("image/jpeg", "image/bmp", "image/tiff")
_FETCH = "fetch the file again, or remove the row."
# Of so few missing frames (open groups of pictures, edit lists) nothing is concluded.
_SLACK_FRAMES, _SLACK_SHARE = 2, 0.02


@dataclass(frozen=True, kw_only=True)
class _Caps:
    frames: int
    pixels: int
    seconds: float

    def require(self, *, frames: float, pixels: float, seconds: float) -> None:
        """Raises MediaError for what is over a cap."""
        for value, cap, name in (
            (frames, self.frames, "frames"),
            (pixels, self.pixels, "pixels"),
            (seconds, self.seconds, "seconds"),
        ):
            if value > cap:
                raise _too_many(name, cap)


def decode_clip(
    data: bytes,
    *,
    fps: float | None = None,
    max_frames: int = MAX_FRAMES,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float = MAX_SECONDS,
) -> tuple[Clip, list[str]]:
    """Encoded bytes to a clip and the list of repairs that were made.

    Args:
        data: an MP4, MOV, WebM, Matroska or AVI file, or an animated WebP, GIF or PNG.
        fps: the rate that the layout states; a clip of variable rate is brought to it. A constant rate stays.
        max_frames: frames above which it is refused.
        max_pixels: width x height x frames above which it is refused.
        max_seconds: duration above which it is refused.

    Raises:
        MediaError: the reason and its remedy; no other exception leaves this function.
    """
    refuse_before_decoding(data, "clip")
    caps, mime = _Caps(frames=max_frames, pixels=max_pixels, seconds=max_seconds), sniff_mime(data)
    try:
        if mime in _DEMUXERS:
            return _decode_container(data, mime, fps, caps)
        if mime in _ANIMATED:
            return _decode_animation(data, fps, caps)
    except MediaError:
        raise
    # Codecs fed with hostile bytes raise almost anything, all meaning this.
    except Exception as error:
        raise _unreadable(data, mime, caps, error) from error
    if mime in _STILL:
        raise _single_frame()
    if mime.startswith("audio/"):
        raise _only_sound()
    raise MediaError(
        "the file is not a clip of a supported format.",
        remedy="convert it to MP4, WebM, Matroska, AVI, or an animated WebP, GIF or PNG.",
    )


def encode_clip(clip: Clip) -> bytes:
    """The clip as an animated PNG: frames and rate come back from `decode_clip` bit for bit, equal frames too."""
    return encode_animation(clip)


def is_clip(data: bytes) -> bool:
    """Whether a file's first bytes say that its pictures move, sound or broken as it may be."""
    mime = sniff_mime(data)
    if mime == "image/webp":
        # The extended header's bit for animation.
        return len(data) > 20 and data[12:16] == b"VP8X" and bool(data[20] & 2)
    if mime == "image/gif":
        # A graphic control extension for every frame that is shown for a time.
        return data.count(b"\x21\xf9\x04") > 1
    return mime in _DEMUXERS or mime == "image/apng"


def clip_of(candidate: Candidate) -> Clip:
    """The clip of a candidate; a variable rate is brought to the rate that its layout stated.

    Raises:
        MediaError: it has no media, or these cannot be decoded.
    """
    if candidate.media is None:
        raise MediaError(f"candidate {candidate.id[:12]} has no clip.", remedy="use feedback about clips.")
    return decode_clip(candidate.media.bytes(), fps=candidate.settings.get("fps"))[0]


def _decode_animation(data: bytes, fps: float | None, caps: _Caps) -> tuple[Clip, list[str]]:
    animation = Animation(data)
    size = animation.width * animation.height
    caps.require(frames=animation.count, pixels=size * animation.count, seconds=0)
    if animation.count < 2:
        raise _single_frame()
    frames, seconds, repairs = animation.read()
    caps.require(frames=0, pixels=0, seconds=sum(seconds))
    pace = restored(seconds) or resampled(seconds, fps)
    # Bits of the float that the delays could not keep; a file whose delays say something else was edited since.
    if (exact := animation.fps) is not None:
        ticks, scale = delay(exact)
        if abs(ticks / scale * pace.fps - 1) < 1e-3:
            pace = Pace(frames=pace.frames, fps=exact, repair=pace.repair)
    caps.require(frames=len(pace.frames), pixels=size * len(pace.frames), seconds=0)
    return Clip(frames=frames[pace.frames], fps=pace.fps), _told(repairs, pace)


def _decode_container(data: bytes, mime: str, fps: float | None, caps: _Caps) -> tuple[Clip, list[str]]:
    av = _pyav()
    with av.open(io.BytesIO(data), format=_DEMUXERS[mime]) as container:
        # A song's cover picture is a stream too.
        streams = [s for s in container.streams.video if "attached_pic" not in str(s.disposition).lower()]
        if not streams:
            raise _only_sound() if container.streams.audio else MediaError("the clip has no frame.", remedy=_FETCH)
        stream = streams[0]
        seconds, size = _seconds(container, stream), stream.codec_context.width * stream.codec_context.height
        caps.require(frames=stream.frames, pixels=size * max(stream.frames, 1), seconds=seconds or 0)
        frames, starts, repairs = _frames(container, stream, caps)
        tick = float(stream.time_base)
        rate = stream.average_rate or stream.guessed_rate
        _refuse_broken(starts, stream.frames, seconds, float(rate or 0))
    shown = [*np.diff(starts).tolist(), float(np.median(np.diff(starts)))]
    pace = constant(shown, tick=tick) or resampled(shown, fps)
    # Times are rounded to ticks; the exact rate stands in the header, where the times agree with it.
    if pace.repair is None and rate and abs(float(rate) / pace.fps - 1) < max(0.01, tick * pace.fps / len(frames)):
        pace = Pace(frames=pace.frames, fps=float(rate))
    caps.require(frames=len(pace.frames), pixels=0, seconds=len(pace.frames) / pace.fps)
    stacked = np.stack(frames)
    return Clip(frames=stacked if pace.repair is None else stacked[pace.frames], fps=pace.fps), _told(repairs, pace)


def _frames(
    container: Any, stream: Any, caps: _Caps
) -> tuple[list[UInt8[np.ndarray, "H W 3"]], list[float], list[str]]:
    """Upright RGB frames, when each begins, and repairs."""
    # Concealed damage must not pass for a picture. Frame threads were seen to hang when a broken file is closed.
    stream.codec_context.options = {"err_detect": "explode"}
    stream.codec_context.thread_count = 1
    frames, starts = list[np.ndarray](), list[float]()
    repairs, pixels = dict[str, None](), 0
    for frame in container.decode(stream):
        if frame.is_corrupt:
            raise MediaError("the clip is corrupt.", remedy=_FETCH)
        pixels += frame.width * frame.height
        caps.require(frames=len(frames) + 1, pixels=pixels, seconds=frame.time or 0)
        picture = frame.to_ndarray(format="rgb24")
        if turns := round((frame.rotation or 0) / 90) % 4:
            # Both count anticlockwise.
            picture = np.ascontiguousarray(np.rot90(picture, turns))
            repairs["rotation of the container applied"] = None
        if frame.format.components[0].bits > 8:
            repairs["more than 8 bits a colour brought to 8-bit RGB"] = None
        if frames and picture.shape != frames[0].shape:
            raise MediaError("the clip's frames differ in size.", remedy="re-encode it at one size.")
        frames.append(picture)
        starts.append(len(starts) * float(1 / (stream.guessed_rate or 1)) if frame.time is None else frame.time)
    return frames, starts, list(repairs)


def _seconds(container: Any, stream: Any) -> float | None:
    """How long the pictures last by the header, if it says."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if text := stream.metadata.get("DURATION"):
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    # The container's own duration may be that of its sound.
    return container.duration / 1e6 if container.duration and not container.streams.audio else None


def _refuse_broken(starts: list[float], promised: int, seconds: float | None, rate: float) -> None:
    """Refuses what is no clip, or ends before its header says; `promised` frames and `rate` are 0 where it is silent.

    Frames of a variable rate are not counted by the header's rate: they end when the last one does.
    """
    count = len(starts)
    if count == 0:
        raise _truncated() if promised or seconds else MediaError("the clip has no frame.", remedy=_FETCH)
    interval = (starts[-1] - starts[0]) / (count - 1) if count > 1 else 1 / rate if rate else 0
    shown = starts[-1] - starts[0] + interval
    if promised - count > max(_SLACK_FRAMES, _SLACK_SHARE * promised):
        raise _truncated()
    if seconds and interval and seconds - shown > max(_SLACK_FRAMES * interval, _SLACK_SHARE * seconds):
        raise _truncated()
    if count == 1:
        raise _single_frame()


def _told(repairs: list[str], pace: Pace) -> list[str]:
    return repairs if pace.repair is None else [*repairs, pace.repair]


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise MediaError(
            "PyAV, which decodes clips, is not installed.", remedy="pip install 'penchant[video]'."
        ) from error
    # Its messages on broken files say less than ours, and not to whom.
    av.logging.set_level(av.logging.PANIC)
    return av


def _unreadable(data: bytes, mime: str, caps: _Caps, error: Exception) -> MediaError:
    """Truncated, if the part that an MP4 file ends with is not there or the decoder says so; else corrupt.

    Pillow has a cap of its own.
    """
    if "DecompressionBomb" in type(error).__name__:
        return _too_many("pixels", caps.pixels)
    cut = mime in ("video/mp4", "video/quicktime") and b"moov" not in data
    if cut or isinstance(error, EOFError) or "truncated" in str(error).lower():
        return _truncated()
    return MediaError("the clip is corrupt.", remedy=_FETCH)


def _too_many(what: str, cap: float) -> MediaError:
    return MediaError(
        f"the clip has too many {what}.",
        remedy=f"cut it or scale it down to {cap:g} {what} or less; the caps guard against bombs.",
    )


def _truncated() -> MediaError:
    return MediaError("the clip is truncated.", remedy=_FETCH)


def _single_frame() -> MediaError:
    return MediaError(
        "the clip has a single frame.", remedy="a clip needs two or more; a picture belongs into picture feedback."
    )


def _only_sound() -> MediaError:
    return MediaError("the file holds sound and no picture.", remedy="fetch the clip with its pictures.")
