"""TRL's chunked language-model head: values and gradients of every case."""

from __future__ import annotations

import pytest
import torch
from recorded import Recording
from torch.testing import assert_close

from penchant.likelihoods.token_log_probs import Head, token_log_probs

pytestmark = pytest.mark.oracle


def test_token_log_probs() -> None:
    z, seen = Recording("trl_token_logps"), set()
    target = z.tensor("shared.in.targets")
    for case, scalars in z.scalars.items():
        if "p" not in scalars or not z.has(f"{case}.grad.hidden"):
            continue
        seen.add(case)
        p = scalars["p"]
        hidden, weight = (z.tensor(f"shared.in.{name}").requires_grad_() for name in ("hidden", "weight"))
        bias = z.tensor("shared.in.bias").requires_grad_() if p["has_bias"] else None
        head = Head(
            weight_VD=weight,
            bias_V=bias,
            scale=p["logit_scale"] / p["temperature"],
            softcap=p["softcap"] / p["temperature"] if p["softcap"] else None,
        )
        logp, collision = token_log_probs(hidden, target, head, collision=True)
        assert_close(logp, z.tensor(f"{case}.out.log_probs"), rtol=2e-5, atol=1e-6)
        assert_close(collision, z.tensor(f"{case}.out.log_sum_sq_probs"), rtol=2e-5, atol=1e-6)
        (logp * z.tensor("shared.in.w")).sum().backward()
        for name, leaf in (("hidden", hidden), ("weight", weight), ("bias", bias)):
            if leaf is not None:
                assert_close(leaf.grad, z.tensor(f"{case}.grad.{name}"), rtol=1e-4, atol=2e-6)
    assert seen == {"plain", "temp", "softcap", "scale"}


@pytest.mark.parametrize(("case", "dtype"), [("sls_f32", torch.float32), ("sls_f64", torch.float64)])
def test_selective_log_softmax(case: str, dtype: torch.dtype) -> None:
    z = Recording("trl_token_logps")
    hidden, weight = (z.tensor(f"shared.in.{name}", dtype) for name in ("hidden", "weight"))
    logp, _ = token_log_probs(hidden, z.tensor("shared.in.targets"), Head(weight_VD=weight))
    assert_close(logp.view(4, 6), z.tensor(f"{case}.out.logps"), rtol=2e-5, atol=2e-6, check_dtype=False)
