"""MPS, against its mask and its cross model written out head by head."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reward_fixtures import (
    FEATURES,
    clip_config,
    clip_tokenizer,
    cropped,
    pictures,
    save_clip_inputs,
    scores_one_by_one,
    shaken,
)
from safetensors.torch import save_file

from penchant import judges
from penchant.errors import ModelError
from penchant.judges.mps import condition_mask

HEADS, WIDTH, LAYERS = 3, 8, 2
PROMPTS = ["a red cat", "0 9 zz 7", "a red cat", ""]  # digits and z are in no word of the condition
SAMPLES = pictures((40, 60), (32, 32), (64, 48), (33, 90))


def cross_weights() -> dict[str, torch.Tensor]:
    """Random weights under the authors' names."""
    shapes = {}
    for i in range(LAYERS):
        cross, own = f"cross_model.layers.{i}.0.fn", f"cross_model.layers.{i}.1.fn"
        shapes |= {
            f"{cross}.to_q.weight": (HEADS * WIDTH, FEATURES),
            f"{cross}.to_kv.weight": (2 * WIDTH, FEATURES),
            f"{cross}.to_out.weight": (FEATURES, HEADS * WIDTH),
            f"{cross}.ff.0.weight": (8 * FEATURES, FEATURES),
            f"{cross}.ff.2.weight": (FEATURES, 4 * FEATURES),
            f"{own}.fused_attn_ff_proj.weight": (HEADS * WIDTH + 2 * WIDTH + 8 * FEATURES, FEATURES),
            f"{own}.attn_out.weight": (FEATURES, HEADS * WIDTH),
            f"{own}.ff_out.1.weight": (FEATURES, 4 * FEATURES),
        }
    generator = torch.Generator().manual_seed(3)
    state = {n: torch.randn(shape, generator=generator) / math.sqrt(shape[1]) for n, shape in shapes.items()}
    for i in range(LAYERS):
        for part in range(2):
            at = f"cross_model.layers.{i}.{part}.fn"
            state[f"{at}.norm.weight"] = 1 + 0.3 * torch.randn(FEATURES, generator=generator)
            state[f"{at}.norm.bias"] = torch.zeros(FEATURES)
        state[f"{at}.rotary_emb.inv_freq"] = 1 / 10000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
    return state


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    from transformers import CLIPModel

    folder = tmp_path_factory.mktemp("mps")
    model, cross = shaken(CLIPModel(clip_config())), cross_weights()
    # Tokens far apart, so that the condition is near to some and not to others.
    model.text_model.embeddings.token_embedding.weight.data.mul_(20)
    save_clip_inputs(folder)
    save_file({**{f"model.{n}": t for n, t in model.state_dict().items()}, **cross}, folder / "model.safetensors")
    return folder, model, {name.removeprefix("cross_model."): tensor for name, tensor in cross.items()}


def layer_norm(x, weight):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def gated(x, into, out):
    value, gate = (x @ into.T).split(into.shape[0] // 2, -1)
    return (gate * gate.sigmoid() * value) @ out.T


def rotated(rows):
    """Rows [P, D]: the pair (j, j + D/2) at position p turned by p / 10000^(2j/D)."""
    turned, half = torch.empty_like(rows), rows.shape[1] // 2
    for p in range(len(rows)):
        for j in range(half):
            angle = p / 10000 ** (2 * j / rows.shape[1])
            turned[p, j] = rows[p, j] * math.cos(angle) - rows[p, j + half] * math.sin(angle)
            turned[p, j + half] = rows[p, j + half] * math.cos(angle) + rows[p, j] * math.sin(angle)
    return turned


def cross_model(weights, patches, text, allowed):
    """One picture [P, F] and one caption [T, F]."""
    for i in range(LAYERS):
        w = {n.removeprefix(f"layers.{i}.0.fn."): t for n, t in weights.items() if n.startswith(f"layers.{i}.0.")}
        x = layer_norm(patches, w["norm.weight"])
        key, value = (text @ w["to_kv.weight"].T).split(WIDTH, -1)
        heads = []
        for query in (x @ w["to_q.weight"].T).split(WIDTH, -1):
            logits = (query @ key.T / math.sqrt(WIDTH)).masked_fill(~allowed, float("-inf"))
            heads.append(logits.softmax(-1) @ value)
        patches = patches + torch.cat(heads, -1) @ w["to_out.weight"].T + gated(x, w["ff.0.weight"], w["ff.2.weight"])
        w = {n.removeprefix(f"layers.{i}.1.fn."): t for n, t in weights.items() if n.startswith(f"layers.{i}.1.")}
        x = layer_norm(patches, w["norm.weight"])
        fused = w["fused_attn_ff_proj.weight"]
        queries, rest = x @ fused[: HEADS * WIDTH].T, fused[HEADS * WIDTH :]
        key, value = rotated(x @ rest[:WIDTH].T), x @ rest[WIDTH : 2 * WIDTH].T
        heads = [(rotated(query) @ key.T / math.sqrt(WIDTH)).softmax(-1) @ value for query in queries.split(WIDTH, -1)]
        out = torch.cat(heads, -1) @ w["attn_out.weight"].T
        patches = patches + out + gated(x, rest[2 * WIDTH :], w["ff_out.1.weight"])
    return patches


CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, "
    "texture, quantity, attributes, position, number, location, word, things."
)


