"""Tables of clips are read as what they say; every row is kept or refused by name."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from clip_layouts import (
    HEADER,
    clips_beside,
    pair_row,
    rated_row,
    rewardbench,
    videoalign,
    videofeedback,
    write_csv,
)

from clip_fixtures import animated, encoded, pan, sound
from penchant.errors import FeedbackError
from penchant.feedback import (
    Candidate,
    Clip,
    Group,
    Judgement,
    Media,
    clip_of,
    encode_clip,
    export_groups,
    export_parquet,
    export_videoalign,
    open_store,
    pairs,
    read,
    scores,
    select,
    write,
)
from penchant.feedback.shown import sample_of


def labels(group: Group) -> dict[str, tuple[float | None, ...]]:
    return {j.dimension: j.values for j in group.judgements}


def test_one_label_a_dimension_and_none_where_nobody_judged(tmp_path):
    first, second = read(videoalign(tmp_path))
    assert labels(first) == {"VQ": (1.0, 0.0), "MQ": (0.0, 1.0), "TA": (0.5, 0.5)}
    assert labels(second) == {"VQ": (0.5, 0.5), "TA": (0.5, 0.5)}
    assert first.prompt == 'a "round" face, smiling'
    assert second.prompt == "a heart\nthat beats"
    assert first.split == "train"
    assert {j.source for j in first.judgements} == {"human"}


def test_rates_and_lengths_of_the_table_stay_with_the_clips(tmp_path):
    (first, _) = read(videoalign(tmp_path))
    assert [dict(c.settings) for c in first.candidates] == [{"fps": 12.0, "num_frames": 12.0}] * 2
    assert [len(clip_of(c)) for c in first.candidates] == [12, 12]
    assert [c.media.mime for c in first.candidates] == ["video/mp4"] * 2


def test_the_same_file_by_two_spellings_is_the_same_clip(tmp_path):
    clips_beside(tmp_path, 2)
    rows = [pair_row("./videos/0.mp4", "videos/1.mp4"), pair_row("videos/0.mp4", "./videos/1.mp4")]
    one, two = read(write_csv(tmp_path / "x.csv", rows))
    assert one.id == two.id
    assert [c.id for c in one.candidates] == [c.id for c in two.candidates]


def test_paths_are_relative_to_the_table(tmp_path, monkeypatch):
    clips_beside(tmp_path / "data", 2)
    write_csv(tmp_path / "data" / "x.csv", [pair_row()])
    monkeypatch.chdir(tmp_path)
    assert read("data/x.csv").report.kept == 1
    assert read("data").report.kept == 1


def test_the_benchmark_knows_models_and_the_whole(tmp_path):
    feedback = read(rewardbench(tmp_path))
    (group,) = feedback
    assert feedback.report.layout == "videogen-rewardbench"
    assert [c.model for c in group.candidates] == ["kling", "luma"]
    assert labels(group)["overall"] == (0.0, 1.0)
    (pair,) = pairs(feedback)
    assert pair.chosen.model == "luma"
    assert select(feedback, dimension="VQ")[0].scores == (1.0, 0.0)


def test_a_table_without_models_and_whole_is_the_training_layout(tmp_path):
    assert read(videoalign(tmp_path)).report.layout == "videoalign"
    with pytest.raises(FeedbackError, match="A_model"):
        read(videoalign(tmp_path), layout="videogen-rewardbench")


def test_absolute_scores_make_one_group_a_prompt(tmp_path):
    feedback = read(videofeedback(tmp_path))
    groups = {group.prompt: group for group in feedback}
    assert feedback.report.kept == feedback.report.rows == 3
    assert {prompt: len(group.candidates) for prompt, group in groups.items()} == {"a face": 2, "a heart": 1}
    assert scores(groups["a face"], "factual consistency") == (0.0, 2.0)
    assert scores(groups["a face"], "visual quality") == (3.0, 3.0)
    assert {j.kind for j in groups["a face"].judgements} == {"score"}
    assert len(groups["a heart"].judgements) == 5


def test_a_rated_clip_may_lie_beside_its_table(tmp_path):
    (tmp_path / "here.mp4").write_bytes(encoded(pan(side=64)))
    row = rated_row(0, "a face") | {"video link": "https://example.org/a/here.mp4?download=true"}
    from feedback_fixtures import write_json

    (group,) = read(write_json(tmp_path / "test.json", [row]))
    assert group.candidates[0].settings["link"].startswith("https://")


BAD: dict[str, tuple[dict, str, str]] = {
    "another word": ({"MQ": "C"}, "the label is none of A, B, same.", "MQ"),
    "small letters": ({"VQ": "a"}, "the label is none of A, B, same.", "VQ"),
    "a masked label": ({"TA": "22"}, "the label is none of A, B, same.", "TA"),
    "no label at all": ({"VQ": "", "MQ": "", "TA": ""}, "the row has no label.", "VQ"),
    "no prompt": ({"prompt": ""}, "the caption is missing.", "prompt"),
    "blank prompt": ({"prompt": "  "}, "the caption is empty.", "prompt"),
    "no path": ({"path_A": ""}, "the clip is missing.", "path_A"),
    "a missing file": ({"path_B": "videos/gone.mp4"}, "the clip file does not exist.", "path_B"),
    "a way out": ({"path_A": "../../secret.mp4"}, "a path leaves the folder of the data.", "path_A"),
    "an absolute path": ({"path_A": "/etc/passwd"}, "a path leaves the folder of the data.", "path_A"),
    "the same clip": ({"path_B": "videos/0.mp4"}, "same clip on both sides.", "path_B"),
    "a rate of zero": ({"fps_A": 0}, "a rate or number of frames is not positive.", "fps_A"),
    "a rate in words": ({"fps_B": "fast"}, "a rate or number of frames is not positive.", "fps_B"),
    "half a file": ({"path_A": "videos/half.mp4"}, "the clip is truncated.", "path_A"),
    "a web page": ({"path_A": "videos/page.mp4"}, "the clip is a text or web page.", "path_A"),
    "one frame": ({"path_B": "videos/one.webp"}, "the clip has a single frame.", "path_B"),
    "sound": ({"path_B": "videos/sound.mp4"}, "the file holds sound and no picture.", "path_B"),
    "no rate": ({"path_B": "videos/uneven.mp4", "fps_B": ""}, "the clip has a variable frame rate.", "path_B"),
    "an unknown source": ({"source": "somebody"}, "the source is unknown.", "source"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    clips_beside(folder, 2)
    videos, whole = folder / "videos", encoded(pan(side=64, frames=24))
    (videos / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "page.mp4").write_bytes(b"<html>not found</html>")
    (videos / "one.webp").write_bytes(animated(Clip(frames=pan().frames[:1], fps=6.0)))
    (videos / "sound.mp4").write_bytes(sound())
    times = [0.0, 0.1, 0.2, 0.5, 0.55, 0.6, 1.0, 1.1, 1.2]
    (videos / "uneven.mp4").write_bytes(encoded(pan(side=64, fps=10), times=times))
    return folder


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_refused_by_row_and_field(name, folder):
    changes, problem, field = BAD[name]
    columns = [*HEADER, "source"]
    rows = [pair_row(source=""), pair_row(source="") | changes, pair_row(source="simulated:panel")]
    report = read(write_csv(folder / "bad.csv", rows, columns)).report
    assert (report.rows, report.kept, report.bad) == (3, 2, 1)
    refused = report.refused[problem]
    assert (refused.examples, refused.field) == (("1",), field)
    assert refused.remedy


def test_a_clip_of_variable_rate_is_kept_at_the_rate_of_its_row(folder):
    feedback = read(write_csv(folder / "uneven.csv", [pair_row(b="videos/uneven.mp4", fps_B=10)]))
    assert feedback.report.repaired["variable frame rate brought to the rate of the row"].examples == ("0",)
    assert clip_of(feedback[0].candidates[1]).fps == 10
    again = read(export(feedback, folder / "again.parquet"))
    assert clip_of(again[0].candidates[1]).fps == 10


def export(groups, path: Path) -> Path:
    export_groups(groups, path)
    return path


def test_without_verifying_only_the_bytes_are_looked_at(folder):
    path = write_csv(folder / "quick.csv", [pair_row(b="videos/half.mp4")])
    assert read(path, verify_media=False).report.kept == 1


def test_lines_that_are_no_rows_cost_only_themselves(folder):
    good = ["videos/0.mp4", "videos/1.mp4", "p", "A", "A", "A", "12", "12", "12", "12"]
    lines = [",".join(HEADER), ",".join(good), "too,few,cells", "", ",".join(good)]
    bad = ",".join(good).replace(",p,", ",\xff,").encode("latin-1")
    (folder / "odd.csv").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode() + b"\n" + bad + b"\n")
    report = read(folder / "odd.csv").report
    assert (report.kept, report.bad) == (2, 2)
    assert set(report.refused) == {"a row has another number of cells than the header.", "a text is not valid UTF-8."}


def made(k: int, **values: tuple[float, float]) -> Group:
    sides = tuple(Candidate(media=Media.of(encode_clip(pan(k, step=step))), model=f"m{step}") for step in (1, 3))
    judgements = tuple(
        Judgement(kind="pair", dimension=name, values=value, source="simulated:panel") for name, value in values.items()
    )
    return Group(prompt=f"emoji {k}, moving", candidates=sides, judgements=judgements)


def facts(group: Group) -> tuple:
    return group.id, group.prompt, [(c.id, c.model, c.media.bytes()) for c in group.candidates], group.judgements


def test_what_is_exported_is_read_back(tmp_path):
    groups = [made(0, VQ=(1, 0), MQ=(0, 1), TA=(0.5, 0.5)), made(1, VQ=(0, 1), overall=(1, 0))]
    assert export_videoalign(groups, tmp_path / "out", name="train.csv") == 2
    feedback = read(tmp_path / "out")
    assert feedback.report.bad == 0
    assert [facts(g) for g in feedback] == [facts(g) for g in groups]
    assert dict(feedback[0].candidates[0].settings) == {"fps": 6.0, "num_frames": 9.0}


def test_reading_and_exporting_is_the_identity_on_the_authors_columns(tmp_path):
    groups = read(videoalign(tmp_path / "in"))
    export_videoalign(groups, tmp_path / "out")
    with (tmp_path / "in" / "train.csv").open(newline="") as a, (tmp_path / "out" / "data.csv").open(newline="") as b:
        before, after = list(csv.DictReader(a)), list(csv.DictReader(b))
    named = [name for name in HEADER if not name.startswith("path")]
    assert [[row[n] for n in named] for row in before] == [[row[n] for n in named] for row in after]
    assert [g.id for g in read(tmp_path / "out")] == [g.id for g in groups]


def test_labels_of_several_annotators_become_their_order(tmp_path):
    group = made(0, VQ=(1, 0)).judged(
        *[Judgement(kind="pair", dimension="VQ", values=(0, 1), source="simulated:panel")] * 2
    )
    export_videoalign([group], tmp_path)
    assert labels(read(tmp_path)[0])["VQ"] == (0.0, 1.0)


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        (made(0), "is not judged"),
        (made(0, VQ=(1, 0)).only([0]), "is not a pair of clips"),
        (
            made(0, VQ=(1, 0)).judged(Judgement(kind="pair", dimension="MQ", values=(0, 1))),
            "was judged by several sources",
        ),
    ],
)
def test_what_the_layout_cannot_say_is_refused(group, problem, tmp_path):
    with pytest.raises(FeedbackError, match=problem):
        export_videoalign([group], tmp_path)
    assert not (tmp_path / "data.csv").exists()


def test_clips_pass_through_store_and_single_file(tmp_path):
    groups = [made(0, VQ=(1, 0)), made(1, MQ=(0.5, 0.5))]
    write(groups, tmp_path / "store")
    assert [facts(g) for g in open_store(tmp_path / "store")] == [facts(g) for g in groups]
    kept = read(export(groups, tmp_path / "one.parquet"))
    assert [facts(g) for g in kept] == [facts(g) for g in groups]
    assert kept.report.repaired == {}


def test_a_clip_is_no_image_of_a_pick_a_pic_file(tmp_path):
    with pytest.raises(FeedbackError, match="export_videoalign"):
        export_parquet([made(0, overall=(1, 0))], tmp_path / "pick.parquet")


def test_a_candidate_is_what_its_bytes_are():
    from feedback_fixtures import encoded as picture

    from clip_fixtures import emoji

    clip, image = Media.of(encode_clip(pan())), Media.of(picture(emoji(0), "PNG"))
    assert isinstance(sample_of(Candidate(media=clip)), Clip)
    assert sample_of(Candidate(media=image)).size == (48, 48)
    assert sample_of(Candidate(text="words")) == "words"
