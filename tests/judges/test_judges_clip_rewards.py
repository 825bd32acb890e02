"""PickScore, HPS v2.1, CLIPScore and the aesthetic predictor, against arithmetic done here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from reward_fixtures import (
    FEATURES,
    PATCH,
    PROMPTS,
    SIDE,
    clip_config,
    clip_tokenizer,
    cropped,
    normalised,
    pictures,
    save_clip,
    save_clip_inputs,
    scores_one_by_one,
    shaken,
)
from safetensors.torch import save_file
from torch import nn

from penchant import judges
from penchant.errors import ModelError
from penchant.judges.open_clip_weights import to_clip_model

SAMPLES = pictures((40, 60), (32, 32), (64, 48), (33, 90))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    return folder, save_clip(folder)


def cosines(model, prompts, pixels) -> np.ndarray:
    """By the model's own forward: its logits are the cosines times exp(logit_scale)."""
    tokens = clip_tokenizer()(prompts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(pixel_values=torch.cat(pixels), **tokens).logits_per_image
    return (logits.diagonal() / model.logit_scale.exp()).detach().numpy()[:, None]


def test_pickscore_is_the_scaled_cosine(clip):
    folder, model = clip
    judge = judges.load(f"pickscore:{folder}")
    expected = np.exp(model.logit_scale.item()) * cosines(model, PROMPTS, [cropped(i) for i in SAMPLES])
    assert judge.dimensions == ("preference",)
    np.testing.assert_allclose(judge.score(PROMPTS, SAMPLES), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores_one_by_one(judge, PROMPTS, SAMPLES), expected, rtol=1e-4, atol=1e-5)


def test_a_picture_preferred_by_pickscore_has_the_larger_logit(clip):
    folder, model = clip
    scores = judges.load(f"pickscore:{folder}").score(["a red cat"] * 4, SAMPLES)[:, 0]
    tokens = clip_tokenizer()(["a red cat"], return_tensors="pt")
    with torch.no_grad():
        logits = model(pixel_values=torch.cat([cropped(i) for i in SAMPLES]), **tokens).logits_per_text[0]
    assert logits.argsort().tolist() == scores.argsort().tolist()


def test_clipscore_rescales_and_never_goes_below_zero(clip):
    folder, model = clip
    judge = judges.load(f"clipscore:{folder}")
    words = [f"A photo depicts {prompt}" for prompt in PROMPTS]
    cosine = cosines(model, words, [cropped(i) for i in SAMPLES])
    np.testing.assert_allclose(judge.score(PROMPTS, SAMPLES), 2.5 * np.clip(cosine, 0, None), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        scores_one_by_one(judge, PROMPTS, SAMPLES), judge.score(PROMPTS, SAMPLES), rtol=1e-4, atol=1e-5
    )
    # Turned features turn the cosine: what was positive is cut off at zero.
    judge.clip.model.visual_projection.weight.data.neg_()
    turned = judge.score(PROMPTS, SAMPLES)
    np.testing.assert_allclose(turned, 2.5 * np.clip(-cosine, 0, None), rtol=1e-4, atol=1e-5)
    assert ((turned > 0) != (cosine > 0)).all()
    assert (turned == 0).any() or (cosine < 0).all()


def padded(picture: Image.Image) -> Image.Image:
    """Longer side to SIDE, black around it."""
    width, height = picture.size
    long = max(width, height)
    small = picture.resize((round(width * SIDE / long), round(height * SIDE / long)), Image.Resampling.BICUBIC)
    array = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    top, left = (SIDE - small.height) // 2, (SIDE - small.width) // 2
    array[top : top + small.height, left : left + small.width] = np.asarray(small)
    return Image.fromarray(array)


def test_hps_pads_instead_of_cropping_and_returns_the_cosine(clip):
    folder, model = clip
    judge = judges.load(f"hpsv2.1:{folder}")
    expected = cosines(model, PROMPTS, [normalised(padded(i)) for i in SAMPLES])
    np.testing.assert_allclose(judge.score(PROMPTS, SAMPLES), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores_one_by_one(judge, PROMPTS, SAMPLES), expected, rtol=1e-4, atol=1e-5)


class Block(nn.Module):
    """A layer in open_clip's layout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x, mask=None):
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(depth))


class OpenClip(nn.Module):
    """open_clip's ViT with its text tower, written for this test."""

    def __init__(self) -> None:
        super().__init__()
        text, vision = clip_config().text_config, clip_config().vision_config
        places = (SIDE // PATCH) ** 2 + 1
        self.visual = nn.Module()
        self.visual.class_embedding = nn.Parameter(torch.empty(vision.hidden_size))
        self.visual.positional_embedding = nn.Parameter(torch.empty(places, vision.hidden_size))
        self.visual.proj = nn.Parameter(torch.empty(vision.hidden_size, FEATURES))
        self.visual.conv1 = nn.Conv2d(3, vision.hidden_size, PATCH, PATCH, bias=False)
        self.visual.ln_pre, self.visual.ln_post = nn.LayerNorm(vision.hidden_size), nn.LayerNorm(vision.hidden_size)
        self.visual.transformer = Blocks(vision.hidden_size, vision.num_attention_heads, vision.num_hidden_layers)
        self.transformer = Blocks(text.hidden_size, text.num_attention_heads, text.num_hidden_layers)
        self.token_embedding = nn.Embedding(text.vocab_size, text.hidden_size)
        self.positional_embedding = nn.Parameter(torch.empty(77, text.hidden_size))
        self.ln_final = nn.LayerNorm(text.hidden_size)
        self.text_projection = nn.Parameter(torch.empty(text.hidden_size, FEATURES))
        self.logit_scale = nn.Parameter(torch.empty([]))

    def images(self, pixels):
        x = self.visual.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.visual.class_embedding.expand(len(x), 1, -1)
        x = self.visual.ln_pre(torch.cat([first, x], 1) + self.visual.positional_embedding)
        for block in self.visual.transformer.resblocks:
            x = block(x)
        return nn.functional.normalize(self.visual.ln_post(x[:, 0]) @ self.visual.proj, dim=-1)

    def texts(self, ids):
        """`ids` [N, 77], padded with zeros; the end token has the largest number."""
        x = self.token_embedding(ids) + self.positional_embedding
        mask = torch.full((77, 77), float("-inf")).triu(1)
        for block in self.transformer.resblocks:
            x = block(x, mask)
        ends = self.ln_final(x)[torch.arange(len(x)), ids.argmax(-1)]
        return nn.functional.normalize(ends @ self.text_projection, dim=-1)


def open_clip_ids(prompts):
    rows = torch.zeros(len(prompts), 77, dtype=torch.long)
    for row, prompt in zip(rows, prompts, strict=True):
        ids = clip_tokenizer()(prompt).input_ids
        row[: len(ids)] = torch.tensor(ids)
    return rows


def test_hps_reads_the_open_clip_checkpoint(tmp_path):
    model = shaken(OpenClip())
    save_clip_inputs(tmp_path)
    state = {**model.state_dict(), "attn_mask": torch.zeros(77, 77)}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "HPS_v2.1_compressed.pt")
    with torch.no_grad():
        pixels = torch.cat([normalised(padded(i)) for i in SAMPLES])
        expected = (model.images(pixels) * model.texts(open_clip_ids(PROMPTS))).sum(-1, keepdim=True).numpy()
    assert np.ptp(expected) > 0.05
    for path in (tmp_path, tmp_path / "HPS_v2.1_compressed.pt"):
        np.testing.assert_allclose(judges.load(f"hpsv2.1:{path}").score(PROMPTS, SAMPLES), expected, atol=2e-5)


def test_the_conversion_names_every_weight_once_and_refuses_others():
    from transformers import CLIPModel

    state = OpenClip().state_dict()
    target = CLIPModel(clip_config()).state_dict()
    converted = to_clip_model(state)
    assert {name: tensor.shape for name, tensor in converted.items()} == {
        name: tensor.shape for name, tensor in target.items()
    }
    assert sum(tensor.numel() for tensor in converted.values()) == sum(tensor.numel() for tensor in state.values())
    for name in ("visual.attnpool.weight", "transformer.resblocks.0.ls_1.gamma"):
        with pytest.raises(ModelError, match="Remedy"):
            to_clip_model({name: torch.zeros(1)})


def test_the_aesthetic_head_is_a_chain_of_linear_layers_on_the_unit_feature(clip, tmp_path):
    _, model = clip
    save_clip(tmp_path)
    widths, names, generator = (FEATURES, 16, 8, 4, 2, 1), (0, 2, 4, 6, 7), torch.Generator().manual_seed(1)
    state = {}
    for i, name in enumerate(names):
        state[f"layers.{name}.weight"] = torch.randn(widths[i + 1], widths[i], generator=generator)
        state[f"layers.{name}.bias"] = torch.randn(widths[i + 1], generator=generator)
    torch.save(state, tmp_path / "sac+logos+ava1-l14-linearMSE.pth")
    with torch.no_grad():
        x = model.visual_projection(model.vision_model(torch.cat([cropped(i) for i in SAMPLES])).pooler_output)
    x = x.numpy() / np.linalg.norm(x.numpy(), axis=-1, keepdims=True)
    for name in names:
        x = x @ state[f"layers.{name}.weight"].numpy().T + state[f"layers.{name}.bias"].numpy()
    judge = judges.load(f"aesthetic:{tmp_path}")
    np.testing.assert_allclose(judge.score(PROMPTS, SAMPLES), x, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores_one_by_one(judge, PROMPTS, SAMPLES), x, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(judge.score([""] * 4, SAMPLES), judge.score(PROMPTS, SAMPLES))
    same = [smooth(SIDE, SIDE, seed) for seed in range(4)]
    np.testing.assert_allclose(
        judge.look(PROMPTS, levels(same)), judge.score(PROMPTS, same)[:, 0], rtol=1e-3, atol=1e-4
    )


def test_a_head_of_another_width_is_refused(tmp_path):
    save_clip(tmp_path)
    file = tmp_path / "head.safetensors"
    save_file({"layers.0.weight": torch.zeros(1, 768), "layers.0.bias": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match="takes 768 features, the model gives 24"):
        judges.load(f"aesthetic:{file}")


@pytest.mark.parametrize("name", ["pickscore", "hpsv2.1", "clipscore", "aesthetic"])
def test_a_bad_path_says_what_to_give(name, tmp_path):
    with pytest.raises(ModelError, match="Remedy: give"):
        judges.load(f"{name}:{tmp_path / 'nothing'}")


def test_another_model_is_refused_instead_of_filled_at_random(tmp_path):
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=10, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no CLIPModel"):
        judges.load(f"pickscore:{tmp_path}")


def test_a_pickled_object_is_refused(tmp_path):
    save_clip_inputs(tmp_path)
    torch.save(nn.Linear(1, 1), tmp_path / "HPS_v2.1_compressed.pt")
    with pytest.raises(ModelError, match=r"more than tensors.*safetensors"):
        judges.load(f"hpsv2.1:{tmp_path}")


LOOKS = ("pickscore", "hpsv2.1", "clipscore")


def levels(samples) -> torch.Tensor:
    """Pictures of one size as pixels in [0, 1]."""
    return torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) for i in samples]).float() / 255


