"""Exact KL over the vocabulary, temperatures, and the value network: against whole softmaxes, written down plainly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from penchant.errors import ModelError, RecipeError
from penchant.likelihoods import Autoregressive
from penchant.likelihoods.token_divergence import TokenLogits, TokenStates
from penchant.likelihoods.token_log_probs import Head
from penchant.models.causal_lm import CausalLM
from penchant.models.spec import Policy
from penchant.references import Reference
from penchant.testing import language_tokenizer, tiny_language_model
from penchant.types import CandidateBatch, Draw

DRAW = Draw(key_B=("a", "b"))


def lm(name: str = "llama", seed: int = 0, *, lora: int = 0) -> CausalLM:
    model = CausalLM(tiny_language_model(name, seed).double(), language_tokenizer(), Policy(path="tiny"))
    if lora:
        model.add_lora(lora)
        model.bare.double()
        for n, p in model.bare.named_parameters():
            if "lora_B" in n:
                torch.nn.init.normal_(p, std=0.3, generator=torch.Generator().manual_seed(1))
    return model


def batch() -> CandidateBatch:
    g, length = torch.Generator().manual_seed(0), torch.tensor([[8, 3, 1], [5, 0, 7]])
    return CandidateBatch(
        group_ids=("a", "b"),
        sample_ids=(("x", "y", "z"),) * 2,
        prompts=("", ""),
        candidates={"tokens": torch.randint(4, 260, (2, 3, 8), generator=g), "length": length},
        condition={"prompt": torch.randint(4, 260, (2, 9), generator=g), "prompt_length": torch.tensor([9, 4])},
        scores_BK=torch.zeros(2, 3),
        mask_BK=length > 0,
    )


def plainly(one: CausalLM, other: CausalLM, temperature: float) -> Tensor:
    """KL [2, 3, 8], a completion at a time."""
    data, found = batch(), torch.zeros(2, 3, 8, dtype=torch.float64)
    for b in range(2):
        for k in range(3):
            p, n = int(data.condition["prompt_length"][b]), int(data.candidates["length"][b, k])
            row = torch.cat([data.condition["prompt"][b, :p], data.candidates["tokens"][b, k, :n]])[None]
            logp, logq = (
                (m.bare(row).logits[0, p - 1 : p + n - 1].double() / temperature).log_softmax(-1) for m in (one, other)
            )
            found[b, k, :n] = (logp.exp() * (logp - logq)).sum(-1)
    return found


@pytest.mark.parametrize("path", ["tree", "plain"])
@pytest.mark.parametrize(("name", "temperature"), [("llama", 1.0), ("llama", 0.5), ("cohere", 0.99)])
def test_the_divergence_is_kl_over_the_vocabulary_and_so_is_its_gradient(name, temperature, path):
    policy, other = lm(name, 0), lm(name, 1)
    likelihood = Autoregressive(temperature=temperature, path=path)
    weight = torch.randn(2, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def gradient(kl: Tensor) -> list[Tensor]:
        policy.bare.zero_grad()
        (kl * weight).sum().backward()
        return [p.grad.clone() for p in policy.bare.parameters() if p.grad is not None]

    scored = likelihood.log_prob(policy, batch(), DRAW, keep_output=True)
    with torch.no_grad():
        reference = likelihood.log_prob(other, batch(), DRAW, keep_output=True)
    kl = likelihood.divergence(scored, reference)
    expected = plainly(policy, other, temperature)
    # Norms and rotary embeddings compute in float32 even in a float64 model.
    assert_close(kl, expected, rtol=1e-5, atol=1e-7)
    assert float(kl.sum()) > 0.1
    for found, wanted in zip(gradient(kl), gradient(expected), strict=True):
        assert_close(found, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))
    assert (likelihood.divergence(scored, scored).abs() < 1e-12).all()


def test_a_softcapped_head_is_cooled_as_its_logits_are():
    g = torch.Generator().manual_seed(0)
    h, w, b = (torch.randn(*size, generator=g, dtype=torch.float64) for size in ((5, 4), (9, 4), (9,)))
    head = Head(weight_VD=w, bias_V=b, scale=0.7, softcap=2.0)
    logits = 2.0 * torch.tanh((h @ w.T + b) * 0.7 / 2.0)
    assert_close(head.cooled(0.5).log_softmax(h), (logits / 0.5).log_softmax(-1))
    other = Head(weight_VD=w.flip(0))
    states = TokenStates(hidden_ND=h, head=head), TokenStates(hidden_ND=h, head=other)
    whole = TokenLogits(logp=head.log_softmax(h)), TokenLogits(logp=other.log_softmax(h))
    assert_close(states[0].kl(states[1]), whole[0].kl(whole[1]))


@pytest.mark.parametrize(("kind", "lora"), [("start", 0), ("frozen", 0), ("adapter_off", 2), ("start", 2)])
def test_the_divergence_from_every_reference_is_zero_where_it_began_and_grows(kind, lora):
    policy, likelihood = lm(lora=lora), Autoregressive()
    reference = Reference(kind=kind).build(policy)

    def divergence() -> Tensor:
        scored = likelihood.log_prob(policy, batch(), DRAW, keep_output=True)
        return likelihood.divergence(scored, reference.log_prob(likelihood, policy, batch(), DRAW, keep_output=True))

    if kind != "adapter_off":
        assert (divergence().abs() < 1e-12).all()
    for parameter in policy.trainable_parameters():
        parameter.data.add_(0.05)
    kl = divergence()
    assert float(kl.detach().sum()) > 1e-3
    kl.sum().backward()
    assert any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in policy.trainable_parameters())


# --- the value network ------------------------------------------------------------------------------------------------


def test_a_value_network_begins_as_its_bias_and_sees_the_past_alone():
    model, likelihood = lm(), Autoregressive()
    with pytest.raises(ModelError, match="no value network"):
        likelihood.value(model, batch())
    count = len(model.trainable_parameters())
    model.add_value()
    assert model.value is not None
    assert len(model.trainable_parameters()) > 2 * count - 2
    model.value.head.double()
    with torch.no_grad():
        model.value.head.bias.fill_(0.7)
    data = batch()
    mask = likelihood.log_prob(model, data, DRAW).mask_BKT
    assert (likelihood.value(model, data)[mask] == 0.7).all()
    torch.nn.init.normal_(model.value.head.weight, generator=torch.Generator().manual_seed(0))
    before = likelihood.value(model, data)
    tokens = data.candidates["tokens"].clone()
    tokens[0, 0, 4] += 1
    after = likelihood.value(model, replace(data, candidates={**data.candidates, "tokens": tokens}))
    # V(s_t) stands before token t, so token 4 is first seen at step 5.
    assert_close(after[0, 0, :5], before[0, 0, :5])
    assert (after[0, 0, 5:] != before[0, 0, 5:]).all()


def test_the_value_networks_gradient_is_its_own_and_its_trunk_nobody_elses():
    model, likelihood = lm(), Autoregressive()
    model.add_value()
    assert model.value is not None
    model.value.double()
    torch.nn.init.normal_(model.value.head.weight)
    likelihood.value(model, batch()).sum().backward()
    assert all(p.grad is None for p in model.bare.parameters())
    assert any(p.grad is not None for p in model.value.trunk.parameters())
    shared = {p.data_ptr() for p in model.bare.parameters()} & {p.data_ptr() for p in model.value.parameters()}
    assert not shared


def test_a_value_network_is_refused_where_it_cannot_be(monkeypatch: Any):
    with pytest.raises(ModelError, match="trains in full"):
        lm(lora=2).add_value()
    with pytest.raises(ModelError, match="follows a tree mask"):
        lm("mamba").add_value()
    with pytest.raises(RecipeError, match="not a temperature"):
        Autoregressive(temperature=0.0)
