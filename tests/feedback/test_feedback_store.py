"""The store: exact, atomic, deduplicated, and it notices damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from feedback_fixtures import MAKERS, jpg, pick_a_pic, pick_row, write_parquet

from penchant.errors import FeedbackError, MediaError
from penchant.feedback import (
    Candidate,
    Feedback,
    Group,
    Judgement,
    Media,
    append,
    export_parquet,
    open_store,
    read,
    scores,
    stream,
    verify,
    write,
)
from penchant.feedback.objects import media_path
from penchant.feedback.store import INDEX


def made(*seeds: int, prompt: str = "p") -> Group:
    candidates = tuple(
        Candidate(media=Media.of(jpg(s)), model="m", seed=s, settings={"cfg": 7.5, "n": [1]}) for s in seeds
    )
    values = (1.0, None, *(0.0,) * (len(seeds) - 2))[: len(seeds)]
    judgements = (
        Judgement(kind="pair", values=values, annotator="ab12", weight=0.5, extra={"shown": [1, 0]}),
        Judgement(kind="score", dimension="style", values=(-2.5,) * len(seeds), source="reward:r@1"),
    )
    return Group(
        prompt=prompt,
        candidates=candidates,
        judgements=judgements,
        split="train",
        licence="MIT",
        provenance={"file": "x", "row": 3},
        extra={"note": "ünï", "deep": {"a": None}},
    )


def in_memory(group: Group) -> Group:
    """The group with its lazy media read."""
    candidates = tuple(replace(c, media=Media.of(c.media.bytes()) if c.media else None) for c in group.candidates)
    return replace(group, candidates=candidates)


def test_a_round_trip_is_exact(tmp_path: Path) -> None:
    groups = (made(1, 2, 3), made(4, 5, prompt="q"), Group(prompt="t", candidates=(Candidate(text="words"),)))
    opened = write(Feedback(groups=groups), tmp_path / "store")
    assert tuple(in_memory(group) for group in opened) == groups
    assert all(c.media is None or c.media.data is None for group in opened for c in group.candidates)
    assert read(tmp_path / "store").groups == opened.groups
    assert (opened.report.kept, opened.report.layout) == (3, "penchant-store")
    assert len(read(tmp_path / "store", limit=1)) == 1


@pytest.mark.parametrize("name", MAKERS)
def test_every_layout_survives_the_store(name: str, tmp_path: Path) -> None:
    path = MAKERS[name](tmp_path / "data")
    direct = read(path)
    stored = write(stream(path), tmp_path / "store")
    assert [in_memory(g) for g in stored] == [in_memory(g) for g in direct]
    assert verify(tmp_path / "store").ok


def test_equal_media_are_kept_once(tmp_path: Path) -> None:
    write([made(1, 2), made(1, 3, prompt="q")], tmp_path)
    assert verify(tmp_path).media == len(list((tmp_path / "media").glob("*/*"))) == 3


def test_append_adds_and_write_never_overwrites(tmp_path: Path) -> None:
    write([made(1, 2)], tmp_path / "s")
    both = append([made(3, 4, prompt="q")], tmp_path / "s")
    assert [g.prompt for g in both] == ["p", "q"]
    with pytest.raises(FeedbackError, match="already holds a store"):
        write([made(1, 2)], tmp_path / "s")
    with pytest.raises(FeedbackError, match="not empty"):
        write([made(1, 2)], tmp_path)
    with pytest.raises(FeedbackError, match="not a store"):
        append([made(1, 2)], tmp_path / "nothing")


@pytest.mark.parametrize("survived", range(4))
def test_a_writer_stopped_at_any_rename_leaves_the_old_store(
    survived: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write([made(1, 2)], tmp_path)
    rename, renamed = os.replace, []

    # An append of two new samples renames two media, one part and the index.
    def dying(source: str, target: Path) -> None:
        if len(renamed) == survived:
            raise KeyboardInterrupt
        renamed.append(target)
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            append([made(3, 4, prompt="q")], tmp_path)
    assert [g.prompt for g in open_store(tmp_path)] == ["p"]
    assert verify(tmp_path).ok
    assert not list(tmp_path.rglob(".tmp-*"))
    assert [g.prompt for g in append([made(3, 4, prompt="q")], tmp_path)] == ["p", "q"]
    assert verify(tmp_path).unreferenced == 0


_KILLED = """
import os, signal, sys
from penchant.feedback import append, read
rename, renamed = os.replace, []
def dying(source, target):
    if len(renamed) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    renamed.append(target)
    rename(source, target)
os.replace = dying
append(read(sys.argv[1], verify_media=False), sys.argv[2])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("survived", [0, 2])
def test_a_process_killed_outright_leaves_the_old_store_unlocked(survived: int, tmp_path: Path) -> None:
    write([made(1, 2)], tmp_path / "store")
    path = write_parquet(tmp_path / "x.parquet", [pick_row(0)])
    arguments = [str(path), str(tmp_path / "store"), str(survived)]
    done = subprocess.run([sys.executable, "-c", _KILLED, *arguments], check=False)
    assert done.returncode == -9
    assert [g.prompt for g in open_store(tmp_path / "store")] == ["p"]
    assert verify(tmp_path / "store").ok
    assert len(append(read(path), tmp_path / "store")) == 2


