"""Sounds come back as they were, are mended where that is documented, and are refused by name everywhere else."""

from __future__ import annotations

import builtins
import struct
import time
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audio_fixtures import RATE, melody, noise, sweep, tone, written
from clip_fixtures import encoded, pan
from penchant.errors import MediaError
from penchant.feedback import Candidate, Media, Sound, decode_sound, encode_sound, sound_of
from penchant.feedback.audio_files import is_sound
from penchant.feedback.groups import sniff_mime
from penchant.sampling.codecs import SoundCodec

FILES = {
    "wav": (("wav", "pcm_s16le", "s16"), "audio/wav", 1.6e-5),
    "wav, 24 bits": (("wav", "pcm_s24le", "s32"), "audio/wav", 1.2e-7),
    "wav, floats": (("wav", "pcm_f32le", "flt"), "audio/wav", 0),
    "wav, doubles": (("wav", "pcm_f64le", "dbl"), "audio/wav", 0),
    "wav, 8 bits": (("wav", "pcm_u8", "u8"), "audio/wav", 8e-3),
    "flac": (("flac", "flac", "s16"), "audio/flac", 1.6e-5),
    "flac, 24 bits": (("flac", "flac", "s32"), "audio/flac", 1.2e-7),
    "ogg, flac": (("ogg", "flac", "s16"), "audio/ogg", 1.6e-5),
    "m4a, alac": (("ipod", "alac", "s16p"), "audio/mp4", 1.6e-5),
    "mp3": (("mp3", "libmp3lame", "fltp"), "audio/mpeg", None),
    "m4a, aac": (("ipod", "aac", "fltp"), "audio/mp4", None),
    "opus": (("ogg", "libopus", "flt"), "audio/ogg", None),
}
"""Writer's arguments, type, and how far a sample may be from what was written; None where loss is the purpose."""


def refusal(data: bytes, **options) -> str:
    with pytest.raises(MediaError) as caught:
        decode_sound(data, **options)
    assert caught.value.remedy
    return caught.value.problem


def equal(a: Sound, b: Sound) -> bool:
    return a.rate == b.rate and np.array_equal(a.samples, b.samples)


def file(name: str, sound: Sound | None = None, **options: str) -> bytes:
    return written(sound or melody(rate=48_000), *FILES[name][0], **options)


@given(
    channels=st.integers(1, 2),
    count=st.integers(1, 3000),
    rate=st.sampled_from([8000, 22_050, 32_000, 44_100, 48_000, 96_000]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_sound_of_our_own_comes_back_bit_for_bit(channels, count, rate, seed):
    samples = np.random.default_rng(seed).uniform(-1, 1, (channels, count)).astype(np.float32)
    samples[:, 0] = 1e-30  # what no integer format keeps
    sound = Sound(samples=samples, rate=rate)
    codec = SoundCodec()
    assert equal(codec.decode(codec.encode(sound)), sound)


def test_a_cache_keeps_silence_and_clicks_too():
    codec = SoundCodec()
    for count in (1, 9, RATE):
        silence = Sound(samples=np.zeros((2, count), np.float32), rate=RATE)
        assert equal(codec.decode(codec.encode(silence)), silence)


def test_what_lies_beyond_full_scale_is_clipped_when_written():
    loud = Sound(samples=np.array([[0.5, 1.5, -7.0] * 4000], np.float32), rate=RATE)
    for format in ("wav", "flac"):
        back, repairs = decode_sound(encode_sound(loud, format))
        assert repairs == []
        assert np.abs(back.samples - loud.samples.clip(-1, 1)).max() <= 2**-23


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_same_sound_gives_the_same_bytes(format, channels):
    sound = melody(channels=channels)
    data = encode_sound(sound, format)
    assert data == encode_sound(melody(channels=channels), format)
    assert data != encode_sound(melody(1, channels=channels), format)


def test_24_bits_lose_less_than_half_a_step():
    sound = noise(level=1.0)
    back, _ = decode_sound(encode_sound(sound, "flac"))
    assert 0 < np.abs(back.samples - sound.samples).max() <= 2**-24
    assert encode_sound(back, "flac") == encode_sound(sound, "flac")


@pytest.mark.parametrize("format", ["ogg", "mp3"])
@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100])
def test_sounds_for_pages_are_small_and_the_same_music(format, rate):
    sound = melody(rate=rate, channels=2)
    data = encode_sound(sound, format)
    back, _ = decode_sound(data)
    assert len(data) < 0.4 * len(written(sound))
    assert len(back.samples) == 2
    assert back.seconds == pytest.approx(sound.seconds, abs=0.01)
    assert np.abs(spectrum(back) - spectrum(sound)).mean() < 1.0  # decibels


