"""KL divergence of a language model from its base: nothing for nothing, and the value that the vocabulary gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import penchant
from penchant.evaluate.sequence_kl import log_probs, sequence_kl
from penchant.evaluate.sheet import Sheet
from penchant.feedback.groups import Prompt
from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.testing import build

PROMPTS = (Prompt(text="a fox"), Prompt(text="what?", messages=({"role": "user", "content": "why so?"},)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build("llama", tmp_path_factory.mktemp("models") / "llama")


def spec(folder: Path, **options) -> Policy:
    return Policy(path=str(folder), **options)


def sheet(model, seeds: int, decoding: Decoding) -> Sheet:
    rows = [prompt for prompt in PROMPTS for _ in range(seeds)]
    samples = model.complete(rows, seeds=range(len(rows)), decoding=decoding)
    return Sheet(captions="held-out", prompts=PROMPTS, seeds=seeds, samples=tuple(samples), modality="text")


def moved(model, size: float = 0.03):
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.trainable_parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return model


def test_the_log_probs_are_those_that_the_texts_were_drawn_with(folder):
    model = penchant.load(spec(folder))
    drawn = sheet(model, 3, Decoding(max_tokens=12))
    expected = np.reshape([sum(sample.log_probs) for sample in drawn.samples], drawn.shape)
    np.testing.assert_allclose(log_probs(drawn, model), expected, atol=1e-4)


@pytest.mark.parametrize("lora", [0, 4])
def test_an_untrained_policy_has_not_moved_at_all(folder, lora):
    policy = spec(folder, lora=lora)
    model = penchant.load(policy)
    found = sequence_kl(sheet(model, 2, Decoding(max_tokens=6)), model, policy)
    assert (found.nats, found.error, found.per_token, found.texts) == (0.0, 0.0, 0.0, 4)


@pytest.mark.parametrize("lora", [0, 4])
def test_of_one_token_it_is_the_sum_over_the_vocabulary(folder, lora):
    policy = spec(folder, lora=lora)
    base, model = penchant.load(policy), moved(penchant.load(policy), 0.3 if lora else 0.05)
    found = sequence_kl(sheet(model, 1000, Decoding(max_tokens=1)), model, policy)
    exact = []
    for prompt in PROMPTS:
        tokens = torch.tensor([model.prompt_tokens(prompt)])
        p, q = (torch.log_softmax(m.bare(tokens).logits[0, -1].double(), -1) for m in (model, base))
        exact.append(float((p.exp() * (p - q)).sum().detach()))
    assert np.mean(exact) > 0.02
    assert found.nats == pytest.approx(np.mean(exact), rel=0.15)
    assert found.per_token == pytest.approx(found.nats)


def test_the_base_of_a_continued_adapter_is_that_adapter_and_not_the_model_under_it(folder, tmp_path):
    first = moved(penchant.load(spec(folder, lora=4)), 0.3)
    first.save(tmp_path / "first")
    policy = spec(folder, adapter=str(tmp_path / "first"))
    model = penchant.load(policy)
    drawn = sheet(model, 2, Decoding(max_tokens=6))
    assert sequence_kl(drawn, model, policy).nats == 0
    assert sequence_kl(drawn, model, spec(folder, lora=4)).nats != 0


def test_texts_without_known_tokens_are_not_measured(folder):
    policy = spec(folder)
    model = penchant.load(policy)
    drawn = sheet(model, 2, Decoding(max_tokens=3))
    unknown = replace(drawn, samples=tuple(replace(sample, tokens=()) for sample in drawn.samples))
    assert sequence_kl(unknown, model, policy) is None
