"""Tunes and sounds as a report sees them: measures by hand, players that play what was written, at one loudness."""

from __future__ import annotations

import base64
import io
import re
import wave
from types import SimpleNamespace

import numpy as np
import pytest
from test_evaluate_report import ATTACK, Page, text

import penchant as pc
from penchant.errors import ModelError, PenchantError
from penchant.evaluate import (
    Player,
    PlayerRow,
    PolicyResult,
    ReportData,
    SoundSample,
    load_samples,
    save_samples,
    sound_player,
    tune_player,
    write_report,
)
from penchant.evaluate import players as players_module
from penchant.evaluate.compare import MEDIA, exhibited, formed, judged, moved, scored, spread
from penchant.evaluate.sheet import Sheet
from penchant.evaluate.sound_form import centroid, level, spectral_distance, spectrum
from penchant.evaluate.tune_form import (
    entropy_bits,
    histogram_distance,
    intervals,
    pitch_class,
    sequences,
    tune_distance,
    tune_diversity,
    tune_form,
)
from penchant.feedback.audio_files import decode_sound
from penchant.feedback.groups import Prompt
from penchant.feedback.loudness import heard
from penchant.feedback.sound import Sound
from penchant.feedback.tune import parse
from penchant.judges import load
from penchant.judging import Judging
from penchant.models.completion import Completion
from penchant.models.spec import Policy
from penchant.recipe import Evaluation
from penchant.recipes import find
from penchant.sampling.samplers import TextSampler, TuneSampler, sampler_of
from penchant.testing import build
from tune_fixtures import CAPTIONS, walk

UP = "N0_12 N2_12 N4_12 N5_12 | N7_24 N0_24 |"


def completion(words: str, *, finished: bool = True) -> Completion:
    return Completion(text=words, tokens=(5, 6), log_probs=(-1.0, -2.0), finished=finished)


def test_the_notation_of_a_policy_says_what_its_completions_are(tmp_path):
    folder = str(build("llama", tmp_path / "llama"))
    assert isinstance(sampler_of(pc.load(folder, notation="tune"), Evaluation()), TuneSampler)
    assert isinstance(sampler_of(pc.load(folder), Evaluation()), TextSampler)
    assert TuneSampler.modality == "tune"
    assert TuneSampler.codec is TextSampler.codec
    assert Policy(path="x").notation is None
    with pytest.raises(ModelError, match="no notation is 'abc'"):
        Policy(path="x", notation="abc")


# Measures.


def test_measures_of_one_tune_by_hand():
    tune = parse(UP)
    assert intervals(tune) == [2, 2, 1, 2, -7]
    assert entropy_bits([2, 2, 1, 2, -7]) == pytest.approx(-(0.6 * np.log2(0.6) + 0.4 * np.log2(0.2)))
    assert entropy_bits([]) == 0
    assert len(sequences(tune)) == 3
    form = tune_form([completion(UP)] * 2, [completion(UP), completion("R_12 | what |", finished=False)], seeds=1)
    assert (form.notes.after, form.bars.after, form.density.after, form.range.after) == (6, 2, 3, 7)
    assert (form.distinct.after, form.own.after, form.own.before) == (1, 0, 0.5)  # both have the same sequences
    assert (form.notes.before, form.unfinished.before) == (3, 0.5)
    assert form.unread.before == pytest.approx(1 / 8)  # one word of four, in one of two
    assert form.entropy.after == 1.5


def test_a_tune_that_repeats_a_bar_has_few_different_sequences():
    bar = "N0_12 N2_12 N4_12 N5_12 |"
    form = tune_form([completion(" ".join([bar] * 4))] * 2, [completion(UP)] * 2, seeds=1)
    assert form.distinct.after == pytest.approx(4 / 13)


def test_the_distance_of_tunes_knows_melody_and_rhythm_and_not_pitch():
    up = parse(UP)
    higher = parse("N3_12 N5_12 N7_12 N8_12 | N10_24 N3_24 |")
    slower = parse("N0_24 N2_24 N4_24 N5_24 | N7_48 N0_48 |")
    assert tune_distance(up, higher) == 0
    assert tune_distance(up, slower) == pytest.approx(1 - 1 / 21)  # one note of 24 ticks a tone above the last in both
    # Of up 11 runs are different, of the other 5: (2), (-4), (2 2), (2 -4), (2 2 -4); they share (2) and (2 2).
    assert tune_distance(up, parse("N0_12 N2_12 N4_12 N0_12 |")) == pytest.approx(1 - 2 / 14)
    assert tune_distance(parse(""), parse("")) == 0