def spectrum(sound: Sound) -> np.ndarray:
    """Decibels of the bands of one tenth of an octave that hold the music."""
    power = np.abs(np.fft.rfft(sound.mono())) ** 2 / len(sound)
    edges = 200 * 2 ** (np.arange(0, 21) / 10)
    hertz = np.arange(len(power)) * sound.rate / len(sound)
    bands = [power[(hertz >= a) & (hertz < b)].sum() for a, b in pairwise(edges)]
    return 10 * np.log10(np.array(bands) / sound.rate + 1e-6)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_sample_of_the_known_files_is_read(name, channels):
    arguments, mime, near = FILES[name]
    sound = sweep(rate=48_000, channels=channels)
    data = written(sound, *arguments)
    back, repairs = decode_sound(data)
    assert (sniff_mime(data), is_sound(data), repairs, back.rate) == (mime, True, [], 48_000)
    assert len(back.samples) == channels
    # AAC's encoder begins with a frame of silence and pads the last one.
    assert 0 <= len(back) - len(sound) <= (2048 if "aac" in name else 0)
    if near is not None:
        assert np.abs(back.samples - sound.samples).max() <= near
    else:
        a, b = sound.samples[0, 9000:40_000], back.samples[0]
        found = np.correlate(b[8000:44_000], a, "valid") / np.linalg.norm(a)
        shift = int(found.argmax())
        assert 1000 <= shift <= 1000 + (1024 if "aac" in name else 0)
        assert found[shift] / np.linalg.norm(b[8000 + shift :][: len(a)]) > 0.99


def test_a_file_without_a_tag_is_known_by_its_first_frame():
    data = file("mp3", id3v2_version="0")
    assert data[:2] == b"\xff\xfb"
    assert sniff_mime(data) == "audio/mpeg"
    assert decode_sound(data)[1] == []


def test_six_channels_become_two_with_the_centre_in_the_middle():
    parts = np.zeros((6, RATE), np.float32)
    time_ = np.arange(RATE) / RATE
    for k, place in enumerate((0, 2, 4)):  # front left, centre, back left
        parts[place] = 0.3 * np.sin(2 * np.pi * 300 * (k + 1) * time_)
    sound, repairs = decode_sound(written(parts, "flac", "flac", "s16"))
    assert repairs == ["6 channels mixed down to stereo"]
    weights = np.array([[1, 0.5**0.5, 0.5**0.5], [0, 0.5**0.5, 0]]) / (1 + 2 * 0.5**0.5)
    assert np.abs(sound.samples - weights @ parts[[0, 2, 4]]).max() < 1e-4


def test_the_low_frequency_channel_is_left_out():
    parts = np.zeros((6, RATE), np.float32)
    parts[3] = noise().samples[0]
    assert refusal(written(parts, "flac", "flac", "s16")) == "the sound is silent."


def test_floats_that_hold_whole_numbers_are_brought_to_full_scale():
    whole = np.round(melody().samples * 32768).astype(np.float32)
    sound, repairs = decode_sound(written(whole, "wav", "pcm_f32le", "flt"))
    assert repairs == ["whole numbers brought to full scale"]
    assert np.array_equal(sound.samples, whole / 32768)


def test_floats_a_little_beyond_full_scale_are_clipped_and_that_is_told():
    loud = melody(level=1.4).samples
    assert loud.max() > 1
    sound, repairs = decode_sound(written(loud, "wav", "pcm_f32le", "flt"))
    assert repairs == ["samples beyond full scale clipped"]
    assert np.array_equal(sound.samples, loud.clip(-1, 1))


@pytest.mark.parametrize("tail", [bytes(300), b"APETAGEX" * 20])
def test_what_follows_the_last_frame_of_an_mp3_is_left_out(tail):
    data = file("mp3")
    sound, repairs = decode_sound(data + tail)
    assert repairs in ([], ["bytes behind the last frame dropped"])
    assert equal(sound, decode_sound(data)[0])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_was_cut_is_truncated(name, share):
    data = file(name, melody(seconds=6, rate=48_000))
    assert refusal(data[: int(share * len(data))]) == "the sound is truncated."


@pytest.mark.parametrize("name", ["m4a, aac", "m4a, alac"])
def test_a_cut_behind_the_index_is_a_cut_too(name):
    data = file(name, melody(seconds=6, rate=48_000), movflags="+faststart")
    assert data.index(b"moov") < 64
    assert refusal(data[: int(0.6 * len(data))]) == "the sound is truncated."


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("name", ["wav", "wav, floats"])
def test_a_file_that_went_through_a_pipe_is_read_to_its_end(name, size):
    sound = tone(rate=48_000)
    data = written(sound, *FILES[name][0])
    place = data.index(b"data") + 4
    back, repairs = decode_sound(data[:place] + struct.pack("<I", size) + data[place + 4 :])
    assert repairs == []
    assert back.samples.shape == sound.samples.shape


