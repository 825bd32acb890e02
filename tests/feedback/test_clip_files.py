"""Clips come back as they were, are mended where that is documented, and are refused by name everywhere else."""

from __future__ import annotations

import builtins
import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_fixtures import FPS, animated, emoji, encoded, no_frame, pan, sound, still, zoom
from penchant.errors import MediaError
from penchant.feedback import Candidate, Clip, Media, clip_of, decode_clip, encode_clip, sample_frames
from penchant.feedback.footage import frame_times
from penchant.feedback.groups import sniff_mime
from penchant.feedback.video_files import is_clip

CONTAINERS = {
    "mp4": ("mp4", "libx264", "video/mp4"),
    "mov": ("mov", "mpeg4", "video/mp4"),
    "webm": ("webm", "libvpx-vp9", "video/webm"),
    "mkv": ("matroska", "libx264", "video/webm"),
    "avi": ("avi", "mpeg4", "video/x-msvideo"),
}


def refusal(data: bytes, **options) -> str:
    with pytest.raises(MediaError) as caught:
        decode_clip(data, **options)
    assert caught.value.remedy
    return caught.value.problem


def equal(a: Clip, b: Clip) -> bool:
    return a.fps == b.fps and np.array_equal(a.frames, b.frames)


@given(
    frames=st.integers(2, 6),
    height=st.integers(8, 20),
    width=st.integers(8, 20),
    fps=st.one_of(st.floats(0.5, 240), st.sampled_from([24000 / 1001, 29.97, 1 / 3])),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_clip_of_our_own_comes_back_bit_for_bit(frames, height, width, fps, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    pixels[1] = pixels[0]
    clip = Clip(frames=pixels, fps=fps)
    back, repairs = decode_clip(encode_clip(clip))
    assert equal(back, clip)
    assert repairs == []


def test_a_clip_that_stands_still_keeps_its_frames():
    assert equal(decode_clip(encode_clip(still(frames=9)))[0], still(frames=9))


def test_the_lossless_file_is_an_animated_picture_that_everybody_reads():
    from io import BytesIO

    from PIL import Image

    clip = pan(fps=25)
    data = encode_clip(clip)
    assert sniff_mime(data) == "image/apng"
    with Image.open(BytesIO(data)) as picture:
        assert picture.n_frames == 9
        picture.seek(4)
        assert np.array_equal(np.asarray(picture.convert("RGB")), clip.frames[4])
        assert picture.info["duration"] == 40


def test_an_edited_delay_is_believed_and_not_the_note_beside_it():
    data = encode_clip(pan(fps=10))
    (old,) = {c for c in chunks(data) if c[:4] == b"fcTL" and c[4:8] == struct.pack(">I", 0)}
    for chunk in [c for c in chunks(data) if c[:4] == b"fcTL"]:
        new = chunk[:24] + struct.pack(">HH", 1, 5) + chunk[28:]
        data = data.replace(chunk + crc(chunk), new + crc(new))
    assert old not in data
    assert decode_clip(data)[0].fps == 5


def chunks(png: bytes) -> list[bytes]:
    found, place = [], 8
    while place < len(png):
        (size,) = struct.unpack(">I", png[place : place + 4])
        found.append(png[place + 4 : place + 8 + size])
        place += size + 12
    return found


def crc(chunk: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("fps", [6.0, 24000 / 1001, 30.0])
def test_containers_give_every_frame_and_the_exact_rate(name, fps):
    kind, codec, mime = CONTAINERS[name]
    clip = pan(side=64, frames=14, fps=fps)
    data = encoded(clip, kind, codec)
    back, repairs = decode_clip(data)
    assert (sniff_mime(data), repairs, back.frames.shape) == (mime, [], clip.frames.shape)
    assert back.fps == pytest.approx(fps, rel=1e-5)
    assert np.abs(back.frames.astype(int) - clip.frames).mean() < 12  # lossy, but no other frame


def test_a_lossless_container_gives_the_very_pixels():
    clip = zoom()
    assert equal(decode_clip(encoded(clip, "matroska", "ffv1", pixels="bgr0"))[0], clip)


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "PNG"])
def test_joined_frames_of_animations_are_repeated(kind):
    moving = pan(frames=6, fps=10)
    held = moving.frames[[0, 0, 1, 2, 2, 2, 3, 4, 5]]
    back, repairs = decode_clip(animated(Clip(frames=held, fps=10), kind))
    assert repairs == ["frames shown for longer repeated"]
    assert back.fps == pytest.approx(10)
    if kind == "GIF":  # 256 colours
        assert np.abs(back.frames.astype(int) - held).mean() < 5
    else:
        assert np.array_equal(back.frames, held)


def test_transparency_is_laid_on_white():
    from PIL import Image

    layer = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    dot = layer.copy()
    dot.paste((0, 0, 255, 255), (4, 4, 12, 12))
    from io import BytesIO

    buffer = BytesIO()
    layer.save(buffer, "WEBP", save_all=True, append_images=[dot], duration=100, lossless=True)
    clip, repairs = decode_clip(buffer.getvalue())
    assert "transparency laid on white" in repairs
    assert (clip.frames[0] == 255).all()
    assert tuple(clip.frames[1][8, 8]) == (0, 0, 255)


def test_a_picture_that_is_no_frame_of_an_animated_png_is_left_out():
    from io import BytesIO

    from PIL import Image

    first, *others = [Image.fromarray(frame) for frame in pan(frames=4).frames]
    buffer = BytesIO()
    first.save(buffer, "PNG", save_all=True, append_images=others, duration=100, default_image=True)
    assert np.array_equal(decode_clip(buffer.getvalue())[0].frames, pan(frames=4).frames[1:])


def test_the_rotation_of_a_telephone_is_applied():
    clip = pan(side=64)
    wide = Clip(frames=clip.frames[:, :32], fps=FPS)
    data = bytearray(encoded(wide))
    plain, _ = decode_clip(bytes(data))
    # The matrix of the track header (ISO/IEC 14496-12, 8.3.2): a quarter turn clockwise.
    place = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[place : place + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[place : place + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 32 << 16, 0, 1 << 30)
    upright, repairs = decode_clip(bytes(data))
    assert repairs == ["rotation of the container applied"]
    assert np.array_equal(upright.frames, np.rot90(plain.frames, -1, axes=(1, 2)))


def test_ten_bits_are_told():
    clip, repairs = decode_clip(encoded(pan(), "matroska", "ffv1", pixels="yuv420p10le"))
    assert repairs == ["more than 8 bits a colour brought to 8-bit RGB"]
    assert len(clip) == 9


STUTTER = [0.0, 0.1, 0.2, 0.5, 0.55, 0.6, 1.0, 1.1, 1.2]


@pytest.mark.parametrize("name", ["mp4", "mkv"])
def test_a_variable_rate_is_refused_without_a_rate_and_mended_with_one(name):
    kind, codec, _ = CONTAINERS[name]
    clip = pan(side=64, fps=10)
    data = encoded(clip, kind, codec, times=STUTTER)
    assert refusal(data) == "the clip has a variable frame rate."
    back, repairs = decode_clip(data, fps=10)
    assert repairs == ["variable frame rate brought to the rate of the row"]
    assert back.fps == 10
    smooth, _ = decode_clip(encoded(clip, kind, codec))
    shown = [max(i for i, t in enumerate(STUTTER) if t <= k / 10 + 1e-6) for k in range(12)]
    for k, index in enumerate(shown):
        nearest = np.abs(smooth.frames.astype(int) - back.frames[k]).mean((1, 2, 3)).argmin()
        assert nearest == index


def test_the_rate_of_a_row_does_not_touch_a_constant_one():
    assert decode_clip(encoded(pan(fps=12)), fps=30)[0].fps == 12


def test_an_uneven_animation_is_a_variable_rate():
    data = animated(pan(frames=4), duration=[100, 130, 100, 160])
    assert refusal(data) == "the clip has a variable frame rate."
    assert decode_clip(data, fps=10)[0].frames.shape[0] == 5


def test_a_candidate_of_variable_rate_comes_at_its_rows_rate():
    media = Media.of(encoded(pan(side=64, fps=10), times=STUTTER))
    assert clip_of(Candidate(media=media, settings={"fps": 10.0})).fps == 10
    with pytest.raises(MediaError, match="variable frame rate"):
        clip_of(Candidate(media=media))


def cut(name: str, share: float) -> bytes:
    kind, codec, _ = CONTAINERS[name]
    data = encoded(pan(side=64, frames=24, fps=12), kind, codec)
    return data[: int(share * len(data))]


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_half_a_file_is_refused(name, share):
    assert refusal(cut(name, share)) in ("the clip is truncated.", "the clip is corrupt.")


def test_a_cut_is_called_a_cut():
    assert {refusal(cut(name, 0.6)) for name in ("mp4", "mov", "webm", "mkv")} == {"the clip is truncated."}


def one(clip: Clip) -> Clip:
    return Clip(frames=clip.frames[:1], fps=clip.fps)


def damaged(data: bytes) -> bytes:
    """Every 23rd byte of the third quarter, which no header and no index reaches, is another."""
    return bytes(b ^ 0x55 if len(data) < 2 * i < 1.5 * len(data) and i % 23 == 0 else b for i, b in enumerate(data))


REFUSED = {
    "nothing": (lambda: b"", "the clip is empty (0 bytes)."),
    "a web page": (lambda: b"  <!DOCTYPE html><html>404</html>", "the clip is a text or web page."),
    "JSON": (lambda: b'{"error": "gone"}', "the clip is a text or web page."),
    "another file": (lambda: b"PK\x03\x04" + bytes(64), "the file is not a clip of a supported format."),
    "a playlist": (lambda: b"#EXTM3U\n/etc/passwd\n", "the file is not a clip of a supported format."),
    "noise behind an MP4's name": (
        lambda: b"\x00\x00\x00\x18ftypisom" + np.random.default_rng(0).bytes(4000),
        "the clip is truncated.",
    ),
    "noise in an APNG": (lambda: damaged(encode_clip(pan(side=64))), "the clip is corrupt."),
    "sound alone": (sound, "the file holds sound and no picture."),
    "a sound file": (lambda: b"ID3" + bytes(64), "the file holds sound and no picture."),
    "one frame in MP4": (lambda: encoded(one(pan(side=64))), "the clip has a single frame."),
    "one frame in WebM": (lambda: encoded(one(pan(side=64)), "webm", "libvpx-vp9"), "the clip has a single frame."),
    "a still WebP": (lambda: animated(one(pan())), "the clip has a single frame."),
    "a photograph": (lambda: b"\xff\xd8\xff" + bytes(64), "the clip has a single frame."),
    "no frame": (no_frame, "the clip has no frame."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_clip_is_refused_by_name(name):
    make, problem = REFUSED[name]
    assert refusal(make()) == problem


@pytest.mark.parametrize("name", ["mp4", "mov"])
def test_concealed_damage_does_not_pass_for_a_picture(name):
    data = damaged(encoded(pan(side=64), *CONTAINERS[name][:2]))
    assert refusal(data) in ("the clip is corrupt.", "the clip is truncated.")


@pytest.mark.parametrize("make", [encoded, lambda c: encoded(c, "webm", "libvpx-vp9"), encode_clip])
def test_caps(make):
    data = make(pan(side=64, frames=12, fps=6))
    assert len(decode_clip(data, max_frames=12, max_pixels=12 * 64 * 64, max_seconds=2)[0]) == 12
    assert refusal(data, max_frames=11) == "the clip has too many frames."
    assert refusal(data, max_pixels=12 * 64 * 64 - 1) == "the clip has too many pixels."
    assert refusal(data, max_seconds=1.5) == "the clip has too many seconds."


def test_a_frame_held_for_a_day_is_no_bomb():
    data = animated(pan(frames=3), duration=[40, 40, 16_000_000])
    assert refusal(data) == "the clip has too many seconds."
    assert refusal(data, max_seconds=1e6) == "the clip has too many frames."


def test_a_header_that_claims_a_wall_is_refused_before_a_pixel_is_decoded():
    data = bytearray(encode_clip(pan()))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = crc(bytes(data[12:29]))
    assert refusal(bytes(data)) == "the clip has too many pixels."


@given(place=st.integers(0, 4000), byte=st.integers(0, 255), name=st.sampled_from(["mp4", "webm", "avi", "apng"]))
@settings(max_examples=120, deadline=None)
def test_nothing_but_our_error_ever_leaves(place, byte, name):
    if name not in _files:
        kind = CONTAINERS.get(name)
        _files[name] = encoded(pan(side=64), *kind[:2]) if kind else encode_clip(pan())
    data = bytearray(_files[name])
    data[place % len(data)] = byte
    try:
        count, remedy = len(decode_clip(bytes(data))[0]), None
    except MediaError as error:
        count, remedy = 0, error.remedy
    assert count >= 2 or remedy


_files: dict[str, bytes] = {}


def test_without_pyav_the_remedy_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    data = encoded(pan(side=64))
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MediaError, match=r"pip install 'penchant\[video\]'"):
        decode_clip(data)
    assert len(decode_clip(encode_clip(pan()))[0]) == 9  # animations need Pillow alone


def test_clips_and_pictures_are_told_apart_by_their_first_bytes():
    moving = [encode_clip(pan()), animated(pan()), animated(pan(), "GIF"), encoded(pan(side=64)), sound()]
    resting = [
        animated(one(pan())),
        animated(one(pan()), "GIF"),
        animated(one(pan()), "PNG"),
        b"\xff\xd8\xff" + bytes(9),
    ]
    assert [is_clip(data) for data in moving + resting] == [True] * 5 + [False] * 4


def test_frames_at_another_rate_keep_their_time():
    clip = pan(frames=24, fps=24)
    assert frame_times(clip, 24).tolist() == list(range(24))
    assert frame_times(clip, 8).tolist() == list(range(0, 24, 3))
    assert frame_times(clip, 6, 3, start=0.5).tolist() == [12, 16, 20]
    assert frame_times(clip, 48, 4).tolist() == [0, 0, 1, 1]
    assert np.array_equal(sample_frames(clip, 2), clip.frames[[0, 12]])


def test_rates_that_are_no_floats_take_every_frame():
    clip = pan(frames=30, fps=float(Fraction(30000, 1001)))
    assert frame_times(clip, 30000 / 1001).tolist() == list(range(30))
    assert frame_times(clip, 10000 / 1001).tolist() == list(range(0, 30, 3))


@pytest.mark.parametrize("asked", [(6, 10), (6, 2, 1.4), (0, 1), (6, 0), (6, 1, -0.1), (6, 1, 1.6)])
def test_more_than_there_is_is_refused(asked):
    with pytest.raises(MediaError) as caught:
        sample_frames(pan(frames=9, fps=6), *asked)
    assert caught.value.remedy


def test_the_fixtures_move():
    assert np.array_equal(pan(step=2).frames[1][:, 2:], pan(step=2).frames[0][:, :-2])
    assert emoji(0).size == (48, 48)
