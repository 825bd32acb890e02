"""VQAScore on a tiny InstructBLIP (encoder-decoder) and a tiny LLaVA (decoder-only), against their raw logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reward_fixtures import PATCH, PROMPTS, SIDE, pictures, scores_one_by_one, shaken

from penchant import judges
from penchant.errors import ModelError

SAMPLES = pictures((32, 32), (48, 48), (64, 64), (40, 40))
TEXT = "does this figure show please answer yes or no question a red cat two dogs in the snow Yes Does Please Question"
WORDS = [*TEXT.split(), "?", '"', ".", ":", "USER", "ASSISTANT"]
SPECIAL = ["<pad>", "</s>", "<unk>", "<s>", "[CLS]", "[SEP]", "<image>"]
VOCABULARY = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}


def tokenizer(first: str | None, last: str | None, **options):
    """Whole words; `first` and `last` are put around them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [token for token in (first, last) if token]
    template = f"{first or ''} $A {last or ''}".strip()
    core.post_processor = processors.TemplateProcessing(template, None, [(t, VOCABULARY[t]) for t in around])
    tokens = {"pad_token": "<pad>", "unk_token": "<unk>", "additional_special_tokens": ["<image>"]}
    return PreTrainedTokenizerFast(tokenizer_object=core, **tokens, **options)


VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": SIDE, "patch_size": PATCH}


@pytest.fixture(scope="module")
def instructblip(tmp_path_factory):
    import transformers as t

    folder, size = tmp_path_factory.mktemp("instructblip"), len(VOCABULARY)
    text = {"vocab_size": size, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    text |= {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "tie_word_embeddings": False}
    qformer = {"vocab_size": size, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    qformer |= {"intermediate_size": 32, "encoder_hidden_size": 16, "max_position_embeddings": 64}
    config = t.InstructBlipConfig(
        vision_config=VISION,
        qformer_config=qformer,
        text_config={"model_type": "t5", **text},
        num_query_tokens=4,
        image_token_index=VOCABULARY["<image>"],
    )
    model = shaken(t.InstructBlipForConditionalGeneration(config), gain=0.6)
    model.save_pretrained(folder)
    t.InstructBlipProcessor(
        t.BlipImageProcessorPil(size={"height": SIDE, "width": SIDE}),
        tokenizer(None, "</s>", eos_token="</s>"),
        tokenizer("[CLS]", "[SEP]"),
        num_query_tokens=4,
    ).save_pretrained(folder)
    return folder, model


def test_instructblip_gives_the_mean_log_probability_of_yes_and_the_end(instructblip):
    folder, model = instructblip
    judge = judges.load(f"vqascore:{folder}")
    expected = []
    for prompt, sample in zip(PROMPTS, SAMPLES, strict=True):
        question = f'Question: Does this figure show "{prompt}"? Please answer yes or no.'
        inputs = judge.processor(images=sample, text=question, return_tensors="pt")
        yes, end = VOCABULARY["yes"], VOCABULARY["</s>"]
        with torch.no_grad():
            # Two decoder steps: the start token (0) says "yes"; 0 and "yes" say the end.
            logits = model(**inputs, decoder_input_ids=torch.tensor([[0, yes]])).logits[0].double()
        probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
        expected.append([float((probabilities[0, yes] * probabilities[1, end]).sqrt())])
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(judge.score(PROMPTS, SAMPLES), expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(scores_one_by_one(judge, PROMPTS, SAMPLES), expected, rtol=1e-3, atol=1e-6)


TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    import transformers as t

    folder, size = tmp_path_factory.mktemp("llava"), len(VOCABULARY)
    text = {"vocab_size": size, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128}
    text |= {"pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 1}
    config = t.LlavaConfig(
        vision_config=t.CLIPVisionConfig(**VISION),
        text_config=t.LlamaConfig(**text),
        image_token_id=VOCABULARY["<image>"],
        vision_feature_layer=-1,
    )
    model = shaken(t.LlavaForConditionalGeneration(config), gain=0.6)
    model.save_pretrained(folder)
    t.LlavaProcessor(
        t.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE),
        tokenizer("<s>", None, bos_token="<s>", eos_token="</s>", padding_side="left"),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder, model


def test_a_decoder_gives_the_probability_that_it_goes_on_with_yes(llava):
    folder, model = llava
    judge = judges.load(f"vqascore:{folder}")
    expected = []
    for prompt, sample in zip(PROMPTS, SAMPLES, strict=True):
        text = f'USER: <image> Does this figure show "{prompt}"? Please answer yes or no. ASSISTANT:'
        inputs = judge.processor(images=sample, text=text, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1].double()
        expected.append([float(logits[VOCABULARY["Yes"]].exp() / logits.exp().sum())])
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(judge.score(PROMPTS, SAMPLES), expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(scores_one_by_one(judge, PROMPTS, SAMPLES), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", ["instructblip", "llava"])
def test_scores_are_probabilities_and_follow_the_caption(family, request):
    judge = judges.load(f"vqascore:{request.getfixturevalue(family)[0]}")
    scores = judge.score(["a red cat", "two dogs"], [SAMPLES[0]] * 2)
    assert ((scores > 0) & (scores < 1)).all()
    assert scores[0] != scores[1]


def test_a_bad_path_says_what_to_give(tmp_path):
    with pytest.raises(ModelError, match="Remedy: give"):
        judges.load(f"vqascore:{tmp_path}")
