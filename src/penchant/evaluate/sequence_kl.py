"""KL divergence of a language model from its base, measured on the texts that it writes.

    KL(policy || base) = E_{y ~ policy} [ log policy(y | x) - log base(y | x) ]

The mean of that log-ratio over sampled texts is unbiased and needs no more than both models' log-probs of them (the
estimator k1 of Schulman's "Approximating KL divergence", 2020; per-token forms with less variance sum over the whole
vocabulary). Both models score the same tokens in the same way, so an unchanged policy has exactly 0.

Ours:

1. Both are scored at temperature 1 and without top-p, whatever the texts were drawn with. Only at temperature 1 and
   top-p 1 is the mean a divergence; otherwise it is the log-ratio on what the policy says in use.
2. A text that ran into the limit of tokens counts as far as it goes.
3. The base is the policy with its adapter off where the recipe put one on; else it is loaded anew beside the policy. On
   a GPU without room for that nothing is measured, and the report shows the distance of features alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from penchant.evaluate.drift import SequenceKL
from penchant.evaluate.sheet import Sheet
from penchant.likelihoods.autoregressive import Autoregressive
from penchant.models.completion import Completion
from penchant.models.spec import Policy
from penchant.references.adapter_off import adapters_off
from penchant.types import CandidateBatch

_CHUNK = 8
# Weights need room beside them for what a forward pass holds.
_ROOM = 1.5


def sequence_kl(sheet: Sheet, model: Any, spec: Policy) -> SequenceKL | None:
    """The KL divergence of `model` from its base on the texts of its own sheet.

    Args:
        sheet: completions of `model`.
        model: the policy.
        spec: the policy as the recipe describes it: its base.

    Returns:
        None where tokens are not known, or the base does not fit beside the policy.
    """
    if not all(sample.tokens for sample in sheet.samples):
        return None
    policy_PS = log_probs(sheet, model)
    with _base(model, spec) as base:
        if base is None:
            return None
        ratio_PS = policy_PS - log_probs(sheet, base)
    ratio_P, tokens = ratio_PS.mean(-1), sum(len(sample.tokens) for sample in sheet.samples)
    return SequenceKL(
        nats=float(ratio_PS.mean()),
        error=float(ratio_P.std(ddof=1) / np.sqrt(len(ratio_P))) if len(ratio_P) > 1 else float("nan"),
        per_token=float(ratio_PS.sum() / tokens),
        texts=ratio_PS.size,
    )


@torch.no_grad()
def log_probs(sheet: Sheet, model: Any) -> np.ndarray:
    """log p(text | prompt) of every sample under `model`, float64 [P, S]; a prompt is computed once for its seeds."""
    prompts, seeds = sheet.shape
    likelihood, found = Autoregressive(), []
    for start in range(0, prompts, _CHUNK):
        stop = min(start + _CHUNK, prompts)
        asked = model.encode_asked(sheet.prompts[start:stop])
        batch = _batch(asked, sheet.samples[start * seeds : stop * seeds], seeds).to(model.device)
        scored = likelihood.log_prob(model, batch, likelihood.draw(batch, seed=0, epoch=0))
        found.append(scored.per_step().double().sum(-1).cpu().numpy())
    return np.concatenate(found)


def _batch(asked: Sequence[dict[str, torch.Tensor]], samples: Sequence[Completion], seeds: int) -> CandidateBatch:
    """B prompts with their completions, padded at the end."""
    B, width = len(asked), max(len(sample.tokens) for sample in samples)
    tokens = torch.zeros(B, seeds, width, dtype=torch.long)
    length = torch.zeros(B, seeds, dtype=torch.long)
    for index, sample in enumerate(samples):
        b, s = divmod(index, seeds)
        tokens[b, s, : len(sample.tokens)] = torch.tensor(sample.tokens)
        length[b, s] = len(sample.tokens)
    prompt_length = torch.stack([row["prompt_length"] for row in asked])
    prompt = torch.zeros(B, int(prompt_length.max()), dtype=torch.long)
    for b, row in enumerate(asked):
        prompt[b, : len(row["prompt"])] = row["prompt"]
    return CandidateBatch(
        group_ids=("",) * B,
        sample_ids=(("",) * seeds,) * B,
        prompts=("",) * B,
        candidates={"tokens": tokens, "length": length},
        condition={"prompt": prompt, "prompt_length": prompt_length},
        scores_BK=torch.zeros(B, seeds),
        mask_BK=torch.ones(B, seeds, dtype=torch.bool),
    )


@contextmanager
def _base(model: Any, spec: Policy) -> Iterator[Any]:
    """The base as a model to score with; None where it does not fit beside the policy."""
    if model.has_adapters and spec.adapter is None:
        with adapters_off(model.bare):
            yield model
    elif _fits(model):
        from penchant.models import load

        yield load(spec).to(model.device)
    else:
        yield None


def _fits(model: Any) -> bool:
    if model.device.type != "cuda":
        return True
    needed = sum(p.numel() * p.element_size() for p in model.bare.parameters())
    return torch.cuda.mem_get_info(model.device)[0] > _ROOM * needed
