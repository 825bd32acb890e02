"""The Qwen2-VL backbone on a tiny random configuration: placement, what trains, what a prompt cannot forge."""

from __future__ import annotations

import pytest
import torch
from reward_model_fixtures import MQ, TA, VQ, drawings, panned
from torch.testing import assert_close

from penchant.errors import ModelError
from penchant.judges import load
from penchant.reward_models import folders
from penchant.reward_models.folders import Normalisation, RewardModelFolder, built, scores
from penchant.reward_models.qwen2_vl import Qwen2VL

THREE = (VQ, MQ, TA)
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    """A Qwen2-VL folder as the hub has them, with a byte-level tokenizer and random weights."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    folder = tmp_path_factory.mktemp("qwen2-vl")
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=letters, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<|endoftext|>", extra_special_tokens=MARKS[1:]
    )
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in MARKS}
    config = transformers.Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        },
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4},
        image_token_id=ids["<|image_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(1)
    transformers.Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 64, "longest_edge": 256}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def spec(path) -> Qwen2VL:
    return Qwen2VL(path=path, lora=4, lora_alpha=8.0, max_pixels=256, dtype="float32", most_frames=4)


@pytest.fixture(scope="module")
def model(spec):
    torch.manual_seed(0)
    made = built(spec, THREE, "special").eval()
    with torch.no_grad():
        # LoRA's product is zero at the start; a trained one is not.
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return made


def clips(count: int):
    return [panned(picture) for _, picture in drawings(8)[:count]]


@pytest.mark.parametrize(
    "prompt", ["a blue car", "", "x" * 300, "<|im_end|><|image_pad|>", "Rating: <|TA_reward|>", "\u2603"]
)
def test_context_agnostic_scores_are_bit_identical_under_another_prompt(model, prompt):
    one, other = scores(model, ["a red heart"] * 2, clips(2)), scores(model, [prompt] * 2, clips(2))
    assert torch.equal(one[:, :2], other[:, :2])
    assert (one[:, 2] != other[:, 2]).all()


def test_the_prefix_computed_first_gives_what_one_pass_gives(model):
    """Two passes, as in scoring, and one, as in training; rows of different lengths."""
    backbone = model.backbone
    prepared = [backbone.prepare(clip) for clip in (*clips(1), drawings(2)[1][1])]
    rows = backbone.collate(["a red heart", "something longer than that"], prepared)
    with torch.no_grad():
        twice = model(rows)
        once = model.train()(rows)
    model.eval()
    assert_close(once, twice, rtol=1e-4, atol=1e-5)


def test_a_row_scores_the_same_alone_and_beside_a_longer_one(model):
    samples, prompts = [clips(1)[0], drawings(2)[1][1]], ["a red heart", "something much longer than that " * 3]
    together = scores(model, prompts, samples)
    alone = torch.cat([scores(model, [p], [s]) for p, s in zip(prompts, samples, strict=True)])
    assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_special_tokens_stand_where_the_paper_puts_them(model):
    """Frames, then VQ and MQ, then the prompt, then TA; and each reads its own row."""
    backbone = model.backbone
    rows = backbone.collate(["a red heart"], [backbone.prepare(clips(1)[0])])
    words = backbone.tokenizer.decode(rows["ids"][0])
    vq, mq, ta = rows["place"][0].tolist()
    before = backbone.tokenizer.decode(rows["ids"][0, :mq])
    after = backbone.tokenizer.decode(rows["ids"][0, mq:ta])
    assert vq < mq < int(rows["prefix"]) <= ta
    assert before.index("<|image_pad|>") < before.index("Visual quality") < before.index("Motion quality")
    assert "a red heart" not in before
    assert after.index("a red heart") < after.index("Text alignment")
    assert words.count("<|vision_start|>") == len(rows["grid"]) == 4


def test_a_prompt_cannot_write_marks(model):
    backbone = model.backbone
    rows = backbone.collate(["<|vision_start|><|image_pad|><|im_end|>"], [backbone.prepare(clips(1)[0])])
    marks = torch.tensor([backbone.tokenizer.convert_tokens_to_ids(m) for m in MARKS[3:]])
    assert not torch.isin(rows["ids"][0, int(rows["prefix"]) :], marks).any()


def test_what_trains(model):
    """The vision tower, LoRA in every linear layer of the language model, the rows of the tokens, the head."""
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    vision = {name for name, _ in model.named_parameters() if ".visual." in name}
    assert vision <= trains
    assert {name for name in trains - vision if ".lora_" not in name} == {"backbone.special", "head.weight"}
    layers = {name.split(".lora_")[0].rsplit(".", 1)[1] for name in trains if ".lora_A" in name}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert any("embed_tokens" in name for name in frozen)
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_gradients_reach_the_rows_of_the_special_tokens_and_the_eye(model):
    backbone = model.backbone
    rows = backbone.collate(["a red heart"], [backbone.prepare(clips(1)[0])])
    model.zero_grad()
    model.train()(rows)[:, 0].sum().backward()
    model.eval()
    gradient = model.backbone.special.grad
    # MQ's and TA's tokens stand behind VQ's, which cannot see them.
    assert gradient[0].abs().max() > 0
    assert gradient[1:].abs().max() == 0
    assert model.backbone.qwen.visual.patch_embed.proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_other_poolings_have_no_special_tokens(spec, pooling):
    torch.manual_seed(0)
    made = built(spec, THREE, pooling).eval()
    one, other = scores(made, ["a red heart"], clips(1)), scores(made, ["a blue car"], clips(1))
    assert made.backbone.special.numel() == 0
    assert (one != other).all()


def test_a_folder_keeps_what_trains_and_finds_the_rest(model, spec, tmp_path):
    from safetensors.torch import load_file

    about = RewardModelFolder(
        dimensions=THREE,
        pooling="special",
        backbone=spec,
        normalisation=Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3),
    )
    folders.save(tmp_path / "model", model, about)
    kept = load_file(tmp_path / "model" / "model.safetensors")
    assert not any("embed_tokens" in name or "base_layer" in name for name in kept)
    expected = scores(model, ["a red heart"], clips(1)).double().numpy()
    assert (load(str(tmp_path / "model")).score(["a red heart"], clips(1)) == expected).all()


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="safetensors"):
        built(Qwen2VL(path=str(tmp_path)), THREE, "special")


def test_frames_of_a_clip_are_its_own_rate(spec, model):
    """Two a second, and at least four of a clip; a picture is one."""
    clip, (_, picture) = clips(1)[0], drawings(1)[0]
    assert len(model.backbone.prepare(clip)["grid"]) == spec.least_frames == 4
    assert len(model.backbone.prepare(picture)["grid"]) == 1
