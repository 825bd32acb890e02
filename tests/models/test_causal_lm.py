"""A language model as an adapter: what is tokenised, saved, loaded and sampled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import penchant
from penchant.errors import ModelError
from penchant.feedback.groups import Candidate, Prompt
from penchant.models.causal_lm import CausalLM
from penchant.models.completion import Decoding
from penchant.models.decoding import _trunks, choose
from penchant.models.spec import Policy
from penchant.testing import build, language_tokenizer, tiny_language_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def lm(folder: Path) -> CausalLM:
    return penchant.load(folder)


def read(lm: CausalLM, ids: list[int]) -> str:
    return lm.tokenizer.decode(ids)


# --- texts and tokens ----------------------------------------------------------------------------------------------


def test_a_prompt_and_its_answer_together_are_the_chat_template(lm: CausalLM) -> None:
    question, answer = "why is the sky blue?", "it scatters."
    prompt = lm.prompt_tokens(Prompt(text=question))
    completion = lm.completion_tokens(Candidate(text=answer))
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    whole = lm.tokenizer.apply_chat_template(messages, tokenize=False)
    assert read(lm, prompt + completion) + "\n" == whole
    assert completion[-1] == lm.tokenizer.eos_token_id


def test_a_conversation_keeps_its_turns_and_an_opening_begins_the_answer(lm: CausalLM) -> None:
    turns = (
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "go"},
    )
    text = read(lm, lm.prompt_tokens(Prompt(text="go", messages=turns, opening="Well")))
    assert text.endswith("<start>user\ngo<end>\n<start>assistant\nWell")
    assert text.count("<start>") == 4


def test_without_a_template_texts_are_taken_as_they_are(folder: Path) -> None:
    plain = penchant.load(folder, chat="plain")
    assert plain.prompt_tokens(Prompt(text="ab"))[0] == plain.tokenizer.bos_token_id
    assert read(plain, plain.prompt_tokens(Prompt(text="ab"))) == "<start>ab"
    assert read(plain, plain.completion_tokens(Candidate(text="cd"))) == "cd<end>"


def test_texts_over_the_limit_are_cut_and_counted(folder: Path) -> None:
    short = penchant.load(folder, chat="plain", max_prompt=4, max_completion=3)
    assert read(short, short.prompt_tokens(Prompt(text="abcdef"))) == "cdef"
    assert read(short, short.completion_tokens(Candidate(text="abcdef"))) == "abc"
    assert short.notes() == ["1 prompts were over the limit and cut", "1 completions were over the limit and cut"]


def test_a_picture_is_refused_by_name(lm: CausalLM) -> None:
    from penchant.feedback.groups import Media

    with pytest.raises(ModelError, match="learns from texts"):
        lm.completion_tokens(Candidate(media=Media.of(b"\x89PNG\r\n\x1a\n")))


def test_a_template_that_hides_thoughts_is_refused(folder: Path) -> None:
    odd = penchant.load(folder)
    odd.tokenizer.chat_template = odd.tokenizer.chat_template.replace(
        "assistant\n{% endif", "assistant\n<think>{% endif"
    )
    with pytest.raises(ModelError, match="does not begin as its own prompt"):
        odd.completion_tokens(Candidate(text="x"))


# --- loading and saving --------------------------------------------------------------------------------------------


def test_an_adapter_goes_through_its_folder_and_into_the_weights(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = penchant.load(folder, lora=2)
    trained = model.trainable_parameters()
    with torch.no_grad():
        for i, parameter in enumerate(trained):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    model.save(tmp_path / "adapter")
    model.save_merged(tmp_path / "merged")
    again = penchant.load(folder, adapter=str(tmp_path / "adapter"))
    ids = torch.tensor([[5, 9, 40, 41]])
    expected = model.bare(ids).logits
    assert_close(again.bare(ids).logits, expected)
    assert len(again.trainable_parameters()) == len(trained)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert type(merged) is type(model.bare)
    assert_close(merged(ids).logits, expected, rtol=1e-4, atol=1e-5)
    base = penchant.load(folder).bare(ids).logits
    assert float((merged(ids).logits - base).detach().abs().max()) > 1e-3
    # The model that was merged still carries its adapter.
    assert_close(model.bare(ids).logits, expected, rtol=0, atol=0)


def test_a_full_model_goes_through_its_folder(folder: Path, tmp_path: Path) -> None:
    model = penchant.load(folder)
    with torch.no_grad():
        model.trainable_parameters()[0].mul_(1.01)
    model.save(tmp_path / "full")
    assert penchant.load(tmp_path / "full").fingerprint() == model.fingerprint() != penchant.load(folder).fingerprint()


def test_the_adapter_is_left_out_of_the_base_fingerprint(folder: Path) -> None:
    adapted = penchant.load(folder, lora=2)
    assert adapted.fingerprint(adapters=False) == penchant.load(folder).fingerprint()
    assert adapted.fingerprint() != adapted.fingerprint(adapters=False)


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="no safetensors"):
        penchant.load(tmp_path)


def test_full_weights_train_in_float32_whatever_the_computation(folder: Path) -> None:
    full, adapted = penchant.load(folder, dtype="bfloat16"), penchant.load(folder, dtype="bfloat16", lora=2)
    assert {p.dtype for p in full.bare.parameters()} == {torch.float32}
    assert {p.dtype for p in adapted.bare.parameters()} == {torch.float32, torch.bfloat16}
    assert {p.dtype for p in adapted.trainable_parameters()} == {torch.float32}


# --- sampling ------------------------------------------------------------------------------------------------------

ALIKE = [Prompt(text="the cat sat on the mat and " + word) for word in ("slept", "slept", "ate fish", "ran")]
OTHERS = [Prompt(text="x"), Prompt(text="quite another question", opening="It")]
HOT = Decoding(max_tokens=20, temperature=0.7, top_p=0.9)


def test_greedy_tokens_are_those_of_transformers(lm: CausalLM) -> None:
    for prompt, found in zip(
        ALIKE + OTHERS,
        lm.complete(ALIKE + OTHERS, seeds=range(6), decoding=Decoding(max_tokens=20, temperature=0.0)),
        strict=True,
    ):
        ids = torch.tensor([lm.prompt_tokens(prompt)])
        expected = lm.bare.generate(ids, do_sample=False, max_new_tokens=20, pad_token_id=1)[0, ids.shape[1] :]
        assert found.tokens == tuple(expected.tolist())


def test_a_row_does_not_depend_on_its_batch(lm: CausalLM) -> None:
    together = lm.complete(ALIKE + OTHERS, seeds=range(6), decoding=HOT)
    alone = [lm.complete([p], seeds=[i], decoding=HOT)[0] for i, p in enumerate(ALIKE + OTHERS)]
    assert [row.tokens for row in together] == [row.tokens for row in alone]
    assert together[0].tokens != together[1].tokens, "another seed, another completion"


def test_log_probs_are_the_models_at_the_sampling_temperature(lm: CausalLM) -> None:
    for prompt, found in zip(ALIKE, lm.complete(ALIKE, seeds=range(4), decoding=HOT), strict=True):
        before = lm.prompt_tokens(prompt)
        logits = lm.bare(torch.tensor([before + list(found.tokens)])).logits[0, len(before) - 1 : -1] / 0.7
        expected = logits.log_softmax(-1)[torch.arange(len(found.tokens)), list(found.tokens)]
        assert_close(torch.tensor(found.log_probs), expected.detach(), rtol=1e-4, atol=1e-5)


def test_samples_follow_the_distribution() -> None:
    logits = torch.log(torch.tensor([0.1, 0.0, 0.6, 0.3])).expand(40_000, 4)
    uniform = torch.rand(40_000, generator=torch.Generator().manual_seed(0))
    share = choose(logits, uniform, Decoding())[0].bincount(minlength=4) / 40_000
    # Five standard deviations of a share of 40,000 draws.
    assert_close(share, torch.tensor([0.1, 0.0, 0.6, 0.3]), atol=5 * 0.5 / 200, rtol=0)
    nucleus = choose(logits, uniform, Decoding(top_p=0.85))[0].bincount(minlength=4) / 40_000
    assert_close(nucleus, torch.tensor([0.0, 0.0, 2 / 3, 1 / 3]), atol=5 * 0.5 / 200, rtol=0)


def test_a_stop_text_ends_and_is_cut(lm: CausalLM) -> None:
    free = lm.complete(ALIKE, seeds=range(4), decoding=HOT)
    mark = free[0].text[4:6]
    stopped = lm.complete(ALIKE, seeds=range(4), decoding=replace(HOT, stop=(mark,)))
    assert stopped[0].finished
    assert stopped[0].text == free[0].text[: free[0].text.index(mark)]


def test_prompts_that_begin_alike_share_a_trunk() -> None:
    base = tuple(range(100, 140))
    unique = sorted([(*base[:20], 5), (*base[:30], 5), (*base, 5), (1, 2, 3)])
    trunks, fork = _trunks(unique, True)
    assert [unique[t] for t in trunks] == [(1, 2, 3), (*base, 5)]
    taken = {prompt: n for prompt, (_, n) in zip(unique, fork, strict=True)}
    assert taken == {(*base[:20], 5): 20, (*base[:30], 5): 30, (*base, 5): 40, (1, 2, 3): 2}
    assert _trunks(unique, False)[0] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["mistral", "gpt2", "qwen3", "gemma3_text", "mamba"])
def test_other_families_complete_as_transformers_does(name: str) -> None:
    lm = CausalLM(tiny_language_model(name), language_tokenizer(), Policy(path="tiny"))
    for prompt, found in zip(
        ALIKE, lm.complete(ALIKE, seeds=range(4), decoding=Decoding(max_tokens=8, temperature=0.0)), strict=True
    ):
        ids = torch.tensor([lm.prompt_tokens(prompt)])
        expected = lm.bare.generate(ids, do_sample=False, max_new_tokens=8, pad_token_id=1)[0, ids.shape[1] :]
        assert found.tokens == tuple(expected.tolist())