def damaged(data: bytes) -> bytes:
    """Every 23rd byte of the third quarter, which no header and no index reaches, is another."""
    return bytes(b ^ 0x55 if len(data) < 2 * i < 1.5 * len(data) and i % 23 == 0 else b for i, b in enumerate(data))


@pytest.mark.parametrize("name", ["flac", "ogg, flac", "mp3", "m4a, aac", "opus"])
def test_damage_does_not_pass_for_music(name):
    assert refusal(damaged(file(name, noise(seconds=6, rate=48_000)))) == "the sound is corrupt."


@pytest.mark.parametrize("name", ["flac", "flac, 24 bits", "ogg, flac", "opus"])
@given(place=st.floats(0.5, 0.99), bit=st.integers(0, 7))
@example(place=0.9838390708769619, bit=0)  # the sync code of the last frame of 24 bits, 20 ms
@settings(max_examples=25, deadline=None)
def test_one_wrong_bit_is_seen_where_there_are_checksums(name, place, bit):
    # The writer leaves eight kilobytes of padding in front of a FLAC's frames.
    data = bytearray(_files.setdefault(name, file(name, melody(seconds=0.5, rate=48_000))))
    data[int(place * len(data))] ^= 1 << bit
    assert refusal(bytes(data)) in ("the sound is corrupt.", "the sound is truncated.")


REFUSED = {
    "nothing": (lambda: b"", "the sound is empty (0 bytes)."),
    "a web page": (lambda: b"  <!DOCTYPE html><html>404</html>", "the sound is a text or web page."),
    "JSON": (lambda: b'{"error": "gone"}', "the sound is a text or web page."),
    "another file": (lambda: b"PK\x03\x04" + bytes(64), "the file is not a sound of a supported format."),
    "notes": (lambda: b"MThd" + bytes(64), "the file is not a sound of a supported format."),
    "a playlist": (lambda: b"#EXTM3U\n/etc/passwd\n", "the file is not a sound of a supported format."),
    "a photograph": (lambda: b"\xff\xd8\xff" + bytes(64), "the file is a picture or clip and no sound."),
    "a clip": (lambda: encoded(pan(side=64)), "the file is a picture or clip and no sound."),
    "a clip named M4A": (
        lambda: encoded(pan(side=64)).replace(b"ftypisom", b"ftypM4A ", 1),
        "the file is a picture or clip and no sound.",
    ),
    "no sample in WAV": (lambda: encode_wav(np.zeros((1, 0), np.float32)), "the sound has no sample."),
    "no sample in FLAC": (lambda: flac_head(0), "the sound has no sample."),
    "silence": (lambda: encode_wav(np.zeros((2, RATE), np.float32)), "the sound is silent."),
    "dither alone": (lambda: encode_sound(noise(level=6e-5)), "the sound is silent."),
    "a direct current": (lambda: encode_wav(np.full((1, RATE), 0.3, np.float32)), "the sound is silent."),
    "NaN": (lambda: encode_wav(np.full((1, RATE), np.nan, np.float32)), "the sound has NaN or infinite samples."),
    "infinity": (lambda: encode_wav(np.full((1, RATE), np.inf, np.float32)), "the sound has NaN or infinite samples."),
    "no scale": (lambda: encode_wav(noise(level=900.0).samples), "the sound lies far beyond full scale."),
    "a click": (lambda: encode_sound(tone(seconds=0.1)), "the sound is too short."),
    "a rate of 100": (lambda: encode_wav(noise().samples, 100), "the sound has an absurd rate."),
    "a rate of a million": (lambda: encode_wav(noise().samples, 1_000_000), "the sound has an absurd rate."),
    "twelve channels": (
        lambda: encode_wav(np.ones((12, RATE), np.float32)),
        "the sound has too many channels.",
    ),
    "a codec of games": (lambda: encode_wav(noise().samples, tag=0x61), "the sound's codec is not read."),
    "a tag and no frame": (lambda: b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(64), "the sound is corrupt."),
    "noise behind a FLAC's name": (
        lambda: b"fLaC" + np.random.default_rng(0).bytes(4000),
        "the sound is corrupt.",
    ),
}