def test_seeds_that_give_one_tune_have_no_diversity():
    assert tune_diversity([parse(UP)] * 4, seeds=2).value == 0
    varied = tune_diversity([parse(walk(k)) for k in range(8)], seeds=2)
    assert varied.value > 0.5
    assert varied.space == "runs of intervals"
    with pytest.raises(PenchantError, match="two tunes a prompt"):
        tune_diversity([parse(UP)], seeds=1)


def test_the_divergence_of_histograms_is_jensen_and_shannons():
    low, high = [parse("N0_12 N0_12")], [parse("N1_12 N1_12")]
    assert histogram_distance(low, low, pitch_class) == 0
    assert histogram_distance(low, high, pitch_class) == 1
    assert histogram_distance(low, high, lambda note: note.ticks) == 0
    # p = (1, 0), q = (1/2, 1/2): H(3/4, 1/4) - (H(p) + H(q)) / 2
    mixed = [parse("N0_12 N13_12")]
    assert histogram_distance(low, mixed, pitch_class) == pytest.approx(entropy_bits([0, 0, 0, 1]) - 0.5)
    assert histogram_distance(low, [parse("R_12")], pitch_class) is None


# The medium.

PROMPTS = tuple(Prompt(text=caption) for caption in CAPTIONS)


def sheet(first: int, *, bars: int = 4, finished: bool = True, seeds: int = 2) -> Sheet:
    samples = [completion(walk(first + k, bars=bars), finished=finished) for k in range(len(PROMPTS) * seeds)]
    return Sheet(captions="held-out", prompts=PROMPTS, seeds=seeds, samples=tuple(samples), modality="tune")


def test_tunes_are_a_medium():
    base, policy = sheet(0), sheet(100, bars=6)
    assert list(MEDIA["tune"].judged(base)) == list(base.samples)
    after, before = MEDIA["tune"].lengths(policy, base)
    assert after.shape == before.shape == (4, 2)
    assert after.mean() > before.mean()
    assert spread(base, None).space == "runs of intervals"
    assert moved(base, base, None).tune_distance == 0
    drift = moved(policy, base, None)
    assert drift.tune_distance > 0.5
    assert 0 < drift.pitch_classes < 0.2
    assert formed(policy, base).bars.after == 6


def test_judges_get_whole_completions_with_what_they_began_with():
    prompts = (Prompt(text=CAPTIONS[0], opening="N0_12 "), Prompt(text=CAPTIONS[1]))
    samples = (completion("N2_12 |", finished=False), completion(UP))
    given = Sheet(captions="seen", prompts=prompts, seeds=1, samples=samples, modality="tune")
    first, second = MEDIA["tune"].judged(given)
    assert (first.text, first.finished) == ("N0_12 N2_12 |", False)
    assert second is samples[1]


def test_evidence_controls_for_length_and_exhibits_are_players():
    judges = {"tune-rules#tonic": (load("tune-rules"), "held out")}
    base, policy = scored(sheet(0), judges), scored(sheet(100), judges)
    rows = judged("R", policy, base, judges)
    assert {row.dimension for row in rows} == set(load("tune-rules").dimensions)
    assert all(row.controlled is not None for row in rows)
    shown = exhibited("R", policy, base, "tune-rules#tonic", sheets=1)
    assert [row.modality for row in shown] == ["tune"] * 4
    assert [player.label for player in shown[0].players] == ["base", "R"]


# Players.


def written(tmp_path, *exhibits, **result) -> str:
    data = ReportData(title="tunes", base="base", policies=(PolicyResult(name="R", **result),), exhibits=exhibits)
    return write_report(tmp_path, data).read_text(encoding="utf-8")


def played(page: Page) -> list[Sound]:
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "audio"]
    assert all(source.startswith("data:audio/ogg;base64,") for source in sources)
    return [decode_sound(base64.b64decode(source.split(",")[1]))[0] for source in sources]


