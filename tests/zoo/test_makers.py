"""What `penchant pretrain emoji` does, on a few drawn shapes and for a few steps: every part is made and loads."""

from __future__ import annotations

from io import BytesIO

import pytest
import torch
from PIL import Image, ImageDraw

from penchant.zoo.emoji import feedback, generator, scorers
from penchant.zoo.emoji.arrays import as_float, jitter, to_tensor, warp
from penchant.zoo.emoji.data import SIZE, STYLES, Picture, split_of

CAPTIONS = ["red heart", "red apple", "green apple", "blue heart", "yellow face", "green face", "blue fish", "red fish"]


def draw(caption: str, style: str) -> bytes:
    image = Image.new("RGB", (SIZE, SIZE), "white")
    pen, colour = ImageDraw.Draw(image), caption.split()[0]
    shape = pen.rectangle if style == "noto" else pen.ellipse
    shape((8, 8, 40, 40), fill=colour, outline="black" if style == "twemoji" else colour)
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [
        Picture(
            caption=caption,
            style=style,
            category="Food & Drink",
            split="train",
            codepoint=f"{i}",
            png=draw(caption, style),
        )
        for i, caption in enumerate(CAPTIONS)
        for style in STYLES
    ]


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    words = generator.vocabulary(pictures)
    budget = scorers.Budget(labeller_steps=2, judge_steps=2, style_steps=2, batch=6)
    results = scorers.train(pictures, words, folder, budget=budget, device="cpu")
    small = generator.Budget(vae_rounds=1, vae_steps=2, vae_batch=4, unet_steps=2, unet_batch=4, views=2)
    generator.train(pictures, folder / "pipeline", small, "cpu", labeller=folder / "labeller")
    return folder, results


@pytest.mark.slow
def test_the_generator_becomes_an_ordinary_pipeline_that_penchant_trains(made):
    import penchant

    folder, _ = made
    model = penchant.load(folder / "pipeline")
    (image,) = model.generate(["red heart"], seeds=[0], steps=2, guidance=2.0)
    assert image.size == (SIZE, SIZE)
    assert model.prediction == "v_prediction"
    assert model.alphas_cumprod[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_scorers_and_classifier_become_judges_and_say_how_good_they_are(made, pictures):
    from penchant.judges import load

    folder, results = made
    for name in ("labeller", "judge"):
        assert 0 <= results[name]["held-out drawings"]["pairwise"] <= 1
        scores = load(str(folder / name)).score(["red heart"], [Image.open(BytesIO(pictures[0].png))])
        assert -1 <= scores[0, 0] <= 1
    assert 0 <= results["style"]["accuracy"] <= 1


@pytest.mark.slow
def test_what_is_there_is_not_made_again(made, pictures):
    folder, _ = made
    again = scorers.train(
        pictures, generator.vocabulary(pictures), folder, budget=scorers.Budget(labeller_steps=1), device="cpu"
    )
    assert again == {}


@pytest.mark.parametrize("make", [scorers.labeller, scorers.judge])
def test_a_scorer_reads_a_caption_to_its_end(make, pictures):
    words = generator.vocabulary(pictures)
    torch.manual_seed(0)
    model = make(len(words)).eval()
    captions = ["yellow apple", "yellow face", "yellow fish"]
    ids = words(captions, padding="max_length", max_length=generator.MAX_WORDS, return_tensors="pt").input_ids
    with torch.no_grad():
        features = scorers.text_features(model, ids)
    distances = torch.pdist(features)
    assert (distances > 1e-3).all()


def test_artist_pairs_prefer_the_fluent_drawing_of_the_same_caption(pictures):
    groups = feedback.artist_pairs(pictures)
    assert [g.prompt for g in groups] == sorted(CAPTIONS)
    assert all(g.candidates[0].model == "fluent" != g.candidates[1].model for g in groups)
    assert all(g.judgements[0].values == (1.0, 0.0) for g in groups)


def test_a_caption_s_split_never_changes():
    assert [split_of(c) for c in CAPTIONS] == [split_of(c) for c in CAPTIONS]
    shares = [split_of(f"caption {i}") for i in range(2000)]
    assert 0.04 < shares.count("test") / 2000 < 0.08
    assert 0.11 < shares.count("validation") / 2000 < 0.17


def test_augmentations_keep_white_white_and_melting_keeps_colours(pictures):
    pixels = as_float(to_tensor(pictures))
    random = torch.Generator().manual_seed(0)
    blank = torch.ones(2, 3, SIZE, SIZE)
    for change in (jitter, warp):
        assert torch.allclose(change(blank, random), blank, atol=1e-5)
        assert not torch.allclose(change(pixels, random), pixels, atol=0.1)
    assert warp(pixels, random).amin() >= -1 - 1e-5
