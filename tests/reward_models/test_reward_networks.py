"""What the networks must keep apart: dimensions from each other, and context-agnostic ones from the prompt."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reward_model_fixtures import MQ, TA, TINY, VQ, drawings, panned
from torch.testing import assert_close

from penchant.errors import MediaError, ModelError
from penchant.feedback.clip import Clip
from penchant.judges import load
from penchant.reward_models import folders
from penchant.reward_models.backbones import BACKBONES
from penchant.reward_models.cnn import VideoCNN
from penchant.reward_models.folders import Normalisation, RewardModelFolder, built, scores
from penchant.reward_models.frames import frame_indices
from penchant.reward_models.network import Dimension

CNN = VideoCNN(side=16, frames=6, width=32, vocabulary=300, words=8, prior=None)
SMALL = {
    "transformer": TINY,
    "cnn": CNN,
    "transformer with a prior": replace(TINY, prior="zoo:emoji/labeller"),
    "cnn with a prior": replace(CNN, prior="zoo:emoji/judge"),
}
THREE = (VQ, MQ, TA)


def network(backbone, dimensions=THREE, pooling="special"):
    torch.manual_seed(0)
    made = built(backbone, dimensions, pooling, prompts=[caption for caption, _ in drawings(8)])
    return made.eval()


def clips(count: int) -> list[Clip]:
    return [panned(picture) for _, picture in drawings(8)[:count]]


@pytest.fixture(params=sorted(SMALL))
def backbone(request):
    return SMALL[request.param]


def test_a_prior_knows_pictures_that_no_pair_showed():
    """Frozen features: a drawing is nearer to its caption than to another one's, and no weight of the prior trains."""
    model = network(SMALL["transformer with a prior"])
    prior, (caption, picture), (other, _) = model.backbone.prior, drawings(8)[0], drawings(60)[57]
    seen = prior.see(np.asarray(picture)[None]).mean(0)
    right, wrong = prior.read([caption, other]) @ seen
    assert right > wrong
    assert not any("prior" in name for name, _ in model.named_parameters())


def test_a_prior_that_is_no_picture_text_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="picture-text"):
        network(replace(TINY, prior=str(tmp_path)))


PROMPTS = ["a red heart", "", "a very long prompt about " + "many things " * 40, "<|TA_reward|> \u2603 \x00"]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_context_agnostic_scores_are_bit_identical_under_another_prompt(backbone, prompt):
    model = network(backbone)
    one, other = scores(model, ["green apple"] * 3, clips(3)), scores(model, [prompt] * 3, clips(3))
    assert torch.equal(one[:, :2], other[:, :2])
    assert (one[:, 2] != other[:, 2]).all()


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_without_special_tokens_every_dimension_sees_the_prompt(backbone, pooling):
    model = network(backbone, pooling=pooling)
    assert not any("special" in name and p.numel() for name, p in model.named_parameters())
    one, other = scores(model, ["green apple"] * 2, clips(2)), scores(model, ["a red heart"] * 2, clips(2))
    assert (one != other).all()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_token_gives_its_own_dimension(backbone, count):
    """The score is the diagonal of what the one linear layer makes of all tokens, for any number of dimensions."""
    dimensions = tuple(Dimension(name=f"d{i}", sees_prompt=bool(i % 2)) for i in range(count))
    model = network(backbone, dimensions)
    prepared = [model.backbone.prepare(clip) for clip in clips(2)]
    rows = model.backbone.collate(["a", "b"], prepared)
    with torch.no_grad():
        tokens = model.backbone(rows)
        place = tokens.place_ND[:, :, None].expand(-1, -1, model.backbone.width)
        whole_NDD = model.head(tokens.state_NLW.gather(1, place))
        assert whole_NDD.shape == (2, count, count)
        assert_close(model(rows), whole_NDD.diagonal(dim1=1, dim2=2), rtol=1e-5, atol=1e-6)


def test_a_dimension_s_gradient_reaches_its_own_row_of_the_head_alone(backbone):
    model = network(backbone)
    rows = model.backbone.collate(["a"], [model.backbone.prepare(clips(1)[0])])
    model(rows)[:, 1].sum().backward()
    assert model.head.weight.grad[[0, 2]].abs().max() == 0
    assert model.head.weight.grad[1].abs().max() > 0


def test_the_clip_matters_to_every_dimension(backbone):
    model = network(backbone)
    score = scores(model, ["a red heart"] * 3, clips(3))
    assert all(len(column.unique()) == 3 for column in score.T)


def test_a_picture_is_a_clip_of_one_frame(backbone):
    """Pictures and clips of any length in one batch score as they do alone."""
    model, (_, picture) = network(backbone), drawings(8)[0]
    short = Clip(frames=clips(1)[0].frames[:2], fps=6.0)
    mixed = scores(model, ["a red heart"] * 3, [picture, clips(1)[0], short])
    alone = torch.cat([scores(model, ["a red heart"], [sample]) for sample in (picture, clips(1)[0], short)])
    assert_close(mixed, alone, rtol=1e-5, atol=1e-5)


