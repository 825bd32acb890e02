"""ImageReward, against BLIP and its head written out here on the authors' names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reward_fixtures import PATCH, PROMPTS, SIDE, cropped, pictures, scores_one_by_one

from penchant import judges
from penchant.errors import ModelError
from penchant.judges.image_reward import to_blip

VISION, TEXT, HIDDEN, HEADS = 192, 128, 40, {"vision": 3, "text": 2}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SAMPLES = pictures((40, 60), (32, 32), (64, 48), (33, 90))


def linear(state, name, inputs, outputs, generator):
    state[f"{name}.weight"] = torch.randn(outputs, inputs, generator=generator) * 2 / math.sqrt(inputs)
    state[f"{name}.bias"] = 0.3 * torch.randn(outputs, generator=generator)


def norm(state, name, width, generator):
    state[f"{name}.weight"] = 1 + 0.2 * torch.randn(width, generator=generator)
    state[f"{name}.bias"] = 0.2 * torch.randn(width, generator=generator)


def authors_state(vocabulary: int) -> dict[str, torch.Tensor]:
    """Random weights under the names of `ImageReward.pt`, those that take no part included."""
    g, s = torch.Generator().manual_seed(0), {}
    at = "blip.visual_encoder"
    s[f"{at}.cls_token"] = torch.randn(1, 1, VISION, generator=g)
    s[f"{at}.pos_embed"] = torch.randn(1, (SIDE // PATCH) ** 2 + 1, VISION, generator=g)
    s[f"{at}.patch_embed.proj.weight"] = torch.randn(VISION, 3, PATCH, PATCH, generator=g) / PATCH
    s[f"{at}.patch_embed.proj.bias"] = torch.randn(VISION, generator=g)
    norm(s, f"{at}.norm", VISION, g)
    for i in range(2):
        block = f"{at}.blocks.{i}"
        norm(s, f"{block}.norm1", VISION, g)
        norm(s, f"{block}.norm2", VISION, g)
        linear(s, f"{block}.attn.qkv", VISION, 3 * VISION, g)
        linear(s, f"{block}.attn.proj", VISION, VISION, g)
        linear(s, f"{block}.mlp.fc1", VISION, HIDDEN, g)
        linear(s, f"{block}.mlp.fc2", HIDDEN, VISION, g)
    at = "blip.text_encoder"
    s[f"{at}.embeddings.word_embeddings.weight"] = torch.randn(vocabulary, TEXT, generator=g)
    s[f"{at}.embeddings.position_embeddings.weight"] = torch.randn(50, TEXT, generator=g)
    s[f"{at}.embeddings.position_ids"] = torch.arange(50)[None]
    norm(s, f"{at}.embeddings.LayerNorm", TEXT, g)
    for i in range(3):
        layer = f"{at}.encoder.layer.{i}"
        for part, width in (("attention", TEXT), ("crossattention", VISION)):
            linear(s, f"{layer}.{part}.self.query", TEXT, TEXT, g)
            linear(s, f"{layer}.{part}.self.key", width, TEXT, g)
            linear(s, f"{layer}.{part}.self.value", width, TEXT, g)
            linear(s, f"{layer}.{part}.output.dense", TEXT, TEXT, g)
            norm(s, f"{layer}.{part}.output.LayerNorm", TEXT, g)
        linear(s, f"{layer}.intermediate.dense", TEXT, HIDDEN, g)
        linear(s, f"{layer}.output.dense", HIDDEN, TEXT, g)
        norm(s, f"{layer}.output.LayerNorm", TEXT, g)
    linear(s, "blip.vision_proj", VISION, 8, g)
    linear(s, "blip.text_proj", TEXT, 8, g)
    for number, (inputs, outputs) in {0: (TEXT, 16), 2: (16, 8), 4: (8, 4), 6: (4, 2), 7: (2, 1)}.items():
        linear(s, f"mlp.layers.{number}", inputs, outputs, g)
    return s


def attention(query, key, value, heads, allowed=None):
    """Rows [N, ., F]; `allowed` [N, keys]."""
    parts = []
    for q, k, v in zip(query.chunk(heads, -1), key.chunk(heads, -1), value.chunk(heads, -1), strict=True):
        logits = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        if allowed is not None:
            logits = logits.masked_fill(~allowed[:, None, :].bool(), float("-inf"))
        parts.append(logits.softmax(-1) @ v)
    return torch.cat(parts, -1)


class Authors:
    """The published forward pass on the published names."""

    def __init__(self, state):
        self.state = state

    def linear(self, x, name):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, x, name, eps):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def picture(self, pixels):
        at, state = "blip.visual_encoder", self.state
        x = F.conv2d(pixels, state[f"{at}.patch_embed.proj.weight"], state[f"{at}.patch_embed.proj.bias"], PATCH)
        x = torch.cat([state[f"{at}.cls_token"].expand(len(x), 1, -1), x.flatten(2).transpose(1, 2)], 1)
        x = x + state[f"{at}.pos_embed"]
        for i in range(2):
            block = f"{at}.blocks.{i}"
            q, k, v = self.linear(self.norm(x, f"{block}.norm1", 1e-6), f"{block}.attn.qkv").chunk(3, -1)
            x = x + self.linear(attention(q, k, v, HEADS["vision"]), f"{block}.attn.proj")
            hidden = F.gelu(self.linear(self.norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1"))
            x = x + self.linear(hidden, f"{block}.mlp.fc2")
        return self.norm(x, f"{at}.norm", 1e-6)

    def attend(self, x, other, name, allowed):
        q, k, v = (
            self.linear(rows, f"{name}.self.{part}") for part, rows in (("query", x), ("key", other), ("value", other))
        )
        out = self.linear(attention(q, k, v, HEADS["text"], allowed), f"{name}.output.dense")
        return self.norm(out + x, f"{name}.output.LayerNorm", 1e-12)

    def reward(self, ids, mask, pixels):
        at, patches = "blip.text_encoder", self.picture(pixels)
        x = self.state[f"{at}.embeddings.word_embeddings.weight"][ids]
        x = x + self.state[f"{at}.embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = self.norm(x, f"{at}.embeddings.LayerNorm", 1e-12)
        for i in range(3):
            layer = f"{at}.encoder.layer.{i}"
            x = self.attend(x, x, f"{layer}.attention", mask)
            x = self.attend(x, patches, f"{layer}.crossattention", None)
            out = self.linear(F.gelu(self.linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
            x = self.norm(out + x, f"{layer}.output.LayerNorm", 1e-12)
        x = x[:, 0]
        for number in (0, 2, 4, 6, 7):
            x = self.linear(x, f"mlp.layers.{number}")
        return (x - 0.16717362830052426) / 1.0333394966054072


def ids_and_mask(prompts):
    """[CLS] letters [SEP] and padding to 35, by hand."""
    table = {letter: i + 5 for i, letter in enumerate(LETTERS)}
    pieces = {f"##{letter}": i + 31 for i, letter in enumerate(LETTERS)}
    ids, mask = torch.zeros(len(prompts), 35, dtype=torch.long), torch.zeros(len(prompts), 35, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        letters = [(word[i], i) for word in prompt.split() for i in range(len(word))]
        tokens = [2, *(pieces[f"##{letter}"] if i else table[letter] for letter, i in letters)]
        tokens = [*tokens[:34], 3]
        ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
    return ids, mask


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    from transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("imagereward")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    state = authors_state(len(words))
    torch.save(state, folder / "ImageReward.pt")
    return folder, state


LONG = "a very long caption that goes on and on beyond the number of tokens"


def test_the_reward_is_the_authors_arithmetic(published):
    folder, state = published
    judge, prompts = judges.load(f"imagereward:{folder}"), [*PROMPTS[:3], LONG]
    ids, mask = ids_and_mask(prompts)
    with torch.no_grad():
        expected = Authors(state).reward(ids, mask, torch.cat([cropped(i) for i in SAMPLES])).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(judge.score(prompts, SAMPLES), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores_one_by_one(judge, prompts, SAMPLES), expected, rtol=1e-3, atol=1e-4)


def test_an_empty_prompt_has_a_reward(published):
    judge = judges.load(f"imagereward:{published[0] / 'ImageReward.pt'}")
    assert np.isfinite(judge.score([""], SAMPLES[:1])).all()


def test_the_reward_is_standardised_by_the_authors_mean_and_deviation(published):
    judge = judges.load(f"imagereward:{published[0]}")
    last = judge.head[-1]
    last.weight.data.zero_()
    last.bias.data.fill_(0.16717362830052426)
    np.testing.assert_allclose(judge.score(["a"], SAMPLES[:1]), 0, atol=1e-7)
    last.bias.data.fill_(0.16717362830052426 + 2 * 1.0333394966054072)
    np.testing.assert_allclose(judge.score(["a"], SAMPLES[:1]), 2, rtol=1e-6)


def test_the_conversion_takes_every_weight_that_has_a_part(published):
    _, state = published
    vision, text = to_blip(state)
    taken = sum(tensor.numel() for tensor in [*vision.values(), *text.values()])
    idle = ("mlp.", "blip.vision_proj", "blip.text_proj", "blip.text_encoder.embeddings.position_ids")
    assert taken == sum(tensor.numel() for name, tensor in state.items() if not name.startswith(idle))
    with pytest.raises(ModelError, match="Remedy"):
        to_blip({"blip.visual_encoder.head.weight": torch.zeros(1)})


def test_the_towers_keep_the_authors_epsilons(published):
    judge = judges.load(f"imagereward:{published[0]}")
    assert judge.vision.config.layer_norm_eps == 1e-6  # transformers' BLIP has 1e-5
    assert judge.text.config.layer_norm_eps == 1e-12


def test_bad_files_say_what_to_give(tmp_path):
    with pytest.raises(ModelError, match=r"Remedy: give the file or folder of 'ImageReward\.pt'"):
        judges.load(f"imagereward:{tmp_path}")
    torch.save({"mlp.layers.0.weight": torch.zeros(1, 1)}, tmp_path / "ImageReward.pt")
    with pytest.raises(ModelError, match=r"no BLIP.*Remedy"):
        judges.load(f"imagereward:{tmp_path}")