@pytest.mark.parametrize("per_part", [1, 10])
def test_a_failing_source_appends_nothing(per_part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write([made(1, 2)], tmp_path)
    monkeypatch.setattr("penchant.feedback.store.GROUPS_PER_PART", per_part)

    def failing():
        yield made(3, 4)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        append(failing(), tmp_path)
    assert len(open_store(tmp_path)) == 1


def test_an_unfinished_first_write_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(source: object, target: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            write([made(1, 2)], tmp_path)
    with pytest.raises(FeedbackError, match="not a store"):
        open_store(tmp_path)
    assert len(write([made(1, 2)], tmp_path)) == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_media_are_found_and_never_used(damage: str, tmp_path: Path) -> None:
    opened = write([made(1, 2)], tmp_path)
    media = opened[0].candidates[1].media
    path = media_path(tmp_path, media.sha256)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.unlink()
    if damage != "remove":
        path.write_bytes(data if damage == "flip" else data[:50])
    with pytest.raises(MediaError):
        media.bytes()
    check = verify(tmp_path)
    assert not check.ok
    assert media.sha256 in check.problems[0]
    if damage == "truncate":
        append([made(2, 3, prompt="again")], tmp_path)
        assert verify(tmp_path).ok


def test_a_damaged_part_is_found(tmp_path: Path) -> None:
    write([made(1, 2)], tmp_path)
    (part,) = (tmp_path / "groups").iterdir()
    part.write_bytes(part.read_bytes()[:-20])
    assert "was altered" in verify(tmp_path).problems[0]
    with pytest.raises(FeedbackError, match="missing or damaged"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    ("index", "match"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": "penchant-store", "version": 99, "parts": []}', "another format or version"),
        ('{"format": "penchant-store", "version": 1, "parts": [{"name": "../../x.parquet"}]}', "another format"),
    ],
)
def test_a_strange_index_is_refused(index: str, match: str, tmp_path: Path) -> None:
    write([made(1, 2)], tmp_path)
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(FeedbackError, match=match):
        open_store(tmp_path)


def test_a_hash_in_the_manifest_cannot_become_a_path(tmp_path: Path) -> None:
    evil = replace(
        made(1, 2), candidates=(Candidate(media=Media(sha256="../../../etc/passwd", mime="x", data=b"x")),) * 2
    )
    with pytest.raises(FeedbackError, match="does not have its sha256"):
        write([evil], tmp_path / "a")
    import penchant.feedback.store as store

    root = tmp_path / "b"
    write([made(1, 2)], root)
    part = store._write_part(root, 1, [evil])
    index = json.loads((root / INDEX).read_text())
    (root / INDEX).write_text(json.dumps({**index, "parts": [*index["parts"], part]}))
    with pytest.raises(FeedbackError, match="not a sha256"):
        open_store(root)


def test_values_json_cannot_hold_are_refused_before_anything_is_published(tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match="cannot be kept as JSON"):
        write([replace(made(1, 2), extra={"x": object()})], tmp_path)
    with pytest.raises(FeedbackError, match="not a store"):
        open_store(tmp_path)


def test_parts_hold_no_more_than_their_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penchant.feedback.store.GROUPS_PER_PART", 2)
    texts = [Group(prompt=f"p{k}", candidates=(Candidate(text="x"),)) for k in range(5)]
    assert [g.prompt for g in write(texts, tmp_path)] == [g.prompt for g in texts]
    assert len(list((tmp_path / "groups").iterdir())) == 3


def test_exported_pairs_read_back_as_pick_a_pic(tmp_path: Path) -> None:
    feedback = read(pick_a_pic(tmp_path / "in"))
    assert export_parquet(feedback, tmp_path / "out.parquet") == 3
    again = read(tmp_path / "out.parquet")
    assert again.report.layout == "pick-a-pic"
    assert [g.id for g in again] == [g.id for g in feedback]
    assert [scores(g) for g in again] == [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]
    assert [c.model for c in again[0].candidates] == ["sdxl", "sd-2.1"]


def test_export_writes_small_row_groups_of_large_binary(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    rows = [pick_row(k, jpg_0=jpg(1), jpg_1=jpg(2)) for k in range(25)]
    export_parquet(read(write_parquet(tmp_path / "in.parquet", rows), verify_media=False), tmp_path / "out.parquet")
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [10, 10, 5]
    assert str(file.schema_arrow.field("jpg_0").type) == "large_binary"


def test_export_refuses_what_is_no_judged_pair_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match="not a pair of images"):
        export_parquet([made(1, 2, 3)], tmp_path / "x.parquet")
    with pytest.raises(FeedbackError, match="not judged"):
        export_parquet([replace(made(1, 2), judgements=())], tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []
