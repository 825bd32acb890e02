"""TRL's DPO and KTO trainers: every case."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recorded import DTYPES, Recording, as_groups, as_rows, runs, winner_scores
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import (
    AOT,
    BCO,
    DPO,
    EXO,
    IPO,
    KTO,
    LDDPO,
    NCA,
    SFT,
    SPPO,
    WPO,
    AlphaDivergence,
    AOTUnpaired,
    APODown,
    APOZero,
    APOZeroUnpaired,
    DiscoPOP,
    Divergence,
    ForwardKL,
    Hinge,
    JensenShannon,
    LengthNormalisedDPO,
    Mixture,
    ReverseKL,
    RobustDPO,
)
from penchant.types import LogProbs, Objective, ObjectiveInputs

pytestmark = pytest.mark.oracle

Options = dict[str, Any]


def _smoothed(p: Options) -> Options:
    return {"beta": p["beta"], "label_smoothing": p["label_smoothing"]}


# TRL averages a winner's negative log-prob over the tokens of the batch, ours over groups: this many tokens a group.
PLAIN: dict[str, Callable[[Options, float], Objective]] = {
    "nca_pair": lambda p, _: NCA(beta=p["beta"]),
    "bco_pair": lambda p, _: BCO(beta=p["beta"]),
    "sppo_hard": lambda p, _: SPPO(beta=p["beta"]),
    "aot": lambda p, _: AOT(**_smoothed(p)),
    "aot_unpaired": lambda p, _: AOTUnpaired(**_smoothed(p)),
    "apo_zero": lambda p, _: APOZero(beta=p["beta"]),
    "apo_down": lambda p, _: APODown(beta=p["beta"]),
    "sft": lambda p, tokens: Mixture(parts=((SFT(), 1 / tokens),)),
    "ld": lambda p, _: LDDPO(beta=p["beta"], alpha=p["ld_alpha"]),
    "wpo": lambda p, _: WPO(objective=DPO(beta=p["beta"])),
    "wpo_ipo": lambda p, _: WPO(objective=IPO(beta=p["beta"])),
    "mpo": lambda p, tokens: Mixture(
        parts=(
            (DPO(beta=p["beta"]), p["loss_weights"][0]),
            (BCO(beta=p["beta"]), p["loss_weights"][1]),
            (SFT(), p["loss_weights"][2] / tokens),
        )
    ),
}
# Those that TRL too has with any f-divergence; its sigmoid reads no label smoothing.
WITH_DIVERGENCE: dict[str, Callable[[Options, Divergence], Objective]] = {
    "sigmoid": lambda p, f: DPO(beta=p["beta"], divergence=f),
    "sigmoid_norm": lambda p, f: LengthNormalisedDPO(beta=p["beta"], divergence=f),
    "hinge": lambda p, f: Hinge(beta=p["beta"], divergence=f),
    "ipo": lambda p, f: IPO(beta=p["beta"], divergence=f),
    "robust": lambda p, f: RobustDPO(**_smoothed(p), divergence=f),
    "exo_pair": lambda p, f: EXO(**_smoothed(p), divergence=f),
    "discopop": lambda p, f: DiscoPOP(beta=p["beta"], tau=p["discopop_tau"], divergence=f),
}
# In the order of TRL's enumeration.
DIVERGENCES: tuple[Callable[[Options], Divergence], ...] = (
    lambda p: ReverseKL(),
    lambda p: ForwardKL(),
    lambda p: JensenShannon(),
    lambda p: AlphaDivergence(alpha=p["f_alpha_divergence_coef"]),
)
# TRL always logs beta * log-ratios of totals; there the logit is of something else.
OTHER_REWARDS = {"sigmoid_norm", "ipo", "wpo_ipo", "sft"}


def _kind(case: str) -> str:
    """`f_forward_kl_hinge` and `hinge_b1` are hinge."""
    return re.sub(r"^f_(forward_kl|js_divergence|alpha_divergence)_|_b\d+$|(?<=^ld)_\d+$", "", case)


def _built(case: str, p: Options, tokens: float) -> Objective:
    if (kind := _kind(case)) in PLAIN:
        return PLAIN[kind](p, tokens)
    return WITH_DIVERGENCE[kind](p, DIVERGENCES[p["f_div"]](p))


def _kept(step: Tensor, mask: Tensor, collision: Tensor | None = None) -> LogProbs:
    return LogProbs(step_BKT=step, mask_BKT=mask, density="exact", collision_BKT=collision)


def test_the_dpo_trainers_cases_are_all_known() -> None:
    kinds = {_kind(case) for case in Recording("trl_dpo").scalars}
    assert kinds == PLAIN.keys() | WITH_DIVERGENCE.keys()


@pytest.mark.parametrize(("case", "suffix"), runs("trl_dpo"))
def test_dpo_trainer(case: str, suffix: str) -> None:
    z, dtype = Recording("trl_dpo"), DTYPES[suffix]
    p, out, metric = (z.scalars[case][k] for k in ("p", "out" + suffix, "metric"))
    mask = as_groups(z.tensor("shared.in.completion_mask")[:, 1:].bool())
    logps = z.tensor("shared.in.logps", dtype).requires_grad_()
    inputs = ObjectiveInputs(
        policy=_kept(as_groups(logps), mask, as_groups(z.tensor("shared.in.log_sum_sq_probs", dtype))),
        reference=_kept(as_groups(z.tensor("shared.in.ref_logps", dtype)), mask),
        scores_BK=winner_scores(len(logps)),
        mask_BK=torch.ones(mask.shape[:2], dtype=torch.bool),
    )
    winners = as_rows(mask).chunk(2)[0]
    output = _built(case, p, winners.sum().item() / len(winners))(inputs)
    assert output.loss.dtype == dtype
    # The peer's epsilon is a float32 tensor whatever it is fed.
    exact = 1e-6 if _kind(case) == "exo_pair" else 1e-9
    assert_close(output.loss.item(), out["loss"], rtol=exact if suffix else 2e-5, atol=0)
    output.loss.backward()
    assert logps.grad is not None
    assert_close(logps.grad.float(), z.tensor(f"{case}.grad.logps"), rtol=1e-4, atol=1e-6)
    if _kind(case) != "ld":
        # TRL's discounted tokens are gone from its log-probs too.
        assert_close(output.metrics["logps/chosen"].item(), metric["logps_chosen"], rtol=1e-5, atol=0)
    if _kind(case) not in OTHER_REWARDS and p["f_div"] == 0:
        for ours in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
            assert_close(output.metrics[ours].item(), metric[ours.replace("/", "_")], rtol=1e-4, atol=1e-6)


def test_kto_trainer() -> None:
    z, seen = Recording("trl_kto"), set()
    mask = z.tensor("shared.in.completion_mask")[:, None, 1:].bool()
    unrelated_mask = z.tensor("shared.in.KL_completion_mask")[:, None, 1:].bool()
    for case, suffix in runs("trl_kto"):
        p, out = z.scalars[case]["p"], z.scalars[case]["out" + suffix]
        dtype, kind = DTYPES[suffix], KTO if case.endswith("_kto") else APOZeroUnpaired
        seen.add(kind)
        logps = z.tensor("shared.in.logps", dtype).requires_grad_()
        label_BK = torch.tensor(p["label"], dtype=torch.float32)[:, None]
        inputs = ObjectiveInputs(
            policy=_kept(logps[:, None], mask),
            reference=_kept(z.tensor("shared.in.ref_logps", dtype)[:, None], mask),
            mismatched=(
                _kept(z.tensor("shared.in.KL_logps", dtype)[:, None], unrelated_mask),
                _kept(z.tensor("shared.in.ref_KL_logps", dtype)[:, None], unrelated_mask),
            ),
            scores_BK=label_BK,
            mask_BK=torch.ones_like(label_BK, dtype=torch.bool),
        )
        weights = {k: p[k] for k in ("desirable_weight", "undesirable_weight")}
        output = kind(beta=p["beta"], threshold=0.5, **weights)(inputs)
        assert output.loss.dtype == dtype
        assert_close(output.loss.item(), out["loss"], rtol=1e-9 if suffix else 2e-5, atol=0)
        assert_close(output.metrics["kl"].item(), out["kl"], rtol=1e-9 if suffix else 1e-5, atol=1e-7)
        for ours in ("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected"):
            if ours.replace("/", "_") in out:
                recorded = out[ours.replace("/", "_")]
                assert_close(output.metrics[ours].item(), recorded, rtol=1e-4, atol=1e-6)
        output.loss.backward()
        assert logps.grad is not None
        assert_close(logps.grad.float(), z.tensor(f"{case}.grad.logps"), rtol=1e-4, atol=1e-6)
    assert seen == {KTO, APOZeroUnpaired}
