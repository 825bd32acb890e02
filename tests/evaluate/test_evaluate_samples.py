"""Sample folders come back as they were saved, damage is named, contact sheets have their shape."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from penchant.errors import MediaError, PenchantError
from penchant.evaluate import Sample, TextSample, contact_sheet, load_samples, paired, pixel_grid, save_samples


def picture(seed: int, size: tuple[int, int] = (12, 8)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def samples(seeds=(0, 1), prompts=("a fox", "ein Fuchs \u2603")) -> list[Sample]:
    return [Sample(prompt=p, seed=s, image=picture(10 * i + s)) for i, p in enumerate(prompts) for s in seeds]


def test_a_folder_returns_what_was_saved(tmp_path):
    saved = samples()
    manifest = save_samples(tmp_path / "out", saved, made_by={"model": "tiny"})
    loaded = load_samples(tmp_path / "out")
    assert [(s.prompt, s.seed) for s in loaded] == [(s.prompt, s.seed) for s in saved]
    assert all((np.asarray(a.image) == np.asarray(b.image)).all() for a, b in zip(loaded, saved, strict=True))
    assert json.loads(manifest.read_text())["made_by"] == {"model": "tiny"}
    with pytest.raises(PenchantError, match="already"):
        save_samples(tmp_path / "out", saved)


def test_a_folder_of_texts_returns_what_was_saved(tmp_path):
    texts = ("", "two\r\nlines\n", "\u202e</script>", "犬\ufeff")
    saved = tuple(TextSample(prompt="a fox", seed=i, text=t, tokens=i, finished=i > 1) for i, t in enumerate(texts))
    save_samples(tmp_path, saved)
    assert load_samples(tmp_path) == saved
    assert (tmp_path / "00003.txt").read_text(encoding="utf-8") == texts[3]
    (tmp_path / "00003.txt").write_text("another")
    with pytest.raises(MediaError, match=r"00003\.txt"):
        load_samples(tmp_path)


def test_an_altered_picture_is_named(tmp_path):
    save_samples(tmp_path, samples())
    picture(99).save(tmp_path / "00002.png")
    with pytest.raises(MediaError, match=r"00002\.png"):
        load_samples(tmp_path)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "missing.png", "..", 3])
def test_a_manifest_cannot_reach_out_of_its_folder(tmp_path, name):
    save_samples(tmp_path / "out", samples())
    picture(0).save(tmp_path / "secret.png")
    manifest = tmp_path / "out" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["samples"][1]["file"] = name
    manifest.write_text(json.dumps(content))
    with pytest.raises(MediaError, match="row 1"):
        load_samples(tmp_path / "out")


def test_folders_that_are_no_sample_folders_are_refused(tmp_path):
    with pytest.raises(PenchantError, match="no manifest"):
        load_samples(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "other/1"}')
    with pytest.raises(PenchantError, match="format"):
        load_samples(tmp_path)


def test_pairs_are_of_the_same_prompt_and_seed_whatever_their_order():
    base, policy = samples(), samples()[::-1]
    assert all((a.prompt, a.seed) == (b.prompt, b.seed) for a, b in paired(base, policy))
    with pytest.raises(PenchantError, match="the policy has no sample of prompt 'a fox' with seed 0"):
        paired(base, base[1:])
    with pytest.raises(PenchantError, match="twice"):
        paired([*base, base[0]], policy)


def test_pixel_grid_is_prompts_by_ascending_seeds():
    found = samples(seeds=(5, 2))
    grid = pixel_grid(found)
    assert grid.shape == (2, 2, 8, 12, 3)
    assert (grid[1, 0] == np.asarray(found[3].image)).all()  # prompt 1, seed 2
    with pytest.raises(PenchantError, match="not 2 prompts x 2 seeds"):
        pixel_grid(found[:3])


def test_a_sheet_has_a_tile_for_every_picture_and_shows_it():
    red = Image.new("RGB", (30, 30), "red")
    sheet = contact_sheet(
        [red] * 5, ["short", "a very long caption " * 20, "", "Wörter", "unbroken" * 40], columns=2, tile=96
    )
    one = contact_sheet([red], ["x"], columns=2, tile=96)
    assert sheet.width == 4 + 2 * (96 + 4)
    assert one.width == 4 + 96 + 4
    assert sheet.height == 4 + 3 * (one.height - 4)
    assert sheet.getpixel((52, 52)) == (255, 0, 0)
    captions = np.asarray(sheet)[104 : one.height - 2, 104:200]
    assert (captions < 200).any()  # the long caption is written ...
    assert (np.asarray(sheet)[104 : one.height - 2, 200:] > 200).all()  # ... and stays inside its tile


def test_a_wide_picture_keeps_its_shape_in_the_tile():
    sheet = contact_sheet([Image.new("RGB", (200, 50), "blue")], ["wide"], tile=100)
    blue = (np.asarray(sheet) == (0, 0, 255)).all(-1)
    assert (blue.any(0).sum(), blue.any(1).sum()) == (100, 25)


def test_a_sheet_needs_a_caption_for_every_picture():
    with pytest.raises(PenchantError, match="captions"):
        contact_sheet([picture(0)], [])