def smooth(width: int, height: int, seed: int) -> Image.Image:
    """A picture without the noise of single pixels, as pictures are."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((width, height))


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("size", [(32, 32), (48, 64), (90, 40), (20, 16)])
def test_a_look_at_pixels_is_the_score_of_the_picture(clip, name, size):
    judge, samples = judges.load(f"{name}:{clip[0]}"), [smooth(*size, seed) for seed in range(4)]
    seen = judge.look(PROMPTS, levels(samples))
    # A file is rounded to 256 levels once more when it is resized.
    close = {"rtol": 1e-4, "atol": 1e-5} if size == (32, 32) else {"rtol": 0.02, "atol": 0.01}
    np.testing.assert_allclose(seen.numpy(), judge.score(PROMPTS, samples)[:, 0], **close)


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_has_the_slope_of_the_score_and_trains_no_judge(clip, name):
    judge = judges.load(f"{name}:{clip[0]}")
    pixels = levels([smooth(40, 48, seed) for seed in range(4)]).requires_grad_()
    scores = judge.look(PROMPTS, pixels)
    (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in judge.clip.model.parameters())
    for n in range(4):
        step = 0.02 * gradient[n] / gradient[n].norm().clamp(min=1e-12)
        with torch.no_grad():
            up, down = (judge.look(PROMPTS[n : n + 1], (pixels[n] + sign * step)[None]) for sign in (1, -1))
        torch.testing.assert_close(up - down, 0.04 * gradient[n].norm()[None], rtol=0.05, atol=1e-5)
    assert gradient.abs().max() > 0