def tokens_of(model, text):
    ids = clip_tokenizer()([text], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    read = model.text_model(input_ids=ids)
    return model.text_projection(read.last_hidden_state)[0], model.text_projection(read.pooler_output)[0]


@torch.no_grad()
def score_by_hand(model, cross, prompt, picture) -> tuple[float, int]:
    text, end = tokens_of(model, prompt)
    condition, _ = tokens_of(model, CONDITION)
    nearest = torch.stack([max(token @ other for other in condition) for token in text])
    allowed = nearest / nearest.max() > 0.3
    patches = model.visual_projection(model.vision_model(cropped(picture)).last_hidden_state)[0]
    seen = cross_model(cross, patches, text, allowed)[0]
    return float(model.logit_scale.exp() * (seen @ end) / (seen.norm() * end.norm())), int(allowed.sum())


def test_the_score_is_the_authors_arithmetic(published):
    folder, model, cross = published
    judge = judges.load(f"mps:{folder}")
    by_hand = [score_by_hand(model, cross, p, s) for p, s in zip(PROMPTS, SAMPLES, strict=True)]
    expected = np.array([[score] for score, _ in by_hand])
    assert judge.dimensions == ("overall",)
    assert any(0 < allowed < 77 for _, allowed in by_hand), "the mask should hide something"
    np.testing.assert_allclose(judge.score(PROMPTS, SAMPLES), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores_one_by_one(judge, PROMPTS, SAMPLES), expected, rtol=1e-3, atol=1e-4)


def test_the_mask_keeps_tokens_near_any_word_of_the_condition():
    condition = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    text = torch.tensor(
        [[[1.0, 0.0], [0.0, 0.31], [0.29, -1.0], [-1.0, -1.0]], [[5.0, 0.0], [1.4, 0.0], [0, 1.6], [0, 0]]]
    )
    assert condition_mask(text, condition).tolist() == [[True, True, False, False], [True, False, True, False]]


def test_the_copy_of_imscore_has_a_prefix(published, tmp_path):
    from safetensors.torch import load_file

    folder, _, _ = published
    save_clip_inputs(tmp_path)
    state = load_file(folder / "model.safetensors")
    save_file({f"mps.{name}": tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
    ours, theirs = judges.load(f"mps:{folder}"), judges.load(f"mps:{tmp_path / 'model.safetensors'}")
    np.testing.assert_array_equal(theirs.score(PROMPTS, SAMPLES), ours.score(PROMPTS, SAMPLES))


def test_bad_files_say_what_to_give(tmp_path):
    with pytest.raises(ModelError, match=r"Remedy: give the file or folder of 'model\.safetensors'"):
        judges.load(f"mps:{tmp_path}")
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"no MPS.*Remedy"):
        judges.load(f"mps:{tmp_path}")


def test_the_authors_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "MPS_overall_checkpoint.pth")
    with pytest.raises(ModelError, match=r"more than tensors.*save its state_dict\(\) as safetensors"):
        judges.load(f"mps:{tmp_path / 'MPS_overall_checkpoint.pth'}")
