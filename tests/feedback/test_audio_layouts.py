"""Tables of sounds are read as what they say; every row is kept or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_layouts import alpaca_row, battle, cell, crpo_row, flac, music_arena, write_rows

from audio_fixtures import melody, noise, written
from penchant.errors import FeedbackError
from penchant.feedback import (
    Candidate,
    Group,
    Judgement,
    Media,
    Sound,
    binary,
    decode_sound,
    encode_sound,
    export_audio_alpaca,
    export_groups,
    export_parquet,
    open_store,
    pairs,
    read,
    scores,
    sound_of,
    verify,
    write,
)
from penchant.feedback.shown import sample_of


def test_a_battle_knows_systems_times_and_who_voted(tmp_path):
    first, second = read(music_arena(tmp_path))
    assert first.prompt == "a slow tune, number 0"
    assert [c.model for c in first.candidates] == ["system-a", "system-b"]
    (vote,) = first.judgements
    assert (vote.kind, vote.values, vote.source) == ("pair", (1.0, 0.0), "human")
    assert vote.annotator not in (None, "user-7")
    assert vote.extra["listened"] == {first.candidates[0].id: 4.5, first.candidates[1].id: 5.5}
    assert second.judgements[0].values == (0.5, 0.5)
    assert first.extra["battle_uuid"] == "battle-0"
    assert first.candidates[1].settings["duration"] == 1.0
    assert first.split == "train"
    assert sound_of(first.candidates[0]).rate == 16_000


def test_listening_times_stay_with_their_side_in_any_order(tmp_path):
    (group, _) = read(music_arena(tmp_path))
    turned = group.only((1, 0))
    times = turned.judgements[0].extra["listened"]
    assert [times[c.id] for c in turned.candidates] == [5.5, 4.5]


def test_both_bad_is_a_tie_for_pairs_and_two_bad_samples_for_labels(tmp_path):
    path = write_rows(
        tmp_path / "x.parquet", [battle(0, preference="BOTH_BAD"), battle(1), battle(2, preference="TIE")]
    )
    feedback = read(path)
    bad, won, tied = feedback
    assert [j.kind for j in bad.judgements] == ["pair", "binary"]
    assert [j.kind for j in tied.judgements] == ["pair"]
    assert scores(bad)[0] == scores(bad)[1]
    assert [pair.group_id for pair in pairs(feedback)] == [won.id]
    labels = [(row.group_id, row.desirable) for row in binary(feedback)]
    assert sorted(labels) == sorted([(bad.id, False)] * 2 + [(won.id, True), (won.id, False)])
    assert bad.judgements[0].extra["vote"] == "BOTH_BAD"


def unheard(folder: Path) -> Path:
    rows = [battle(0), battle(1, total_listening_time_b=0.0), battle(2, total_listening_time_a=None), battle(3)]
    return write_rows(folder / "arena.parquet", rows)


def test_votes_on_what_was_not_heard_are_refused_and_counted(tmp_path):
    report = read(unheard(tmp_path)).report
    assert (report.rows, report.kept, report.bad) == (4, 2, 2)
    assert report.refused["a side was not heard."].examples == ("1",)
    assert report.refused["a side was not heard."].field == "total_listening_time_b"
    unknown = report.refused["it is not known whether a side was heard."]
    assert (unknown.examples, unknown.field) == (("2",), "total_listening_time_a")
    assert "music-arena-all" in unknown.remedy


def test_whoever_insists_gets_every_vote(tmp_path):
    feedback = read(unheard(tmp_path), layout="music-arena-all")
    assert feedback.report.kept == feedback.report.rows == 4
    assert set(feedback[2].judgements[0].extra["listened"].values()) == {9.5}


def test_winners_of_clap_are_no_persons_votes_and_stand_in_a_drawn_order(tmp_path):
    rows = [alpaca_row(k) for k in range(12)]
    feedback = read(write_rows(tmp_path / "a.parquet", rows))
    assert {j.source for g in feedback for j in g.judgements} == {"reward:clap"}
    assert {scores(g) for g in feedback} == {(1.0, 0.0), (0.0, 1.0)}
    won = [pair.chosen.media.bytes() for pair in pairs(feedback)]
    assert won == [row["chosen"]["bytes"] for row in rows]
    assert feedback[0].extra == {"strategy": "perturbed prompt"}
    assert feedback.report.repaired["winner always listed first: order drawn"].count == 12


def test_the_losers_of_crpo_are_called_reject(tmp_path):
    rows = [crpo_row(k) for k in range(3)]
    feedback = read(write_rows(tmp_path / "a.parquet", rows))
    lost = [pair.rejected.media.bytes() for pair in pairs(feedback)]
    assert lost == [row["reject"]["bytes"] for row in rows]
    assert [g.extra["iteration"] for g in feedback] == [0, 1, 2]
    assert {c.settings["duration"] for g in feedback for c in g.candidates} == {1.0}


def test_cells_may_be_bytes_or_paths(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "1.flac").write_bytes(flac(1))
    plain = write_rows(tmp_path / "plain" / "x.parquet", [alpaca_row(chosen=flac(0), rejected=flac(1))])
    named = write_rows(tmp_path / "x.parquet", [alpaca_row(rejected=cell(None, "audio/1.flac"))])
    assert read(plain)[0].id == read(named)[0].id


def silence() -> bytes:
    return encode_sound(Sound(samples=np.zeros((1, 16_000), np.float32), rate=16_000))


def half() -> bytes:
    data = written(melody(seconds=4), "mp3", "libmp3lame", "fltp")
    return data[: len(data) // 2]


def broken() -> bytes:
    whole = encode_sound(noise(), "wav")
    place = whole.index(b"data") + 8 + 400
    return whole[:place] + np.float32(np.nan).tobytes() + whole[place + 4 :]


BAD: dict[str, tuple[dict, str, str]] = {
    "another word": ({"preference": "C"}, "the preference is none of A, B, TIE, BOTH_BAD.", "preference"),
    "small letters": ({"preference": "tie"}, "the preference is none of A, B, TIE, BOTH_BAD.", "preference"),
    "no vote": ({"preference": None}, "the row has no label.", "preference"),
    "no prompt": ({"prompt": None}, "the caption is missing.", "prompt"),
    "a blank prompt": ({"prompt": " "}, "the caption is empty.", "prompt"),
    "audio of a system that is not public": ({"audio_b": None}, "the sound is missing.", "audio_b"),
    "an empty cell": ({"audio_b": cell(None, None)}, "the sound is missing.", "audio_b"),
    "an empty file": ({"audio_a": cell(b"")}, "the sound is empty (0 bytes).", "audio_a"),
    "a missing file": ({"audio_a": cell(None, "gone.mp3")}, "the sound file does not exist.", "audio_a"),
    "a way out": ({"audio_a": cell(None, "../x.mp3")}, "a path leaves the folder of the data.", "audio_a"),
    "a web page": ({"audio_a": cell(b"<html>404</html>")}, "the sound is a text or web page.", "audio_a"),
    "another file": (
        {"audio_a": cell(b"PK\x03\x04" + bytes(99))},
        "the file is not a sound of a supported format.",
        "audio_a",
    ),
    "silence": ({"audio_b": cell(silence())}, "the sound is silent.", "audio_b"),
    "half a file": ({"audio_b": cell(half())}, "the sound is truncated.", "audio_b"),
    "NaN": ({"audio_b": cell(broken())}, "the sound has NaN or infinite samples.", "audio_b"),
    "a click": ({"audio_b": cell(encode_sound(melody(seconds=0.25)))}, "the sound is too short.", "audio_b"),
    "not heard": ({"total_listening_time_a": 0.0}, "a side was not heard.", "total_listening_time_a"),
    "heard for less than nothing": (
        {"total_listening_time_a": -1.0},
        "a listening time is negative.",
        "total_listening_time_a",
    ),
    "heard for no number": (
        {"total_listening_time_b": float("nan")},
        "a listening time is NaN or infinite.",
        "total_listening_time_b",
    ),
    "a rate below zero": ({"sample_rate_a": -1}, "a duration, time or rate is negative.", "sample_rate_a"),
    "an unknown source": ({"source": "somebody"}, "the source is unknown.", "source"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_battle_is_refused_by_row_and_field(name, tmp_path):
    changes, problem, field = BAD[name]
    good = battle(0, source=None)
    rows = [good, battle(1, source=None) | changes, battle(2, source="simulated:panel")]
    report = read(write_rows(tmp_path / "bad.parquet", rows)).report
    assert (report.rows, report.kept, report.bad) == (3, 2, 1)
    refused = report.refused[problem]
    assert (refused.examples, refused.field) == (("1",), field)
    assert refused.remedy
    assert "bad.parquet, row 1" in refused.message


@pytest.mark.parametrize(("make", "side"), [(alpaca_row, "rejected"), (crpo_row, "reject")])
def test_bad_pairs_are_refused_by_row_and_field(make, side, tmp_path):
    rows = [make(0), make(1, **{side: cell(half())}), make(2, **{side: None}), make(3), make(4, chosen=cell(b"{}"))]
    rows.append(make(5, **{side: make(5)["chosen"]}))
    report = read(write_rows(tmp_path / "bad.parquet", rows)).report
    assert (report.rows, report.kept, report.bad) == (6, 2, 4)
    assert {problem: (r.field, r.examples) for problem, r in report.refused.items()} == {
        "the sound is truncated.": (side, ("1",)),
        "the sound is missing.": (side, ("2",)),
        "the sound is a text or web page.": ("chosen", ("4",)),
        "same sound on both sides.": (side, ("5",)),
    }


def test_repairs_of_sounds_are_told_by_row(tmp_path):
    loud = written(melody(level=1.4).samples, "wav", "pcm_f32le", "flt")
    report = read(write_rows(tmp_path / "x.parquet", [battle(0), battle(1, audio_a=cell(loud))])).report
    assert report.kept == 2
    assert report.repaired["samples beyond full scale clipped"].examples == ("1",)


def test_without_verifying_only_the_bytes_are_looked_at(tmp_path):
    path = write_rows(tmp_path / "x.parquet", [battle(0, audio_a=cell(half()))])
    assert read(path, verify_media=False).report.kept == 1


def made(k: int, *values: tuple[float, float], second: bytes | None = None) -> Group:
    data = (encode_sound(melody(2 * k)), second or encode_sound(melody(2 * k + 1), "flac"))
    sides = tuple(Candidate(media=Media.of(d), model=f"m{i}") for i, d in enumerate(data))
    judgements = tuple(Judgement(kind="pair", values=value, source="simulated:panel") for value in values)
    return Group(prompt=f"tune {k}", candidates=sides, judgements=judgements)


def facts(group: Group) -> tuple:
    candidates = sorted((c.id, c.model, c.media.mime, c.media.bytes()) for c in group.candidates)
    return group.id, group.prompt, candidates, dict(zip((c.id for c in group.candidates), scores(group), strict=True))


def test_sounds_pass_through_store_and_single_file(tmp_path):
    # What a model drew is feedback be it silent.
    groups = [made(0, (1, 0)), made(1, (0.5, 0.5)), made(2, (0, 1), second=silence())]
    write(groups, tmp_path / "store")
    assert [facts(g) for g in open_store(tmp_path / "store")] == [facts(g) for g in groups]
    assert verify(tmp_path / "store").ok
    export_groups(groups, tmp_path / "one.parquet")
    kept = read(tmp_path / "one.parquet")
    assert [facts(g) for g in kept] == [facts(g) for g in groups]
    assert kept.report.repaired == {}
    assert {c.media.mime for g in kept for c in g.candidates} == {"audio/wav", "audio/flac"}


def test_votes_with_their_listening_times_pass_through_the_store(tmp_path):
    feedback = read(music_arena(tmp_path / "in"))
    write(feedback, tmp_path / "store")
    assert [g.judgements for g in open_store(tmp_path / "store")] == [g.judgements for g in feedback]


def test_a_damaged_sound_in_a_single_file_is_refused(tmp_path):
    export_groups([made(0, (1, 0)), made(1, (1, 0), second=half())], tmp_path / "one.parquet")
    report = read(tmp_path / "one.parquet").report
    assert (report.kept, report.bad) == (1, 1)
    assert "the sound is truncated." in report.refused


def test_what_is_exported_is_read_back(tmp_path):
    groups = [made(0, (1, 0)), made(1, (0, 1)), made(2, (0, 1), (0, 1), (1, 0))]
    assert export_audio_alpaca(groups, tmp_path / "train.parquet") == 3
    feedback = read(tmp_path / "train.parquet")
    assert feedback.report.layout == "audio-alpaca"
    assert [facts(g)[:3] for g in feedback] == [facts(g)[:3] for g in groups]
    assert [p.chosen.id for p in pairs(feedback)] == [p.chosen.id for p in pairs(groups)]
    assert {j.source for g in feedback for j in g.judgements} == {"simulated:panel"}


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        (made(0), "is not judged"),
        (made(0, (0.5, 0.5)), "is a tie"),
        (made(0, (1, 0)).only([0]), "is not a pair of sounds"),
        (
            Group(prompt="p", candidates=(Candidate(text="a"), Candidate(text="b"))),
            "is not a pair of sounds",
        ),
    ],
)
def test_what_the_layout_cannot_say_is_refused(group, problem, tmp_path):
    with pytest.raises(FeedbackError, match=problem):
        export_audio_alpaca([group], tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()


def test_a_sound_is_no_image_of_a_pick_a_pic_file(tmp_path):
    with pytest.raises(FeedbackError, match="export_audio_alpaca"):
        export_parquet([made(0, (1, 0))], tmp_path / "pick.parquet")


def test_a_candidate_is_what_its_bytes_are():
    data = flac(0)
    sound = sample_of(Candidate(media=Media.of(data)))
    assert isinstance(sound, Sound)
    assert np.array_equal(sound.samples, decode_sound(data)[0].samples)
