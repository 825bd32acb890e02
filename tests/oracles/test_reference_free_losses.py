"""TRL's CPO (with SimPO and AlphaPO), ORPO and TPO trainers, from logits: every case.

They average the imitated answer's negative log-prob over the tokens of the batch, ours over groups; the tests put TRL's
average beside our preference terms, and `test_meaning_text.py` looks at our own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recorded import DTYPES, Recording, as_groups, as_rows, runs, winner_scores
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import CPO, DPO, IPO, ORPO, SFT, TPO, Hinge, Mixture, ReferenceFree, SimPO
from penchant.types import LogProbs, Objective, ObjectiveInputs

pytestmark = pytest.mark.oracle


def _token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p of each token but the first, given those before."""
    return logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]


def _inputs(step: Tensor, mask: Tensor, scores: Tensor) -> ObjectiveInputs:
    policy = LogProbs(step_BKT=step, mask_BKT=mask, density="exact")
    return ObjectiveInputs(policy=policy, scores_BK=scores, mask_BK=torch.ones_like(scores, dtype=torch.bool))


def _close_gradient(z: Recording, case: str, logits: Tensor) -> None:
    assert logits.grad is not None
    if z.has(f"{case}.grad.logits"):
        assert_close(logits.grad.float(), z.tensor(f"{case}.grad.logits"), rtol=1e-4, atol=1e-6)


def _contrast(case: str, p: dict[str, Any]) -> Objective:
    return {
        "sigmoid": lambda: CPO(beta=p["beta"], label_smoothing=p["label_smoothing"], nll_weight=0.0),
        "hinge": lambda: ReferenceFree(objective=Hinge(beta=p["beta"])),
        "ipo": lambda: ReferenceFree(objective=IPO(beta=p["beta"])),
        "simpo": lambda: SimPO(
            beta=p["beta"], gamma=p["simpo_gamma"], alpha=p["alpha"], label_smoothing=p["label_smoothing"]
        ),
    }[case.split("_")[1]]()


@pytest.mark.parametrize(("case", "suffix"), runs("trl_cpo_simpo"))
def test_cpo_trainer(case: str, suffix: str) -> None:
    z, dtype = Recording("trl_cpo_simpo"), DTYPES[suffix]
    p, out = z.scalars[case]["p"], z.scalars[case]["out" + suffix]
    labels = z.tensor("shared.in.labels")
    logits = z.tensor("shared.in.logits", dtype).requires_grad_()
    mask = as_groups(labels[:, 1:] != -100)
    inputs = _inputs(as_groups(_token_log_probs(logits, labels.clamp(min=0))), mask, winner_scores(len(logits)))
    contrast = _contrast(case, p)
    exact = {"rtol": 1e-9 if suffix else 2e-5, "atol": 0.0 if suffix else 1e-6}
    alone = contrast(inputs)
    assert_close(alone.loss_B, z.tensor(f"{case}.out{suffix}.losses"), **exact)
    read = inputs.policy.mean() if case.endswith(("ipo", "simpo")) else inputs.policy.total()
    assert_close(as_rows(read), z.tensor(f"{case}.out{suffix}.logps"), **exact)
    for ours, peers in (("rewards/chosen", "chosen_rewards"), ("rewards/rejected", "rejected_rewards")):
        assert_close(alone.metrics[ours], z.tensor(f"{case}.out{suffix}.{peers}").mean(), **exact)
    winners = as_rows(mask).chunk(2)[0]
    tokens = winners.sum().item() / len(winners)
    loss = Mixture(parts=((contrast, 1.0), (SFT(), p["cpo_alpha"] / tokens)))(inputs).loss
    assert loss.dtype == dtype
    assert_close(loss.item(), out["loss"], rtol=exact["rtol"], atol=0)
    loss.backward()
    _close_gradient(z, case, logits)


@pytest.mark.parametrize(("case", "suffix"), runs("trl_orpo"))
def test_orpo_trainer(case: str, suffix: str) -> None:
    z, dtype = Recording("trl_orpo"), DTYPES[suffix]
    p, out = z.scalars[case]["p"], z.scalars[case]["out" + suffix]
    labels, tokens = z.tensor("shared.in.labels"), z.tensor("shared.in.input_ids")
    logits = z.tensor("shared.in.logits", dtype).requires_grad_()
    step = _token_log_probs(logits, tokens)
    inputs = _inputs(as_groups(step), as_groups(labels[:, 1:] != -100), winner_scores(len(logits)))
    odds_B = ORPO(beta=p["beta"])(inputs).loss_B - SFT(reduce="mean")(inputs).loss_B
    # The peer's odds are float32 whatever it is fed.
    assert_close(-odds_B.float(), z.tensor(f"{case}.out{suffix}.losses").float(), rtol=1e-5, atol=1e-6)
    # TRL also imitates the prompt.
    with_prompt = z.tensor("shared.in.attention_mask")[: len(step) // 2, 1:].bool()
    loss = odds_B.mean() - step[: len(step) // 2][with_prompt].mean()
    assert loss.dtype == dtype
    assert_close(loss.item(), out["loss"], rtol=1e-7 if suffix else 2e-5, atol=0)
    loss.backward()
    _close_gradient(z, case, logits)


def _preference(case: str, p: dict[str, Any]) -> Objective:
    return {
        "sigmoid": lambda: TPO(
            preference=ReferenceFree(objective=DPO(beta=p["beta"], label_smoothing=p["label_smoothing"])), alpha=0.0
        ),
        "hinge": lambda: TPO(preference=ReferenceFree(objective=Hinge(beta=p["beta"])), alpha=0.0),
        "ipo": lambda: TPO(preference=ReferenceFree(objective=IPO(beta=p["beta"])), alpha=0.0),
        "tpo-l": lambda: TPO.length_controlled(beta=p["beta"], gamma=p["tpo_l_gamma"], alpha=0.0),
    }[case.split("_")[1]]()


@pytest.mark.parametrize(("case", "suffix"), runs("trl_tpo"))
def test_tpo_trainer(case: str, suffix: str) -> None:
    z, dtype = Recording("trl_tpo"), DTYPES[suffix]
    p, out = z.scalars[case]["p"], z.scalars[case]["out" + suffix]
    logits = z.tensor("shared.in.logits", dtype).requires_grad_()
    rows = _token_log_probs(logits, z.tensor("shared.in.input_ids"))
    mask = z.tensor("shared.in.completion_mask")[:, 1:].bool()
    B = len(rows) // 3
    # Chosen, rejected, gold; in every group in another order.
    orders = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 2, 0]])[torch.arange(B) % 3]
    step, kept = (x.unflatten(0, (3, B)).transpose(0, 1)[torch.arange(B)[:, None], orders] for x in (rows, mask))
    inputs = _inputs(step, kept, torch.tensor([1.0, 0.0, 2.0])[orders])
    imitated = -rows[2 * B :][mask[2 * B :]].mean()
    loss = _preference(case, p)(inputs).loss + p["tpo_alpha"] * imitated
    assert loss.dtype == dtype
    assert_close(loss.item(), out["loss"], rtol=1e-9 if suffix else 2e-5, atol=0)
    loss.backward()
    _close_gradient(z, case, logits)
