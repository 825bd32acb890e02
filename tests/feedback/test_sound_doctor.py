"""The doctor listens: what is silent, clipped or the same, and what makes one side win whatever it plays."""

from __future__ import annotations

import numpy as np
import pytest
from audio_layouts import battle, crpo_row, music_arena, write_rows

from audio_fixtures import melody, noise, sweep, tone, written
from penchant.feedback import (
    Candidate,
    Group,
    Judgement,
    Media,
    Sound,
    decode_sound,
    doctor,
    encode_sound,
    equalised,
    read,
)
from penchant.feedback.sound_checks import SAME, _picture, alike


def group(first: Sound | bytes, second: Sound | bytes, values=(1, 0), *, prompt: str = "a tune") -> Group:
    data = (side if isinstance(side, bytes) else encode_sound(side) for side in (first, second))
    sides = tuple(Candidate(media=Media.of(one)) for one in data)
    return Group(prompt=prompt, candidates=sides, judgements=(Judgement(kind="pair", values=values),))


def level(sound: Sound, decibels: float) -> Sound:
    return Sound(samples=sound.samples * np.float32(10 ** (decibels / 20)), rate=sound.rate)


FINDINGS = {
    "broken sounds",
    "silent sounds",
    "clipped sounds",
    "same sound on both sides",
    "duplicate sounds",
    "loudness bias",
    "duration bias",
    "sample rates",
    "stated durations",
}


def test_sound_feedback_in_order_has_nothing_to_say_but_its_shapes(tmp_path):
    pairs = [group(*equalised([melody(2 * k), melody(2 * k + 1)]), prompt=f"p{k}") for k in range(3)]
    diagnosis = doctor(pairs)
    assert diagnosis["sounds"].message == "6 sounds decoded in 1 shapes: 2 s of mono at 16000 a second (6)."
    assert FINDINGS.isdisjoint(finding.name for finding in diagnosis.findings)
    assert diagnosis.exit_code == 0
    assert "sounds" in doctor(music_arena(tmp_path))


def test_the_louder_side_is_told_and_how_often_it_wins():
    first, second = equalised([melody(0), melody(1)])
    pairs = [
        group(level(first, -3), second, (0, 1), prompt="a"),
        group(first, level(second, -6), (1, 0), prompt="b"),
        group(first, level(second, -2), (0, 1), prompt="c"),
        group(first, level(second, -0.9), (1, 0), prompt="d"),  # within one LU
        group(first, level(second, -5), (0.5, 0.5), prompt="e"),
    ]
    finding = doctor(pairs)["loudness bias"]
    assert (finding.count, finding.details["wins"], finding.details["decided"]) == (4, 2, 3)
    assert finding.details["groups"] == [pairs[k].id for k in (0, 1, 2, 4)]
    assert finding.details["largest"] == pytest.approx(6, abs=0.05)
    assert "4.0 LU" in finding.message
    assert "equalised" in finding.remedy


def test_a_mono_side_beside_the_same_level_in_stereo_is_no_quieter():
    one, other = equalised([melody(0), melody(1, channels=2)])
    assert "loudness bias" not in doctor([group(one, other)])


def test_the_longer_side_is_told():
    long, short = equalised([melody(0, seconds=3), melody(1, seconds=2)])
    nearly = equalised([melody(2, seconds=2), melody(3, seconds=2.25)])
    finding = doctor([group(long, short, prompt="a"), group(*nearly, prompt="b")])["duration bias"]
    assert (finding.count, finding.details["wins"], finding.details["decided"]) == (1, 1, 1)
    assert finding.details["largest"] == pytest.approx(1.5)


def test_silence_is_told_and_compared_with_nothing():
    silent = Sound(samples=np.zeros((1, 32_000), np.float32), rate=16_000)
    diagnosis = doctor([group(silent, melody())])
    assert diagnosis["silent sounds"].count == 1
    assert {"loudness bias", "broken sounds", "same sound on both sides"}.isdisjoint(f.name for f in diagnosis.findings)
    still = Sound(samples=np.full((2, 32_000), 0.2, np.float32), rate=16_000)
    assert doctor([group(silent, still)])["silent sounds"].count == 2