def row(*tunes: str, prompt: str = "reel in 4/4, major", **options) -> PlayerRow:
    made = [tune_player(tune, prompt, label=f"m{k}", **options) for k, tune in enumerate(tunes)]
    return PlayerRow.of(prompt, 3, made)


def test_players_play_the_whole_tune_at_one_loudness(tmp_path):
    tunes = walk(0), walk(1, bars=6), "N-10_12 N-10_12 N-10_12 N-10_12 |"
    sounds = played(Page(written(tmp_path, row(*tunes))))
    tempo = 138 * 12 / 60  # ticks a second of a 4/4
    for sound, tune in zip(sounds, tunes, strict=True):
        assert sound.seconds == pytest.approx(parse(tune).ticks / tempo, abs=0.15)
    levels = [heard(sound) for sound in sounds]
    assert max(levels) - min(levels) < 0.5


def test_every_note_is_in_the_roll_at_its_place(tmp_path):
    content = written(tmp_path, row(UP, "N0_12 N12_12 |"))
    first, second = re.findall(r'<path d="([^"]*)" class="notes">', content)
    assert first.count("M") == 6
    starts = [float(x) for x in re.findall(r"M([\d.]+)", second)]
    assert starts == pytest.approx([0, 1000 * 12 / 96])  # the longer tune lasts 96 ticks
    low, high = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)", second)]
    assert low - high == 12 * 7
    assert float(re.findall(r"M[\d.]+ ([\d.]+)", first)[0]) == low  # one scale of pitch
    bars = re.findall(r'<path d="([^"]*)" class="bars">', content)
    assert [bar.count("M") for bar in bars] == [2, 1]


def test_a_tune_without_an_end_is_marked_and_one_too_long_is_cut_with_a_fade(tmp_path):
    long = row(walk(0, bars=16), finished=False, seconds=4.0)
    content = written(tmp_path, long)
    assert 'class="cut"' in content
    assert 'class="notes unheard"' in content
    assert "no end" in content
    assert "first 4.0 s" in content
    (sound,) = played(Page(content))
    assert sound.seconds == pytest.approx(4, abs=0.1)
    tail = sound.samples[:, -round(0.05 * sound.rate) :]
    assert np.abs(tail).max() < 0.1 * np.abs(sound.samples).max()
    whole = written(tmp_path, row(walk(0)))
    assert 'class="cut"' not in whole
    assert "unheard" not in whole.split("</style>")[1]


def test_what_cannot_be_played_is_shown_with_its_reason(tmp_path):
    mixed = row(UP, "no music at all", "N99_12 |", "N0_1")
    content = written(tmp_path, mixed)
    assert len(played(Page(content))) == 1
    words = text(Page(content))
    assert "No note to play." in words
    assert words.count("Cannot be ") == 2
    assert "pitch 161" in words


def test_the_best_is_marked_and_a_tie_is_not():
    def preferred(*scores):
        return PlayerRow.of("p", 0, [Player(sound=None, label="m", score=s, tune=parse(UP)) for s in scores]).preferred

    assert preferred(0.1, 0.4, 0.3) == 1
    assert preferred(0.4, 0.4, 0.3) is None
    assert preferred(0.4, None) is None
    assert preferred(0.4) is None
    with pytest.raises(PenchantError, match="preferred"):
        PlayerRow(modality="tune", prompt="p", seed=0, players=())


def test_nothing_runs_and_nothing_is_fetched(tmp_path):
    content = written(tmp_path, row(UP, prompt=ATTACK))
    page = Page(content)
    assert not {"script", "iframe", "link", "form"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    (player,) = [attributes for tag, attributes in page.elements if tag == "audio"]
    assert "controls" in player
    assert "autoplay" not in player
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and "default-src" in a.get("content", "")]
    assert "media-src data:" in policy
    assert "script" not in policy


def test_without_pyav_a_page_holds_plain_wav(monkeypatch, tmp_path):
    monkeypatch.setattr(players_module, "find_spec", lambda name: None)
    content = written(tmp_path, row(walk(0, bars=16)))
    (source,) = [attributes["src"] for tag, attributes in Page(content).elements if tag == "audio"]
    assert source.startswith("data:audio/wav;base64,")
    with wave.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 11025)
        assert file.getnframes() == 10 * 11025
        loud = np.frombuffer(file.readframes(11025), dtype="<i2")
    assert np.abs(loud).max() > 1000