def encode_wav(samples: np.ndarray, rate: int = RATE, tag: int = 3) -> bytes:
    """A WAV of floats as a careless writer makes it: nothing is looked at."""
    channels, body = len(samples), samples.T.astype("<f4").tobytes()
    head = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * 4, channels * 4, 32)
    content = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


def flac_head(samples: int, rate: int = 44_100, channels: int = 2, bits: int = 16) -> bytes:
    """A FLAC's first block (RFC 9639, section 8.2), and nothing behind it."""
    packed = (rate << 44) | ((channels - 1) << 41) | ((bits - 1) << 36) | samples
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + b"\x80" + len(info).to_bytes(3, "big") + info


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sound_is_refused_by_name(name):
    make, problem = REFUSED[name]
    assert refusal(make()) == problem


def test_caps():
    data = encode_sound(tone(seconds=2, channels=2))
    assert decode_sound(data, max_seconds=2, max_samples=4 * RATE)[0].seconds == 2
    assert refusal(data, max_seconds=1.9) == "the sound has too many seconds."
    assert refusal(data, max_samples=4 * RATE - 1) == "the sound has too many samples."


def test_ten_hours_in_a_header_are_refused_before_anything_is_decoded():
    started = time.process_time()
    assert refusal(flac_head(10 * 3600 * 44_100)) == "the sound has too many seconds."
    assert time.process_time() - started < 1


def test_a_header_that_claims_more_than_the_file_holds_is_not_believed():
    data = encode_sound(noise())
    place = data.index(b"data") + 4
    data = data[:place] + struct.pack("<I", 3600 * RATE * 4) + data[place + 4 :]
    assert refusal(data) == "the sound is truncated."


@pytest.mark.parametrize("kind", ["mp3", "opus"])
def test_ten_hours_without_a_word_of_it_cost_what_the_cap_allows(kind):
    if kind == "mp3":
        minute = written(noise(seconds=60), "mp3", "libmp3lame", "fltp", write_xing="0", id3v2_version="0")
        data = minute * 600
    else:
        # Streams one after the other.
        data = written(noise(seconds=60, rate=48_000), "ogg", "libopus", "flt") * 100
    tracemalloc.start()
    started = time.process_time()
    problem = refusal(data, max_seconds=90)
    seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert problem == "the sound has too many seconds."
    assert seconds < 20
    assert peak < len(data) + 4 * 90 * 48_000 * 4


@given(place=st.integers(0, 4000), byte=st.integers(0, 255), name=st.sampled_from(sorted(FILES)))
@settings(max_examples=150, deadline=None)
def test_nothing_but_our_error_ever_leaves(place, byte, name):
    if name not in _files:
        _files[name] = file(name, melody(seconds=0.5, rate=48_000))
    data = bytearray(_files[name])
    data[place % len(data)] = byte
    try:
        sound, remedy = decode_sound(bytes(data))[0], None
        assert np.abs(sound.samples).max() <= 1
    except MediaError as error:
        remedy = error.remedy
        assert remedy


_files: dict[str, bytes] = {}


def test_without_pyav_the_remedy_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    data = encode_sound(tone())
    monkeypatch.setattr(builtins, "__import__", missing)
    assert encode_sound(tone()) == data  # our own file needs nothing
    for call in (lambda: decode_sound(data), lambda: encode_sound(tone(), "ogg")):
        with pytest.raises(MediaError, match=r"pip install 'penchant\[audio\]'"):
            call()


def test_what_cannot_be_written_is_refused():
    broken = Sound(samples=np.array([[0.0, np.nan]], np.float32), rate=RATE)
    with pytest.raises(MediaError, match="NaN"):
        encode_sound(broken)
    with pytest.raises(MediaError, match="one of wav, flac, ogg, mp3"):
        encode_sound(tone(), "aiff")


def test_a_candidate_is_judged_as_it_is_silent_or_short():
    short = Sound(samples=np.zeros((1, 100), np.float32), rate=RATE)
    assert equal(sound_of(Candidate(media=Media.of(encode_sound(short)))), short)
    with pytest.raises(MediaError, match="has no sound"):
        sound_of(Candidate(text="la la"))


def test_a_drawn_sound_becomes_a_candidate_and_reaches_a_server_bit_for_bit():
    import base64

    from penchant.iterations.drawing import _MADE
    from penchant.judges.served import _encoded

    sound = melody(channels=2)
    candidate = _MADE["sound"](sound, 3, "m")
    assert (candidate.seed, candidate.model, candidate.media.mime) == (3, "m", "audio/wav")
    assert equal(sound_of(candidate), sound)
    sent = _encoded(sound)
    assert sent["mime"] == "audio/wav"
    assert equal(decode_sound(base64.b64decode(sent["data"]))[0], sound)
