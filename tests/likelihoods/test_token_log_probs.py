"""The tiled head: equal to what it replaces, in values and gradients, and never more than a tile of logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from penchant.likelihoods import token_log_probs as module
from penchant.likelihoods.token_log_probs import Head, token_log_probs


def _plain(hidden: Tensor, target: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    logits = hidden @ head.weight_VD.T
    logits = (logits if head.bias_V is None else logits + head.bias_V) * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    logp = logits.log_softmax(-1)
    return logp.gather(-1, target[:, None])[:, 0], (2 * logp).logsumexp(-1)


def _case(dtype: torch.dtype = torch.float64, rows: int = 37, width: int = 9, vocabulary: int = 50) -> tuple:
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=g, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocabulary, width, generator=g, dtype=dtype, requires_grad=True)
    bias = torch.randn(vocabulary, generator=g, dtype=dtype, requires_grad=True)
    target = torch.randint(vocabulary, (rows,), generator=g)
    return hidden, weight, bias, target, torch.randn(rows, generator=g, dtype=dtype)


# No token's probabilities are kept for the backward pass, some tokens', or all.
@pytest.mark.parametrize("kept", [0, 50 * 20, 1 << 26])
@pytest.mark.parametrize("tile", [1, 50 * 5, 1 << 23])
@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"softcap": 2.0}, {"scale": 1.7, "softcap": 3.0}])
@pytest.mark.parametrize("biased", [False, True])
def test_equals_a_whole_log_softmax(monkeypatch, kept: int, tile: int, options: dict, biased: bool) -> None:
    monkeypatch.setattr(module, "_TILE", tile)
    monkeypatch.setattr(module, "_KEPT", kept)
    hidden, weight, bias, target, upstream = _case()
    leaves = [hidden, weight, *([bias] if biased else [])]
    head = Head(weight_VD=weight, bias_V=bias if biased else None, **options)
    logp, collision = token_log_probs(hidden, target, head, collision=True)
    expected, expected_collision = _plain(hidden, target, head)
    assert_close(logp, expected)
    assert_close(collision, expected_collision)
    assert collision is not None
    assert not collision.requires_grad
    ours = torch.autograd.grad((logp * upstream).sum(), leaves)
    theirs = torch.autograd.grad((expected * upstream).sum(), leaves)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b)


def test_its_gradient_is_that_of_finite_differences() -> None:
    hidden, weight, bias, target, _ = _case(rows=3, width=4, vocabulary=6)
    assert torch.autograd.gradcheck(
        lambda h, w, b: token_log_probs(h, target, Head(weight_VD=w, bias_V=b, softcap=2.0))[0], (hidden, weight, bias)
    )


def test_a_frozen_head_costs_no_gradient() -> None:
    hidden, weight, _, target, upstream = _case()
    logp, _ = token_log_probs(hidden, target, Head(weight_VD=weight.detach()))
    (logp * upstream).sum().backward()
    expected = torch.autograd.grad((_plain(hidden, target, Head(weight_VD=weight))[0] * upstream).sum(), hidden)[0]
    assert_close(hidden.grad, expected)
    assert weight.grad is None


def test_half_precision_is_summed_in_float32() -> None:
    hidden, weight, _, target, _ = _case(torch.float32)
    half, head = hidden.detach().bfloat16(), weight.detach().bfloat16()
    logp, _ = token_log_probs(half, target, Head(weight_VD=head))
    assert logp.dtype == torch.float32
    exact, _ = _plain(half.double(), target, Head(weight_VD=head.double()))
    # One rounding of each logit to bfloat16: half of 2^-7 relative, logits up to about 10.
    assert_close(logp.double(), exact, atol=0.08, rtol=0)


def test_extreme_logits_stay_finite() -> None:
    hidden, weight, _, target, _ = _case()
    logp, _ = token_log_probs(1e4 * hidden, target, Head(weight_VD=weight))
    logp.sum().backward()
    assert bool(logp.isfinite().all())
    assert bool(hidden.grad.isfinite().all())
    assert bool(weight.grad.isfinite().all())


def test_kept_probabilities_belong_to_one_graph(monkeypatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 50 * 20)
    hidden, weight, _, target, upstream = _case()
    first, _ = token_log_probs(hidden, target, Head(weight_VD=weight))
    second, _ = token_log_probs(2 * hidden, target, Head(weight_VD=weight))
    expected = torch.autograd.grad(
        (_plain(hidden, target, Head(weight_VD=weight))[0] * upstream).sum(), [hidden, weight]
    )
    (second * upstream).sum().backward()
    # The second time they have been used up, and are made again.
    for _ in range(2):
        found = torch.autograd.grad((first * upstream).sum(), [hidden, weight], retain_graph=True)
        for a, b in zip(found, expected, strict=True):
            assert_close(a, b)


def test_memory_is_bounded_whatever_the_batch(monkeypatch) -> None:
    monkeypatch.setattr(module, "_TILE", 1 << 20)
    monkeypatch.setattr(module, "_KEPT", 1 << 21)
    hidden, weight, _, target, _ = _case(torch.float32, rows=1024, width=8, vocabulary=16384)
    module._buffers.clear()
    token_log_probs(hidden, target, Head(weight_VD=weight))[0].sum().backward()
    held = {name: buffer.numel() for (name, *_), buffer in module._buffers.items()}
    assert held == {"logits": 1 << 20, "p": 1 << 20, "kept": 1 << 21}
    assert hidden.shape[0] * weight.shape[0] == 1 << 24
