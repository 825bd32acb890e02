"""The tree path equals the plain one for every family that is said to follow masks, and the others are not trusted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from penchant.likelihoods import Autoregressive
from penchant.likelihoods.packing import Packed
from penchant.models.causal_lm import CausalLM
from penchant.models.language_scoring import FOLLOW_MASKS
from penchant.models.spec import Policy
from penchant.testing import LANGUAGE_MODELS, language_tokenizer, tiny_language_model
from penchant.types import CandidateBatch, Draw, LogProbs

# Float64 shows a slip at once, but these two compute parts of themselves in float32 or refuse float64.
FLOAT32 = {"mixtral", "gemma2"}
DRAW = Draw(key_B=("", "", ""))


def loaded(name: str) -> CausalLM:
    model = tiny_language_model(name)
    return CausalLM(model if name in FLOAT32 else model.double(), language_tokenizer(), Policy(path="tiny"))


def batch(seed: int = 0) -> CandidateBatch:
    """Three groups of up to three candidates; one is missing, one is a single token, prompts differ in length."""
    g = torch.Generator().manual_seed(seed)
    length = torch.tensor([[8, 3, 1], [5, 0, 7], [2, 6, 4]])
    return CandidateBatch(
        group_ids=("a", "b", "c"),
        sample_ids=(("x", "y", "z"),) * 3,
        prompts=("", "", ""),
        candidates={"tokens": torch.randint(4, 260, (3, 3, 8), generator=g), "length": length},
        condition={
            "prompt": torch.randint(4, 260, (3, 9), generator=g),
            "prompt_length": torch.tensor([9, 4, 6]),
        },
        scores_BK=torch.zeros(3, 3),
        mask_BK=length > 0,
    )


def scored(lm: CausalLM, likelihood: Autoregressive) -> tuple[LogProbs, dict[str, torch.Tensor]]:
    found = likelihood.log_prob(lm, batch(), DRAW, keep_output=True)
    weight = torch.randn(3, 3, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    lm.bare.zero_grad()
    (found.per_step() * weight).sum().backward()
    grads = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in lm.bare.named_parameters()}
    return found, grads


@pytest.mark.parametrize("name", sorted(FOLLOW_MASKS))
def test_the_tree_path_equals_the_plain_path(name: str) -> None:
    lm = loaded(name)
    assert lm.follows_masks
    plain, plain_grads = scored(lm, Autoregressive(path="plain"))
    exact = {"rtol": 1e-5, "atol": 2e-6} if name in FLOAT32 else {"rtol": 1e-9, "atol": 1e-12}
    for row_tokens in (1, 40, 1000):
        tree, tree_grads = scored(lm, Autoregressive(row_tokens=row_tokens))
        assert_close(tree.per_step(), plain.per_step(), **exact)
        assert_close(
            torch.where(tree.mask_BKT, tree.collision_BKT, 0),
            torch.where(plain.mask_BKT, plain.collision_BKT, 0),
            **exact,
        )
        for parameter, grad in plain_grads.items():
            # Norms and rotary embeddings compute in float32 even in a float64 model.
            assert_close(tree_grads[parameter], grad, rtol=1e-5, atol=1e-5 * float(grad.abs().max()))


def test_every_tiny_model_but_the_recurrent_one_follows_masks() -> None:
    assert set(LANGUAGE_MODELS) - FOLLOW_MASKS == {"mamba"}


def test_a_recurrent_model_is_scored_on_the_plain_path() -> None:
    lm = loaded("mamba")
    assert not lm.follows_masks
    assert "plain path" in lm.notes()[0]
    tree, plain = (Autoregressive(path=path).log_prob(lm, batch(), DRAW) for path in ("tree", "plain"))
    assert bool((tree.per_step() == plain.per_step()).all())


def test_log_probs_are_those_of_the_model_itself() -> None:
    lm, found = loaded("llama"), batch()
    log_probs = Autoregressive().log_prob(lm, found, DRAW)
    prompt, answer = found.condition["prompt"][1, :4], found.candidates["tokens"][1, 2, :7]
    logits = lm.bare(torch.cat([prompt, answer])[None]).logits[0, 3:-1]
    assert_close(log_probs.step_BKT[1, 2, :7], logits.log_softmax(-1)[torch.arange(7), answer])
    assert log_probs.mask_BKT[1].sum(-1).tolist() == [5, 0, 7]
    assert float(log_probs.total()[1, 1].detach()) == 0


def test_an_adapter_in_every_linear_layer_keeps_the_paths_equal() -> None:
    lm = loaded("llama")
    lm.add_lora(2)
    for name, parameter in lm.bare.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.1
    lm.bare.double()
    tree, grads = scored(lm, Autoregressive())
    plain, plain_grads = scored(lm, Autoregressive(path="plain"))
    assert_close(tree.per_step(), plain.per_step())
    trained = [n for n, p in lm.bare.named_parameters() if p.requires_grad]
    assert trained
    assert all(".lora_" in name for name in trained)
    for name in trained:
        assert_close(grads[name], plain_grads[name], rtol=1e-5, atol=1e-5 * float(plain_grads[name].abs().max()))


def test_the_head_sees_completion_tokens_only(monkeypatch) -> None:
    lm, seen = loaded("llama"), []
    forward = lm.module.forward

    def watched(work: Any, collision: bool) -> Any:
        seen.append(work)
        return forward(work, collision)

    monkeypatch.setattr(lm.module, "forward", watched)
    Autoregressive().log_prob(lm, batch(), DRAW)
    assert isinstance(seen[0], Packed)
    assert len(seen[0].target_N) == int(batch().candidates["length"].sum())
    # 19 prompt tokens, once each, and every completion but its last token.
    assert sum(len(row.tokens_L) for row in seen[0].rows) == 19 + 28


def test_under_autocast_the_head_multiplies_in_half_precision_and_sums_in_float32() -> None:
    lm = CausalLM(tiny_language_model("llama"), language_tokenizer(), Policy(path="tiny"))
    exact = Autoregressive().log_prob(lm, batch(), DRAW)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = Autoregressive().log_prob(lm, batch(), DRAW)
    rough.total().sum().backward()
    assert rough.step_BKT.dtype == torch.float32
    assert not torch.equal(rough.step_BKT, exact.step_BKT)
    assert_close(rough.per_step(), exact.per_step(), rtol=0, atol=0.1)
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in lm.bare.parameters())