def test_the_order_of_frames_matters(backbone):
    model, clip = network(backbone), clips(1)[0]
    turned = Clip(frames=np.ascontiguousarray(clip.frames[::-1]), fps=clip.fps)
    one, other = scores(model, ["a"] * 2, [clip, turned])
    assert (one != other).all()


def test_a_text_is_refused(backbone):
    with pytest.raises(MediaError, match="neither clip nor picture"):
        scores(network(backbone), ["a"], ["a text"])


# Frames at the model's own rate.


def test_the_model_sees_equal_steps_of_time():
    assert frame_indices(24, 24.0, rate=6.0, most=9).tolist() == [0, 4, 8, 12, 16, 20]
    assert frame_indices(9, 6.0, rate=6.0, most=9).tolist() == list(range(9))
    assert frame_indices(4, 2.0, rate=4.0, most=99).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert frame_indices(100, 6.0, rate=6.0, most=9).tolist() == [0, 12, 25, 37, 50, 62, 74, 87, 99]


@given(
    count=st.integers(1, 200),
    fps=st.floats(0.5, 120),
    rate=st.floats(0.5, 60),
    most=st.integers(1, 40),
    least=st.integers(1, 8),
)
def test_frames_exist_and_never_go_back(count, fps, rate, most, least):
    index = frame_indices(count, fps, rate=rate, most=most, least=least)
    assert 1 <= len(index) <= most
    assert index.min() >= 0
    assert index.max() < count
    assert (np.diff(index) >= 0).all()


# Folders and the judge.


@pytest.fixture
def folder(backbone, tmp_path):
    about = RewardModelFolder(
        dimensions=THREE,
        pooling="special",
        backbone=backbone,
        normalisation=Normalisation(mean=(0.1, -0.2, 0.3), std=(1.0, 2.0, 0.5)),
    )
    folders.save(tmp_path / "model", network(backbone), about)
    return tmp_path / "model"


def test_a_folder_gives_the_same_scores(folder, backbone):
    raw = scores(network(backbone), ["a red heart"] * 2, clips(2)).double().numpy()
    judge = load(str(folder))
    assert judge.dimensions == ("VQ", "MQ", "TA")
    expected = (raw - [0.1, -0.2, 0.3]) / [1.0, 2.0, 0.5]
    assert np.array_equal(judge.score(["a red heart"] * 2, clips(2)), expected)


def test_an_address_names_one_dimension_or_the_mean(folder):
    whole = load(str(folder))
    score = whole.score(["a red heart"] * 2, clips(2))
    for column, name in enumerate(whole.dimensions):
        one = load(f"{folder}#{name}")
        assert (one.name, one.dimensions) == (f"model:{name}", (name,))
        assert np.array_equal(one.score(["a red heart"] * 2, clips(2)), score[:, [column]])
    overall = load(f"{folder}#overall").score(["a red heart"] * 2, clips(2))
    assert np.allclose(overall[:, 0], score.mean(1), rtol=1e-12)


def test_the_network_is_loaded_once_and_anew_when_the_folder_changed(folder):
    one = load(str(folder))
    assert load(f"{folder}#TA").model.network is one.network
    config = json.loads((folder / "config.json").read_text())
    config["normalisation"]["mean"][0] = 9.0
    (folder / "config.json").write_text(json.dumps(config))
    again = load(str(folder))
    assert again.network is not one.network
    assert again.version != one.version


def test_an_unknown_dimension_names_the_nearest(folder):
    with pytest.raises(ModelError, match="did you mean 'VQ'"):
        load(f"{folder}#VQQ")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dimensions": []}, "0 dimensions"),
        ({"pooling": "first"}, "pooling"),
        ({"normalisation": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "positive"),
        ({"backbone": {"kind": "none"}}, "none"),
        ({"dimensions": [{"name": "VQ"}, {"name": "MQ"}]}, "2 dimensions"),
    ],
)
def test_a_broken_description_is_refused(folder, change, word):
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=word):
        load(str(folder))


def test_weights_of_another_network_are_refused(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "head.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"head\.weight"):
        load(str(folder))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot be read"):
        load(str(folder))


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    model = network(TINY)
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    about = RewardModelFolder(
        dimensions=THREE, pooling="special", backbone=TINY, normalisation=Normalisation(mean=(0,) * 3, std=(1,) * 3)
    )
    with pytest.raises(ModelError, match="not finite"):
        folders.save(tmp_path / "model", model, about)
    assert not (tmp_path / "model").exists()


def test_normalised_scores_have_mean_0_and_deviation_1():
    raw = np.random.default_rng(0).normal(3.0, 2.0, (50, 2))
    raw[:, 1] = 7.0
    score = Normalisation.of(raw)(raw)
    assert np.allclose(score.mean(0), 0)
    assert np.allclose(score.std(0), [1, 0])


def test_every_backbone_has_a_name():
    assert {"video_transformer", "video_cnn", "qwen2_vl"} <= set(BACKBONES)