def test_a_run_on_tunes_is_judged_and_reported_as_any_other(tmp_path):
    judges = {"tune-rules": (load("tune-rules"), "held out")}
    judging = Judging(recipe=find("mapo"), seen=(), held_out=PROMPTS, judges=judges, cache=tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.7}\n')
    watch = SimpleNamespace(lap=lambda name: None, timing=lambda speed: None)
    outcome = SimpleNamespace(pairs_per_second=None)
    policy = sheet(100, bars=8, finished=False)
    path = judging.report([sheet(0)], [policy], None, watch, outcome, tmp_path, lambda line: None)
    words = text(Page(path.read_text(encoding="utf-8")))
    for part in (
        "To listen to",
        "at equal loudness",
        "Form of the tunes",
        "Notes a tune",
        "Entropy of the policy, nats a token",
        "Melodic distance",
        "Length drift severe",
        "Ends missing severe",
        "4 captions",
    ):
        assert part in words, part
    assert path.stat().st_size < 6e6


# Sounds.


def tone(hertz: float, *, gain: float = 0.1, seconds: float = 1.0, rate: int = 16_000) -> Sound:
    at = np.arange(round(seconds * rate)) / rate
    return Sound(samples=(gain * np.sin(2 * np.pi * hertz * at)).astype(np.float32)[None], rate=rate)


def test_measures_of_a_sound_by_hand():
    assert level(tone(500, gain=0.1)) == pytest.approx(20 * np.log10(0.1 / 2**0.5), abs=1e-3)
    assert centroid(tone(500)) == pytest.approx(500, abs=1)
    silence = Sound(samples=np.zeros((1, 8000), dtype=np.float32), rate=8000)
    assert (level(silence), centroid(silence)) == (-100, 0)
    assert spectrum(tone(500)).max() == pytest.approx(0, abs=0.01)
    assert spectral_distance(tone(500), tone(500, gain=0.01)) == pytest.approx(0, abs=1e-3)  # loudness is no colour
    assert spectral_distance(tone(500), tone(3000)) > 1


def sounds(hertz, seeds: int = 2) -> Sheet:
    made = [tone(hertz + 60 * s + 10 * p) for p in range(len(PROMPTS)) for s in range(seeds)]
    return Sheet(captions="held-out", prompts=PROMPTS, seeds=seeds, samples=tuple(made), modality="sound")


def test_sounds_are_a_medium(tmp_path):
    base, policy = sounds(400), sounds(1600)
    assert MEDIA["sound"].lengths(policy, base) is None
    assert spread(base, None).space == "dB of bands"
    assert spread(base, None).value > 0
    assert moved(base, base, None).spectrum_db == 0
    assert moved(policy, base, None).spectrum_db > 1
    form = formed(policy, base)
    assert form.centroid.gain == pytest.approx(1200, abs=5)
    players = [sound_player(one.samples[0], label=name, score=0.1) for name, one in (("base", base), ("R", policy))]
    content = written(tmp_path, PlayerRow.of("a tone", 0, players), form=form)
    assert "Spectral centroid, Hz" in content
    assert content.count('class="spectrogram"') == 2
    first, second = played(Page(content))
    assert heard(first) == pytest.approx(heard(second), abs=0.5)


class Eye:
    """Level and centroid, as features."""

    @staticmethod
    def features(samples):
        return np.array([[1.0, level(one) / 100, centroid(one) / 1000] for one in samples])


def test_where_a_judge_has_features_they_count():
    base, policy = sounds(400), sounds(1600)
    assert spread(base, Eye()).space == "features"
    assert moved(policy, base, Eye()).feature_cosine > 0.01
    assert moved(base, base, Eye()).feature_cosine == pytest.approx(0, abs=1e-12)


def test_a_folder_of_sounds_comes_back_bit_for_bit(tmp_path):
    kept = [SoundSample(prompt="a tone", seed=k, sound=tone(400 + k)) for k in range(2)]
    save_samples(tmp_path, kept)
    back = load_samples(tmp_path)
    assert [(one.prompt, one.seed, one.sound.rate) for one in back] == [("a tone", k, 16_000) for k in range(2)]
    assert all(np.array_equal(a.sound.samples, b.sound.samples) for a, b in zip(back, kept, strict=True))
