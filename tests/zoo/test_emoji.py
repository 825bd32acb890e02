"""What we ship is whole, loads as it is in diffusers and transformers, and says what is simulated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from penchant.assets import CONTENTS, path
from penchant.feedback import read
from penchant.judges import load as load_judge
from penchant.models import load as load_model

KNOWN = ["red heart", "blue heart", "grinning face", "pineapple", "octopus", "mango"]


@pytest.mark.parametrize("name", CONTENTS)
def test_everything_named_is_installed(name):
    assert path(name).exists()


def test_weights_are_safetensors_and_nothing_can_run_code():
    files = {f.suffix for f in path("emoji").parent.rglob("*") if f.is_file()}
    assert files <= {".safetensors", ".json", ".parquet", ".txt", ".md", ".jinja"}


def test_the_generator_is_an_ordinary_pipeline():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(path("emoji"), torch_dtype=torch.float32)
    picture = pipeline("red heart", num_inference_steps=2).images[0]
    assert picture.size == (48, 48)


def test_a_picture_depends_on_its_prompt_and_seed_alone():
    model = load_model("zoo:emoji")
    together = model.generate(KNOWN[:3], seeds=[1, 2, 3], steps=2, guidance=2.0, batch_size=3)
    alone = model.generate(KNOWN[1:2], seeds=[2], steps=2, guidance=2.0, batch_size=1)[0]
    distance = np.abs(np.asarray(together[1], dtype=float) - np.asarray(alone, dtype=float))
    assert distance.max() <= 2


@pytest.mark.parametrize(("name", "least"), [("labeller", 0.99), ("judge", 0.99)])
def test_a_scorer_prefers_the_true_caption_of_real_drawings(name, least):
    """The card says 99.98 % and 99.99 % of the drawings that the scorers know; most of these pairs are such."""
    from penchant.feedback.media import decode_image

    judge = load_judge(f"zoo:emoji/{name}")
    groups = read(path("emoji/artists"))[:60]
    pictures = [decode_image(g.candidates[0].media.bytes())[0] for g in groups]
    captions = [g.prompt for g in groups]
    scores = judge.features(pictures) @ judge.text_features(captions).T
    others = scores < np.diag(scores)[:, None]
    assert others.sum() / (len(groups) * (len(groups) - 1)) >= least


def test_the_style_classifier_knows_the_preferred_artist():
    from penchant.feedback.media import decode_image

    judge = load_judge("zoo:emoji/style#fluent")
    right = []
    for group in read(path("emoji/artists"))[:60]:
        scores = judge.score([group.prompt] * 2, [decode_image(c.media.bytes())[0] for c in group.candidates])[:, 0]
        right.append(scores[0 if group.candidates[0].model == "fluent" else 1] > scores.min())
    assert np.mean(right) > 0.8


@pytest.mark.parametrize("name", ["emoji/samples", "emoji/artists"])
def test_feedback_that_no_person_gave_is_called_simulated(name):
    feedback = read(path(name))
    assert feedback.report.bad == 0
    assert {j.source.split(":")[0] for g in feedback for j in g.judgements} == {"simulated"}


def test_prompts_that_judge_alignment_are_in_no_pair():
    prompts = set(path("emoji/prompts").read_text().split("\n"))
    for name in ("emoji/samples", "emoji/artists"):
        assert not prompts & {g.prompt for g in read(path(name))}


def test_labels_do_not_follow_position():
    for name in ("emoji/samples", "emoji/artists"):
        first = [g.judgements[0].values[0] > 0.5 for g in read(path(name))]
        assert 0.4 < np.mean(first) < 0.6
