"""Bad inputs, one by one: each is a documented repair or a counted refusal with field and remedy, never a crash."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feedback_fixtures import (
    MAKERS,
    encoded,
    flat_row,
    images_beside,
    jpg,
    pick_row,
    picture,
    write_json,
    write_parquet,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from penchant.errors import FeedbackError, MediaError, PenchantError
from penchant.feedback import decode_image, read


def bomb(side: int) -> bytes:
    """A PNG header of side x side 1-bit pixels with almost no data."""
    return png(struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), b"\0" * 100)


def png(header: bytes, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def animated() -> bytes:
    return encoded(picture(1), "GIF", save_all=True, append_images=[picture(2)], duration=100)


def sixteen_bit() -> bytes:
    ramp = np.linspace(0, 65535, 24 * 16).astype(np.uint16).reshape(16, 24)
    return encoded(Image.fromarray(ramp), "PNG")


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpg(3, exif=exif)


def palette_with_transparency() -> bytes:
    return encoded(picture(4).convert("P"), "PNG", transparency=0)


REFUSED_IMAGES: dict[str, tuple[bytes, str]] = {
    "0 bytes": (b"", "empty"),
    "a web page": (b"\n<!DOCTYPE html><html>404</html>", "web page"),
    "an XML error": (b"<?xml version='1.0'?><Error/>", "web page"),
    "a JSON error": (b'{"error": "gone"}', "web page"),
    "an SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "web page"),
    "random bytes": (bytes(range(256)) * 4, "not an image"),
    "a truncated JPEG": (jpg(5)[:-150], "truncated"),
    "a truncated PNG": (encoded(picture(5), "PNG")[:-60], "truncated|corrupt"),
    "a truncated WebP": (encoded(picture(5), "WEBP")[:-60], "truncated|corrupt|not an image"),
    "a JPEG header alone": (jpg(5)[:20], "truncated|corrupt|not an image"),
    "1 x 1": (encoded(picture(1, (1, 1)), "PNG"), "too small"),
    "10000^2 1-bit": (bomb(10_000), "too many pixels"),
    "20000^2 1-bit": (bomb(20_000), "too many pixels"),
    "floating-point pixels": (encoded(Image.new("F", (16, 16), 0.5), "TIFF"), "floating-point"),
    "a PostScript file": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "a video": (b"\0\0\0\x18ftypmp42" + b"\0" * 64, "not an image"),
}

REPAIRED_IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "CMYK": (lambda: encoded(picture(1).convert("CMYK"), "JPEG"), "CMYK converted to RGB"),
    "palette": (lambda: encoded(picture(1).convert("P"), "PNG"), "palette converted to RGB"),
    "palette with transparency": (palette_with_transparency, "transparency laid on white"),
    "LA": (lambda: encoded(picture(1).convert("LA"), "PNG"), "transparency laid on white"),
    "RGBA": (lambda: encoded(picture(1).convert("RGBA"), "PNG"), "transparency laid on white"),
    "grey": (lambda: encoded(picture(1).convert("L"), "JPEG"), "greyscale converted to RGB"),
    "1-bit": (lambda: encoded(picture(1).convert("1"), "PNG"), "greyscale converted to RGB"),
    "16-bit": (sixteen_bit, "16-bit brought to 8-bit RGB"),
    "animated": (animated, "first frame of an animation taken"),
    "EXIF-rotated": (rotated, "EXIF rotation applied"),
}


@pytest.mark.parametrize("kind", REFUSED_IMAGES)
def test_a_bad_image_is_refused_by_row_and_field(kind: str, tmp_path: Path) -> None:
    data, problem = REFUSED_IMAGES[kind]
    with pytest.raises(MediaError, match=problem) as raised:
        decode_image(data)
    assert raised.value.remedy
    report = read(write_parquet(tmp_path / "x.parquet", [pick_row(0), pick_row(1, jpg_1=data)])).report
    ((reason, refused),) = report.refused.items()
    assert (report.kept, report.rows, refused.examples, refused.field) == (1, 2, ("1",), "jpg_1")
    assert reason == raised.value.problem


@pytest.mark.parametrize("kind", REPAIRED_IMAGES)
def test_an_odd_image_is_repaired_and_counted(kind: str, tmp_path: Path) -> None:
    make, repair = REPAIRED_IMAGES[kind]
    image, repairs = decode_image(make())
    assert image.mode == "RGB"
    assert repair in repairs
    report = read(write_parquet(tmp_path / "x.parquet", [pick_row(0, jpg_0=make())])).report
    assert report.kept == 1
    assert report.repaired[repair].examples == ("0",)


def test_a_plain_picture_needs_no_repair() -> None:
    for format in ("JPEG", "PNG", "WEBP", "BMP"):
        image, repairs = decode_image(encoded(picture(1), format))
        assert (image.size, repairs) == ((24, 16), [])


def test_repairs_do_what_they_say() -> None:
    assert decode_image(rotated())[0].size == (16, 24)
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert decode_image(encoded(clear, "PNG"))[0].getpixel((3, 3)) == (255, 255, 255)
    grey = np.asarray(decode_image(sixteen_bit())[0])
    assert (grey.min(), grey.max()) == (0, 255)
    assert np.unique(grey).size > 200
    first = np.asarray(decode_image(animated())[0], dtype=int)
    assert (
        abs(first - np.asarray(picture(1), dtype=int)).mean()
        < 15
        < abs(first - np.asarray(picture(2), dtype=int)).mean()
    )


@pytest.mark.parametrize("mode", ["I;16", "RGB", "RGBA"])
def test_sixteen_bit_channels_are_counted_whatever_the_colours(mode: str) -> None:
    channels, colour = {"I;16": (1, 0), "RGB": (3, 2), "RGBA": (4, 6)}[mode]
    data = (b"\0" + b"\xff\x00" * 16 * channels) * 16
    header = struct.pack(">IIBBBBB", 16, 16, 16, colour, 0, 0, 0)
    image, repairs = decode_image(png(header, data))
    assert "16-bit brought to 8-bit RGB" in repairs
    assert image.getpixel((5, 5)) == (255, 255, 255)


def test_a_bomb_is_refused_before_a_pixel_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(MediaError, match="too many pixels"):
        decode_image(bomb(8001))


def test_min_side_is_an_option() -> None:
    tiny = encoded(picture(1, (4, 4)), "PNG")
    assert decode_image(tiny, min_side=4)[0].size == (4, 4)
    with pytest.raises(MediaError, match="at least 8 pixels"):
        decode_image(tiny)


REFUSED_ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "empty caption": ({"caption": ""}, "the caption is empty.", "caption"),
    "white caption": ({"caption": " \t\n\u2003"}, "the caption is empty.", "caption"),
    "no caption": ({"caption": None}, "the caption is missing.", "caption"),
    "1 MB caption": ({"caption": "x" * 2**20}, "the caption is too long.", "caption"),
    "NUL caption": ({"caption": "\x00"}, "the caption is empty.", "caption"),
    "no label": ({"has_label": False}, "the row has no label.", "has_label"),
    "label missing": ({"label_1": None}, "the label is missing.", "label_1"),
    "label NaN": ({"label_0": float("nan")}, "the label is NaN or infinite.", "label_0"),
    "label 2 and -1": ({"label_0": 2.0, "label_1": -1.0}, "the label is outside 0 to 1.", "label_0"),
    "both win": ({"label_1": 1.0}, "the labels are inconsistent: they do not add up to 1.", "label_1"),
    "swapped": (
        {"best_image_uid": "uid-1-1"},
        "the labels are inconsistent: best_image_uid names the loser.",
        "best_image_uid",
    ),
    "no image": ({"jpg_0": None}, "the image is missing.", "jpg_0"),
    "same image": ({"jpg_0": jpg(9), "jpg_1": jpg(9)}, "same image on both sides.", "jpg_1"),
}


@pytest.mark.parametrize("kind", REFUSED_ROWS)
def test_a_bad_row_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    changes, reason, field = REFUSED_ROWS[kind]
    report = read(write_parquet(tmp_path / "x.parquet", [pick_row(0), pick_row(1, **changes)])).report
    assert (report.kept, report.rows, set(report.refused)) == (1, 2, {reason})
    assert report.refused[reason].field == field
    assert report.refused[reason].remedy
    assert report.refused[reason].examples == ("1",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label_0": "1", "label_1": "0"}, "the label is not a number."),
        ({"caption": 7}, "the caption is not text."),
        ({"jpg_1": 7}, "the image is missing."),
        ({"jpg_1": "/etc/passwd"}, "a path leaves the folder of the data."),
    ],
)
def test_a_column_of_the_wrong_type_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    report = read(write_parquet(tmp_path / "x.parquet", [pick_row(0, **changes)])).report
    assert (report.rows, set(report.refused)) == (1, {reason})


def test_text_that_is_not_utf8_is_refused_alone(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([pick_row(0), pick_row(1), pick_row(2)])
    captions = pa.array([b"fine", b"\xff\xfe", b"fine"], pa.binary()).view(pa.string())
    pq.write_table(table.set_column(2, "caption", captions), tmp_path / "x.parquet")
    report = read(tmp_path / "x.parquet").report
    assert (report.kept, report.refused["a text is not valid UTF-8."].examples) == (2, ("1",))


@pytest.mark.parametrize("caption", ["قطة على سطح", "🐱‍👤 on a roof", "a\u202ecat", "日本語" * 300, "naïve é"])
def test_every_script_is_kept_as_it_is(caption: str, tmp_path: Path) -> None:
    feedback = read(write_parquet(tmp_path / "猫 x.parquet", [pick_row(0, caption=caption)]))
    assert feedback[0].prompt == caption
    assert not feedback.report.repaired


def test_nul_is_taken_out_of_a_caption_and_counted(tmp_path: Path) -> None:
    feedback = read(write_parquet(tmp_path / "x.parquet", [pick_row(0, caption="a\x00 cat")]))
    assert feedback[0].prompt == "a cat"
    assert feedback.report.repaired["NUL removed from the caption"].count == 1


def test_a_lost_model_name_is_unknown_and_not_an_error(tmp_path: Path) -> None:
    feedback = read(write_parquet(tmp_path / "x.parquet", [pick_row(0, model_0="", model_1=None)]))
    assert [c.model for c in feedback[0].candidates] == [None, None]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.jpg", "a path leaves the folder of the data."),
        ("a/../../secret.jpg", "a path leaves the folder of the data."),
        ("..\\secret.jpg", "a path leaves the folder of the data."),
        ("ABSOLUTE", "a path leaves the folder of the data."),
        ("link.jpg", "a path leaves the folder of the data."),
        ("nul\x00.jpg", "a path leaves the folder of the data."),
        ("loop.jpg", "the image file does not exist."),
        ("x" * 5000, "the image file does not exist."),
        ("gone.jpg", "the image file does not exist."),
        ("", "the image file does not exist."),
    ],
)
def test_paths_stay_inside_the_folder(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpg(1))
    root = tmp_path / "data"
    images_beside(root, ["1.jpg", "2.jpg"])
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    name = str(tmp_path / "secret.jpg") if name == "ABSOLUTE" else name
    rows = [{"human_preference": [1, 0], "prompt": "p", "file_path": ["1.jpg", last]} for last in ("2.jpg", name)]
    report = read(write_json(root / "train.json", rows)).report
    assert (report.kept, set(report.refused)) == (1, {reason})


def test_odd_file_names_inside_the_folder_are_fine(tmp_path: Path) -> None:
    names = ["ünï cödé.jpg", "./b.jpg"]
    images_beside(tmp_path, names)
    row = {"human_preference": [1, 0], "prompt": "p", "file_path": names}
    assert read(write_json(tmp_path / "train.json", [row])).report.kept == 1


JSON_ROWS: dict[str, tuple[str, str]] = {
    "not JSON": ('{"prompt": "p", ', "a line is not valid JSON."),
    "not an object": ("[1, 2]", "a record is not a JSON object."),
    "half a surrogate": (
        '{"prompt": "\\ud800", "chosen": "a", "rejected": "b"}',
        "the prompt text is not valid Unicode.",
    ),
    "number for text": ('{"prompt": "p", "chosen": 4, "rejected": "b"}', "the chosen text is not text."),
    "empty answer": ('{"prompt": "p", "chosen": "", "rejected": "b"}', "the chosen text is empty."),
    "missing key": ('{"prompt": "p", "chosen": "a"}', "the rejected text is missing."),
    "same text": ('{"prompt": "p", "chosen": "a", "rejected": "a"}', "same text on both sides."),
    "no messages": ('{"prompt": "p", "chosen": [], "rejected": "b"}', "the chosen text is empty."),
    "no role": ('{"prompt": "p", "chosen": [{"content": "a"}], "rejected": "b"}', "a message has no role."),
    "deep nesting": ("[" * 100_000, "a line is not valid JSON."),
}


@pytest.mark.parametrize("kind", JSON_ROWS)
def test_a_bad_json_line_is_refused_alone(kind: str, tmp_path: Path) -> None:
    line, reason = JSON_ROWS[kind]
    good = '{"prompt": "p", "chosen": "a", "rejected": "b"}'
    (tmp_path / "x.jsonl").write_text("\n".join([good, line, "", good]))
    report = read(tmp_path / "x.jsonl").report
    assert (report.kept, report.rows, set(report.refused)) == (2, 3, {reason})


def test_a_line_that_is_not_utf8_is_refused_alone(tmp_path: Path) -> None:
    good = b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n'
    (tmp_path / "x.jsonl").write_bytes(good + good.replace(b'"a"', b'"\xff"') + good)
    report = read(tmp_path / "x.jsonl").report
    assert (report.kept, set(report.refused)) == (2, {"a text is not valid UTF-8."})


@pytest.mark.parametrize(
    ("label", "reason", "repaired"),
    [
        ("0", "the label is not true or false.", 0),
        (2, "the label is not true or false.", 0),
        ([1], "the label is not true or false.", 0),
        (None, "the label is missing.", 0),
        (1, None, 1),
    ],
)
def test_kto_labels_are_booleans(label: object, reason: str | None, repaired: int, tmp_path: Path) -> None:
    report = read(write_json(tmp_path / "x.json", [{"prompt": "p", "completion": "c", "label": label}])).report
    assert set(report.refused) == ({reason} if reason else set())
    assert len(report.repaired) == repaired


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"human_preference": [1, 1]}, "the labels are inconsistent: not exactly one candidate is preferred."),
        ({"human_preference": [0, 0]}, "the labels are inconsistent: not exactly one candidate is preferred."),
        ({"human_preference": [1]}, "lists of one row differ in length."),
        ({"human_preference": "10"}, "a list is missing or empty."),
        ({"human_preference": ["1", "0"]}, "the label is not a number."),
        ({"file_path": []}, "a list is missing or empty."),
        ({"file_path": ["1.jpg", {"path": None}]}, "the image is missing."),
    ],
)
def test_hpdv2_lists_must_fit(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    images_beside(tmp_path, ["1.jpg", "2.jpg"])
    row = {"human_preference": [1, 0], "prompt": "p", "file_path": ["1.jpg", "2.jpg"]}
    report = read(write_json(tmp_path / "x.json", [row, row | change])).report
    assert (report.kept, set(report.refused)) == (1, {reason})


def test_one_id_for_two_prompts_and_one_image_twice_are_refused(tmp_path: Path) -> None:
    rows = [flat_row("p", 0, 1), flat_row("p", 1, 2) | {"prompt": "another"}, flat_row("p", 0, 3)]
    feedback = read(write_parquet(tmp_path / "x.parquet", rows))
    assert len(feedback[0].candidates) == feedback.report.kept == 1
    assert set(feedback.report.refused) == {"one id stands for two prompts.", "same image twice under one prompt."}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.parquet", b"PAR1 and nothing", "damaged"),
        ("x.parquet", b"", "damaged"),
        ("x.json", b"[{", "not valid JSON"),
        ("x.json", b"[]", "no record"),
        ("x.jsonl", b"", "no record"),
        ("x.jsonl.gz", b"not gzip", "damaged"),
        ("x.json", b"\xff\xfe[\x00", "no record|not valid JSON"),
        ("x.txt", b"hello", "neither Parquet nor JSON"),
    ],
)
def test_a_damaged_file_is_a_typed_error(name: str, content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FeedbackError, match=problem) as raised:
        read(tmp_path / name)
    assert raised.value.remedy
    assert name in str(raised.value.file)


def test_a_parquet_file_damaged_in_the_middle_is_a_typed_error(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [pick_row(k) for k in range(3)], row_group_size=1)
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    path.write_bytes(data)
    with pytest.raises(FeedbackError, match="damaged"):
        read(path)


def test_nothing_there_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match="no such file"):
        read(tmp_path / "x.parquet")
    with pytest.raises(FeedbackError, match="no Parquet or JSON"):
        read(tmp_path)


def test_kept_and_refused_add_up_to_the_rows(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"caption": ""}, {"caption": " "}, {"label_0": None}, {"jpg_0": b"x" * 9}, {}]
    report = read(write_parquet(tmp_path / "x.parquet", [pick_row(k, **c) for k, c in enumerate(changes)])).report
    assert (report.rows, report.kept, report.bad) == (6, 2, 4)
    assert report.refused["the caption is empty."].count == 2
    assert report.refused["the caption is empty."].examples == ("1", "2")


def test_max_bad_is_a_threshold_on_the_share(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [pick_row(0), pick_row(1, caption="")])
    assert len(read(path, max_bad=0.5)) == 1
    with pytest.raises(FeedbackError, match="1 of 2 rows were refused"):
        read(path, max_bad=0.49)


def test_unverified_media_are_kept_undecoded(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [pick_row(0, jpg_0=b"broken")])
    assert read(path).report.bad == 1
    assert read(path, verify_media=False).report.kept == 1


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["1.jpg", "..", "p"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "rank", "bytes"]), inner)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_in_the_cells_only_typed_errors_leave_a_reader(
    name: str, data: st.DataObject, tmp_path: Path
) -> None:
    from penchant.feedback.readers import LAYOUTS
    from penchant.feedback.readers.layout import Row

    layout = next(layout for layout in LAYOUTS if layout.name == name)
    columns = sorted(layout.required | layout.optional)
    values = data.draw(st.fixed_dictionaries(dict.fromkeys(columns, ANY_JSON)))
    if not (tmp_path / "1.jpg").exists():
        (tmp_path / "1.jpg").write_bytes(jpg(1))
    row = Row(values=values, file="x", number=0, root=tmp_path, split="train")
    group, refusal = None, None
    try:
        group = layout.to_group(row)
    except PenchantError as error:
        refusal = error
    assert (refusal and refusal.remedy) or json.dumps(group.extra, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    position=st.integers(0, 10_000),
    value=st.integers(0, 255),
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF"]),
)
def test_a_flipped_byte_decodes_or_is_a_media_error(position: int, value: int, kind: str) -> None:
    data = bytearray(encoded(picture(1), kind))
    data[position % len(data)] = value
    image, refusal = None, None
    try:
        image, _ = decode_image(bytes(data))
    except MediaError as error:
        refusal = error
    assert (refusal and refusal.remedy) or image.mode == "RGB"
