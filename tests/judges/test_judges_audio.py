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


# --- heads over ears --------------------------------------------------------------------------------------------------


def head(width: int) -> torch.nn.Sequential:
    """As TuneJury's authors build it, by name and place."""
    layers: list[torch.nn.Module] = []
    for high in (12, 6):
        layers += [torch.nn.Linear(width, high), torch.nn.BatchNorm1d(high), torch.nn.ReLU(), torch.nn.Dropout(0.5)]
        width = high
    net = torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))
    for layer in net:
        if isinstance(layer, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize("name", ["A1_clap_audio_only.pt", "head.safetensors"])
def test_tunejury_is_its_head_on_the_mean_embedding_of_ten_seconds(name, clap, tmp_path):
    import shutil

    from safetensors.torch import save_file

    folder, model = clap
    shutil.copytree(folder, tmp_path / "jury")
    with seeded(1):
        net = head(8)
    file = tmp_path / "jury" / name
    state = {f"net.{key}": value for key, value in net.state_dict().items()}
    save_file(state, file) if name.endswith("safetensors") else torch.save(state, file)
    judge = judges.load(f"tunejury:{file}")
    sounds = [tone(300, 25), tone(500, 3)]
    scores = judge.score(["", ""], sounds)
    assert scores.shape == (2, 1)
    for sound, score in zip(sounds, scores[:, 0], strict=True):
        pieces = segments(sound.mono(), 10 * RATE)
        features = judge.ears.extractor(pieces, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            text = judge.ears.tokenizer(["a"], return_tensors="pt")
            found = model(input_ids=text["input_ids"], attention_mask=text["attention_mask"], **features).audio_embeds
            assert score == pytest.approx(float(net(found.mean(0, keepdim=True))), abs=1e-5)
    assert abs(scores[0, 0] - scores[1, 0]) > 1e-4
    with pytest.raises(ModelError, match="hears sounds"):
        judge.score([""], ["text"])
    with seeded(1):
        save_file({f"net.{k}": v for k, v in head(2048).state_dict().items()}, tmp_path / "jury" / "two.safetensors")
    with pytest.raises(ModelError, match="takes 2048 features, CLAP gives 8"):
        judges.load(f"tunejury:{tmp_path / 'jury' / 'two.safetensors'}")


@pytest.fixture(scope="module")
def audiobox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authors' class with a WavLM of one small layer and random weights."""
    from audiobox_aesthetics.model import aes

    small = {
        "encoder_layers": 1,
        "encoder_embed_dim": 16,
        "encoder_ffn_embed_dim": 16,
        "encoder_attention_heads": 2,
        "conv_feature_layers": "[(8,400,320)]",
        "conv_pos": 4,
        "conv_pos_groups": 2,
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in small.items():
            patch.setattr(aes.DEFAULT_AUDIO_CFG, key, value)
        scales = {axis: {"mean": 5.0 + i, "std": 1.0 + i} for i, axis in enumerate(aes.AXES_NAME)}
        with seeded(0):
            model = aes.AesMultiOutput(nth_layer=2, target_transform=scales)
        folder = tmp_path_factory.mktemp("audiobox")
        model.save_pretrained(folder)
        yield folder


def test_audiobox_is_the_mean_of_its_windows_in_its_own_units(audiobox: Path) -> None:
    judge = judges.load(f"audiobox:{audiobox}")
    assert judge.dimensions == (
        "content-enjoyment",
        "content-usefulness",
        "production-complexity",
        "production-quality",
    )
    long = tone(300, 25, rate=16_000)
    scores = judge.score([""], [long])[0]
    parts = [Sound(samples=long.samples[:, i * 160_000 : (i + 1) * 160_000], rate=16_000) for i in range(3)]
    each = judge.score([""] * 3, parts)
    assert scores == pytest.approx((each * np.array([[1.0], [1.0], [0.5]])).sum(0) / 2.5, abs=1e-4)
    assert np.abs(each[0] - each[2]).max() > 0
    one = judges.load(f"audiobox:{audiobox}#production-quality").score([""], [long])
    assert one[0, 0] == pytest.approx(scores[3])
    with pytest.raises(ModelError, match="hears sounds"):
        judge.score([""], ["text"])


def test_without_its_package_audiobox_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "audiobox_aesthetics.model.aes", None)
    with pytest.raises(ModelError, match="pip install --no-deps audiobox_aesthetics"):
        judges.load("audiobox")