def test_clipping_is_runs_at_full_scale_and_not_a_peak():
    loud = melody(0, level=2.5)
    clipped = Sound(samples=loud.samples.clip(-1, 1), rate=loud.rate)
    peak = melody(1).samples.copy()
    peak /= np.abs(peak).max()
    assert doctor([group(clipped, Sound(samples=peak, rate=16_000))])["clipped sounds"].count == 1
    square = Sound(samples=np.sign(tone(seconds=2).samples) * np.float32(0.5), rate=16_000)
    assert "clipped sounds" not in doctor([group(square, melody())])


OTHERS = {
    "mp3": lambda s: encode_sound(s, "mp3"),
    "opus": lambda s: encode_sound(s, "ogg"),
    "aac": lambda s: written(s, "ipod", "aac", "fltp"),
    "16 bits": written,
    "quieter": lambda s: encode_sound(level(s, -12)),
    "stereo": lambda s: encode_sound(Sound(samples=np.repeat(s.samples, 2, axis=0), rate=s.rate)),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("sound", [melody(0), noise(0, seconds=2), sweep(seconds=2)], ids=["melody", "noise", "sweep"])
def test_one_recording_in_two_files_is_found(name, sound):
    pair = group(sound, OTHERS[name](sound))
    assert doctor([pair])["same sound on both sides"].details["groups"] == [pair.id]


def test_two_recordings_are_two():
    sounds = [*(melody(k) for k in range(6)), *(noise(k, seconds=2) for k in range(3)), sweep(seconds=2)]
    same = {(i, j) for i, a in enumerate(sounds) for j, b in enumerate(sounds) if i < j and alike(a, b)}
    assert same == set()
    assert np.abs(_picture(noise(0, seconds=2)) - _picture(noise(1, seconds=2))).mean() > 2 * SAME
    assert not alike(melody(0), melody(0, seconds=3))


def test_the_same_samples_in_two_files_are_duplicates():
    whole = decode_sound(written(melody()))[0]  # 16 bits, so that every lossless format keeps them
    files = [Media.of(encode_sound(whole)), Media.of(encode_sound(whole, "flac"))]
    assert files[0].sha256 != files[1].sha256
    pairs = [group(file.bytes(), melody(k + 2), prompt=f"p{k}") for k, file in enumerate(files)]
    diagnosis = doctor(pairs)
    assert diagnosis["duplicate sounds"].details["files"] == [sorted(one.sha256 for one in files)]
    assert "same sound on both sides" not in diagnosis
    assert "duplicate sounds" not in doctor([group(melody(0), melody(1))])


def test_rates_that_differ_inside_a_pair_are_a_warning_and_between_pairs_an_information():
    mixed = doctor([group(melody(0), melody(1, rate=24_000), prompt="a"), group(melody(2), melody(3), prompt="b")])
    assert (mixed["sample rates"].severity, mixed["sample rates"].count) == ("warning", 1)
    assert mixed["sample rates"].details["rates"] == {"16000": 3, "24000": 1}
    apart = doctor(
        [group(melody(0), melody(1), prompt="a"), group(melody(2, rate=24_000), melody(3, rate=24_000), prompt="b")]
    )
    assert (apart["sample rates"].severity, apart["sample rates"].count) == ("info", 0)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (battle(0), 0),
        (battle(0, duration_a=30.0), 1),
        (battle(0, sample_rate_b=44_100), 1),
        (battle(0, duration_a=None, sample_rate_a=None), 0),
        (crpo_row(0), 0),
        (crpo_row(0, duration=10), 2),
    ],
)
def test_a_table_that_states_another_duration_or_rate_is_told(row, found, tmp_path):
    diagnosis = doctor(write_rows(tmp_path / "x.parquet", [row]))
    assert (diagnosis["stated durations"].count if found else "stated durations" in diagnosis) == found


def test_sounds_that_do_not_decode_are_errors(tmp_path):
    data = encode_sound(melody(), "flac")
    diagnosis = doctor([group(melody(0), melody(1), prompt="a"), group(data[: len(data) // 2], melody(2), prompt="b")])
    assert diagnosis["broken sounds"].count == 1
    assert "truncated" in diagnosis["broken sounds"].message
    assert diagnosis.exit_code == 1
    assert "broken sounds" not in doctor([group(b"OggS" + bytes(40), melody())], images=0)


def test_refused_votes_stand_in_the_diagnosis(tmp_path):
    rows = [battle(0), battle(1, total_listening_time_a=0.0)]
    diagnosis = doctor(read(write_rows(tmp_path / "x.parquet", rows)))
    assert "a side was not heard." in diagnosis["refused rows"].remedy
