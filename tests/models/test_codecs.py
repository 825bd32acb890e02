"""Codecs: a sound to codes and back, whatever shapes transformers gives them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from music_fixtures import noise

from penchant.errors import ModelError
from penchant.feedback.sound import Sound
from penchant.models.codecs import codec_of
from penchant.models.waves import waveform
from penchant.testing import tiny_language_model
from penchant.testing.music import tiny_dac, tiny_encodec

BUILDERS = {"encodec": tiny_encodec, "dac": tiny_dac}


@pytest.fixture(scope="module", params=[*BUILDERS])
def module(request: pytest.FixtureRequest):
    return BUILDERS[request.param]()


@pytest.mark.parametrize("channels", [1, 2])
def test_a_sound_becomes_codes_and_codes_a_sound(module, channels) -> None:
    codec = codec_of(module, channels=channels)
    sound = noise(0.2, channels=channels)
    codes = codec.encode(sound)
    assert codes.shape == (4 * channels, 1600 // codec.hop)
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert codes.max() < 64
    assert len(codes.unique()) > 8
    back = codec.decode(codes)
    assert (back.samples.shape, back.rate) == ((channels, 1600), 8000)
    assert codec.frame_rate == 8000 / codec.hop


def test_each_channel_is_coded_by_itself(module) -> None:
    mono, stereo = codec_of(module), codec_of(module, channels=2)
    left, right = noise(seed=1), noise(seed=2)
    both = Sound(samples=np.concatenate([left.samples, right.samples]), rate=8000)
    codes = stereo.encode(both)
    assert torch.equal(codes[::2], mono.encode(left))
    assert torch.equal(codes[1::2], mono.encode(right))
    np.testing.assert_allclose(stereo.decode(codes).samples[1], mono.decode(codes[1::2]).samples[0], atol=1e-6)


def test_a_part_of_a_frame_is_a_frame(module) -> None:
    codec = codec_of(module)
    sound = Sound(samples=noise().samples[:, : codec.hop * 3 + 1], rate=8000)
    assert codec.encode(sound).shape[1] == 4


def test_fewer_codebooks_are_the_first_ones() -> None:
    whole, few = codec_of(tiny_encodec(bandwidths=(1.2, 2.4))), codec_of(tiny_encodec(bandwidths=(1.2, 2.4)), levels=2)
    assert torch.equal(few.encode(noise()), whole.encode(noise())[:2])
    dac, fewer = codec_of(tiny_dac()), codec_of(tiny_dac(), levels=3)
    assert torch.equal(fewer.encode(noise()), dac.encode(noise())[:3])
    assert fewer.decode(fewer.encode(noise())).samples.shape == (1, 2000)


def test_codes_of_another_codec_are_refused(module) -> None:
    with pytest.raises(ModelError, match="not for a codec of 4"):
        codec_of(module).decode(torch.zeros(3, 5, dtype=torch.long))
    with pytest.raises(ModelError):
        codec_of(module, levels=5)
    with pytest.raises(ModelError, match="not known"):
        codec_of(tiny_language_model("llama"))


def test_an_encodec_that_cuts_sounds_is_refused() -> None:
    module = tiny_encodec()
    module.config.chunk_length_s = 1.0
    with pytest.raises(ModelError, match="chunks"):
        codec_of(module)


def test_a_tone_keeps_its_pitch_through_another_rate() -> None:
    """440 Hz at 44.1 kHz is 440 Hz at 16 kHz; what the lower rate cannot hold is gone."""
    time = np.arange(44100) / 44100
    samples = np.sin(2 * np.pi * 440 * time) + np.sin(2 * np.pi * 12000 * time)
    sound = Sound(samples=(0.4 * samples[None]).astype(np.float32), rate=44100)
    wave = waveform(sound, rate=16000, channels=1)
    assert wave.shape == (1, 16000)
    spectrum = np.abs(np.fft.rfft(wave[0].numpy())) / 8000
    assert spectrum.argmax() == 440
    assert spectrum[440] == pytest.approx(0.4, abs=0.01)
    assert np.delete(spectrum, range(430, 450)).max() < 0.01


def test_channels_are_mixed_or_given_to_both_sides() -> None:
    two = Sound(samples=np.array([[0.5, 1.0], [0.0, -1.0]], dtype=np.float32), rate=8000)
    assert waveform(two, rate=8000, channels=1).tolist() == [[0.25, 0.0]]
    one = Sound(samples=two.samples[:1], rate=8000)
    assert waveform(one, rate=8000, channels=2).tolist() == [[0.5, 1.0]] * 2
