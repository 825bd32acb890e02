"""Every public layout is found without options and read as what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from feedback_fixtures import (
    MAKERS,
    flat_row,
    hpdv3,
    imagereward_flat,
    images_beside,
    jpg,
    penchant_groups,
    pick_a_pic,
    pick_row,
    trl_conversational,
    write_json,
    write_parquet,
)

from penchant.errors import FeedbackError
from penchant.feedback import doctor, pairs, read, scores, select, stream
from penchant.feedback.readers import LAYOUTS


@pytest.mark.parametrize("name", MAKERS)
def test_the_layout_is_found_and_every_row_kept(name: str, tmp_path: Path) -> None:
    feedback = read(MAKERS[name](tmp_path))
    assert feedback.report.layout == name
    assert feedback.report.kept == feedback.report.rows > 0
    assert all(group.provenance["layout"] == name for group in feedback)


def test_every_layout_of_the_table_has_a_fixture() -> None:
    assert {layout.name for layout in LAYOUTS} == set(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
def test_no_other_layout_of_the_table_claims_the_columns(name: str, tmp_path: Path) -> None:
    from penchant.feedback.files import columns_of

    columns = columns_of(MAKERS[name](tmp_path))
    claims = [layout.name for layout in LAYOUTS if layout.matches(columns)]
    # Of two layouts the one with more columns stands first in the table; HH-RLHF is known by its first record.
    also = {
        "pick-a-pic": ["pick-style"],
        "ultrafeedback-binarized": ["trl-preference"],
        "hh-rlhf": ["trl-implicit-prompt"],
        "videogen-rewardbench": ["videoalign"],
    }
    if name == "trl-implicit-prompt":
        assert claims == ["hh-rlhf", name]
    else:
        assert claims == [name, *also.get(name, [])]


def test_pick_a_pic_says_who_won_who_made_it_and_keeps_ties(tmp_path: Path) -> None:
    feedback = read(pick_a_pic(tmp_path))
    assert [scores(group) for group in feedback] == [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]
    first = feedback[0]
    assert first.prompt == "a cat number 0"
    assert first.split == "train"
    assert [c.model for c in first.candidates] == ["sdxl", "sd-2.1"]
    assert first.candidates[0].media.bytes() == jpg(1000)
    assert first.candidates[0].media.mime == "image/jpeg"
    assert first.judgements[0].annotator not in (None, "7")
    assert len(select(feedback)) == 2


def test_one_file_of_groups_gives_them_back_as_they_were(tmp_path: Path) -> None:
    pictures, texts = read(penchant_groups(tmp_path))
    assert [c.media.bytes() for c in pictures.candidates] == [jpg(k) for k in range(3)]
    assert [(c.model, c.seed, dict(c.settings)) for c in pictures.candidates] == [
        (f"m{k}", k, {"s": k}) for k in range(3)
    ]
    reward, votes = pictures.judgements
    assert (reward.values, reward.source) == ((1.0, None, 3.0), "reward:a@1")
    assert votes.extra["votes"] == [[1, 1, None], [-1, 0, 1]]
    assert scores(pictures) == (0.25, 0.5, 0.75)
    assert [c.text for c in texts.candidates] == ["hi", "no"]
    assert pictures.licence == "CC0"


def test_a_file_of_groups_with_other_bytes_is_refused_by_row(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = penchant_groups(tmp_path)
    rows = pq.read_table(path).to_pylist()
    rows[0]["candidates"][1]["data"] = jpg(9)
    rows[1]["judgements"] = [{"kind": "score"}]
    feedback = read(write_parquet(tmp_path / "other.parquet", rows))
    assert (feedback.report.kept, feedback.report.bad) == (0, 2)
    assert {"media do not have their sha256.", "the row was not written by penchant."} <= set(feedback.report.refused)


def test_integer_labels_read_like_floats(tmp_path: Path) -> None:
    (group,) = read(MAKERS["pick-style"](tmp_path))
    assert scores(group) == (0.0, 1.0)


def test_the_preferred_side_wins_in_every_paired_layout(tmp_path: Path) -> None:
    (one,) = read(MAKERS["hpdv2-train"](tmp_path / "hpd"))
    assert scores(one) == (0.0, 1.0)
    (two,) = pairs(read(MAKERS["imagereward-pair"](tmp_path / "ir")))
    assert two.chosen.media.bytes() == jpg(1)
    (three,) = pairs(read(MAKERS["trl-preference"](tmp_path / "trl")))
    assert (three.chosen.text, three.rejected.text) == ("4", "5")


def test_one_favourite_of_several_beats_all_and_the_others_tie(tmp_path: Path) -> None:
    images_beside(tmp_path, ["0.jpg", "1.jpg", "2.jpg"])
    row = {"human_preference": [0, 1, 0], "prompt": "p", "file_path": ["0.jpg", "1.jpg", "2.jpg"]}
    (group,) = read(write_json(tmp_path / "x.json", [row]))
    assert scores(group) == (0.25, 1.0, 0.25)


def test_hpdv2_test_makes_one_judgement_an_annotator(tmp_path: Path) -> None:
    (group,) = read(MAKERS["hpdv2-test"](tmp_path))
    assert [j.values for j in group.judgements] == [(1.0, 0.5, 0.0), (0.5, 1.0, 0.0)]
    assert scores(group) == (0.75, 0.75, 0.0)
    assert len({j.annotator for j in group.judgements}) == 2


def test_hpdv3_position_carries_nothing(tmp_path: Path) -> None:
    path = hpdv3(tmp_path, count=60)
    feedback = read(path)
    assert all(pair.chosen.model == "win" for pair in pairs(feedback))
    first_wins = sum(group.candidates[0].model == "win" for group in feedback)
    assert 15 < first_wins < 45
    assert read(path).groups == feedback.groups
    assert doctor(feedback)["position bias"].severity == "info"
    assert feedback.report.repaired["winner always listed first: order drawn"].count == 60


@pytest.mark.parametrize("name", ["imagereward-flat", "imagereward-metadata", "imagereward-group", "imagereward-test"])
def test_rank_one_is_best_and_equal_ranks_tie(name: str, tmp_path: Path) -> None:
    (group,) = read(MAKERS[name](tmp_path))
    assert scores(group) == (0.25, 1.0, 0.25)


def test_ratings_are_dimensions_of_their_own(tmp_path: Path) -> None:
    (group,) = read(imagereward_flat(tmp_path))
    assert scores(group, "overall_rating") == (7, 6, 5)
    assert scores(group, "fidelity") == (5, 4, 3)


def test_flat_rows_of_a_prompt_need_not_stand_together(tmp_path: Path) -> None:
    rows = [flat_row(p, k, k + 1, image={"bytes": jpg(10 * k + ord(p)), "path": ""}) for k in range(3) for p in "pq"]
    feedback = read(write_parquet(tmp_path / "x.parquet", rows))
    assert [(g.prompt, len(g.candidates), scores(g)[0]) for g in feedback] == [
        ("prompt p", 3, 1.0),
        ("prompt q", 3, 1.0),
    ]
    assert feedback.report.kept == 6


def test_conversations_keep_their_messages(tmp_path: Path) -> None:
    (group,) = read(trl_conversational(tmp_path))
    assert group.prompt == "2 + 2?"
    assert group.extra["messages"] == [{"role": "user", "content": "2 + 2?"}]
    assert pairs([group])[0].chosen.text == "4"


def test_a_conversation_that_repeats_its_prompt_is_cut(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "hi"}]
    chosen, rejected = ([*asked, {"role": "assistant", "content": text}] for text in ("yes", "no"))
    rows = [{"prompt": "hi", "chosen": chosen, "rejected": rejected}]
    (group,) = read(write_json(tmp_path / "x.json", rows))
    assert {c.text for c in group.candidates} == {"yes", "no"}
    (group,) = read(write_json(tmp_path / "y.json", [{"chosen": chosen, "rejected": rejected}]))
    assert (group.prompt, {c.text for c in group.candidates}) == ("hi", {"yes", "no"})


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("The sky is blue.", "The sky is black.", "The sky is"),
        ("one two", "one", None),
        ("one two", "three", None),
    ],
)
def test_the_implicit_prompt_ends_at_a_word(chosen: str, rejected: str, prompt: str | None, tmp_path: Path) -> None:
    feedback = read(write_json(tmp_path / "x.jsonl", [{"chosen": chosen, "rejected": rejected}]))
    if prompt is None:
        assert feedback.report.bad == 1
    else:
        assert feedback[0].prompt == prompt
        assert {prompt + c.text for c in feedback[0].candidates} == {chosen, rejected}


def test_unpaired_rows_are_groups_of_one(tmp_path: Path) -> None:
    feedback = read(MAKERS["trl-unpaired"](tmp_path))
    assert [(len(g.candidates), g.judgements[0].kind, g.judgements[0].values) for g in feedback] == [
        (1, "binary", (1.0,)),
        (1, "binary", (0.0,)),
    ]


def test_a_folder_of_parquet_is_read_whole_and_splits_by_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [pick_row(0), pick_row(1)])
    write_parquet(tmp_path / "data" / "test_unique-00000-of-00001.parquet", [pick_row(2, caption="")])
    feedback = read(tmp_path)
    assert [g.split for g in feedback] == ["train", "train"]
    assert feedback.report.refused["the caption is empty."].examples == ("data/test_unique-00000-of-00001.parquet:0",)


def test_a_folder_of_json_may_hold_two_layouts(tmp_path: Path) -> None:
    MAKERS["hpdv2-train"](tmp_path)
    MAKERS["hpdv2-test"](tmp_path)
    feedback = read(tmp_path)
    assert feedback.report.layout == "hpdv2-test, hpdv2-train"
    assert {g.split for g in feedback} == {"train", "test"}


def test_limit_counts_rows_and_a_stream_can_be_read_again(tmp_path: Path) -> None:
    path = pick_a_pic(tmp_path)
    assert read(path, limit=2).report.rows == 2
    groups = stream(path)
    assert list(groups) == list(groups)
    assert groups.report.rows == 3


def test_one_huge_row_group_is_read_in_batches(tmp_path: Path) -> None:
    rows = [pick_row(k, jpg_0=jpg(k % 7), jpg_1=jpg(10 + k % 7)) for k in range(70)]
    path = write_parquet(tmp_path / "x.parquet", rows, row_group_size=1000)
    assert read(path, verify_media=False).report.kept == 70


def test_an_unknown_layout_names_its_columns_and_the_nearest(tmp_path: Path) -> None:
    rows = [{"caption": "a", "jpg_0": b"x", "jpg_1": b"y", "label_0": 1.0}]
    with pytest.raises(FeedbackError, match=r"caption, jpg_0, jpg_1, label_0.*'pick-style'.*label_1"):
        read(write_parquet(tmp_path / "x.parquet", rows))


def test_a_named_layout_must_fit(tmp_path: Path) -> None:
    path = pick_a_pic(tmp_path)
    assert read(path, layout="pick-style").report.layout == "pick-style"
    with pytest.raises(FeedbackError, match="did you mean 'pick-style'"):
        read(path, layout="pick-stile")
    with pytest.raises(FeedbackError, match="needs path1, path2"):
        read(path, layout="hpdv3")


def test_the_report_is_json_and_text(tmp_path: Path) -> None:
    report = read(write_parquet(tmp_path / "x.parquet", [pick_row(0), pick_row(1, caption=" ")])).report
    told = json.loads(report.to_json())
    assert (told["rows"], told["kept"], told["refused"]["the caption is empty."]["count"]) == (2, 1, 1)
    assert "refused 1 x the caption is empty. (field 'caption', row 1)" in report.summary()
