"""CLAP on a tiny random model: the cosine of its own forward, segments averaged, rates brought together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from penchant import judges
from penchant.errors import ModelError
from penchant.feedback.sound import Sound
from penchant.judges.audio_rewards import resampled, segments
from penchant.testing.parts import VOCABULARY, byte_tokenizer, seeded

RATE = 8000


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    from transformers import ClapAudioConfig, ClapConfig, ClapFeatureExtractor, ClapModel, ClapTextConfig

    text = ClapTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=90,
        projection_dim=8,
        pad_token_id=1,
    )
    audio = ClapAudioConfig(
        num_mel_bins=16,
        spec_size=64,
        window_size=2,
        patch_size=4,
        patch_stride=[4, 4],
        patch_embeds_hidden_size=8,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        hidden_size=16,
        projection_dim=8,
        enable_fusion=False,
    )
    with seeded(0):
        model = ClapModel(ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=8)).eval()
    folder = tmp_path_factory.mktemp("clap")
    model.save_pretrained(folder)
    byte_tokenizer(template="<start> $A <end>", lowercase=False).save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=RATE,
        hop_length=400,
        fft_window_size=512,
        max_length_s=10,
        truncation="rand_trunc",
    ).save_pretrained(folder)
    return folder, model


def tone(hertz: float, seconds: float, *, rate: int = RATE, channels: int = 1) -> Sound:
    wave = np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)
    return Sound(samples=np.stack([wave] * channels), rate=rate)


def expected(folder: Path, model: Any, prompt: str, pieces: list[np.ndarray]) -> float:
    """By the model's own logits, which are the cosines times a scale."""
    from transformers import AutoFeatureExtractor, AutoTokenizer

    text = AutoTokenizer.from_pretrained(folder)([prompt], return_tensors="pt")
    heard = AutoFeatureExtractor.from_pretrained(folder)(pieces, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        out = model(input_ids=text["input_ids"], attention_mask=text["attention_mask"], **heard)
    return float((out.logits_per_audio / model.logit_scale_a.detach().exp()).mean())


def test_a_score_is_the_mean_cosine_of_segments_of_ten_seconds(clap: tuple[Path, Any]) -> None:
    folder, model = clap
    judge = judges.load(f"clap:{folder}")
    assert judge.dimensions == ("adherence",)
    rng = np.random.default_rng(0)
    noise = Sound(samples=rng.standard_normal((2, 25 * RATE)).astype(np.float32), rate=RATE)
    short = tone(440, 3)
    scores = judge.score(["a drum", "a flute"], [noise, short])[:, 0]
    mono = noise.mono()
    cut = [mono[: 10 * RATE], mono[10 * RATE : 20 * RATE], mono[15 * RATE :]]
    assert scores[0] == pytest.approx(expected(folder, model, "a drum", cut), abs=1e-5)
    assert scores[1] == pytest.approx(expected(folder, model, "a flute", [short.mono()]), abs=1e-5)
    again = judge.score(["a drum"], [noise])[:, 0]
    assert again[0] == pytest.approx(scores[0], abs=1e-6), "nothing is cut at random"
    assert np.abs(scores).max() <= 1


def test_segments_reach_the_end_and_lose_nothing() -> None:
    samples = np.arange(25, dtype=np.float32)
    found = segments(samples, 10)
    assert [piece[0] for piece in found] == [0, 10, 15]
    assert set(np.concatenate(found)) == set(samples)
    assert [len(p) for p in segments(samples[:20], 10)] == [10, 10]
    assert [len(p) for p in segments(samples[:7], 10)] == [7]


def test_a_sound_at_another_rate_is_the_same_sound() -> None:
    found = resampled(tone(440, 1.0, rate=44100, channels=2), RATE)
    wanted = tone(440, 1.0).mono()
    assert len(found) == len(wanted)
    assert np.abs(found - wanted)[200:-200].max() < 1e-2


def test_what_is_no_sound_or_no_model_is_refused(clap: tuple[Path, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="hears sounds"):
        judges.load(f"clap:{clap[0]}").score(["a"], ["text"])
    with pytest.raises(ModelError, match="no CLAP model"):
        judges.load(f"clap:{tmp_path}")
