"""TRL's DPO and KTO trainers: every case whose loss is a function of sequence log-probs that we implement."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from recorded import DTYPES, Recording, as_groups, as_rows, runs, winner_scores
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import DPO, IPO, KTO, SFT, APOZeroUnpaired, Hinge, RobustDPO
from penchant.types import LogProbs, Objective, ObjectiveInputs, ObjectiveOutput

pytestmark = pytest.mark.oracle

Reduce = Callable[[ObjectiveOutput, Tensor], Tensor]


def mean(output: ObjectiveOutput, _: Tensor) -> Tensor:
    return output.loss


def over_chosen_tokens(output: ObjectiveOutput, mask: Tensor) -> Tensor:
    """TRL's sft term averages over tokens, ours over groups."""
    return output.loss_B.sum() / as_rows(mask).chunk(2)[0].sum()


def both_sides(output: ObjectiveOutput, _: Tensor) -> Tensor:
    """TRL's paired APO adds the two sides that the unpaired form averages."""
    return 2 * output.loss


PAIRED: dict[str, tuple[Callable[[dict], Objective], Reduce]] = {
    "sigmoid": (lambda p: DPO(beta=p["beta"], label_smoothing=p["label_smoothing"]), mean),
    "sigmoid_norm": (lambda p: DPO(beta=p["beta"], label_smoothing=p["label_smoothing"]), mean),
    "hinge": (lambda p: Hinge(beta=p["beta"]), mean),
    "ipo": (lambda p: IPO(beta=p["beta"]), mean),
    "robust": (lambda p: RobustDPO(beta=p["beta"], label_smoothing=p["label_smoothing"]), mean),
    "sft": (lambda p: SFT(), over_chosen_tokens),
    "apo_zero": (lambda p: APOZeroUnpaired(beta=p["beta"]), both_sides),
    "ld": (lambda p: DPO(beta=p["beta"], label_smoothing=p["label_smoothing"]), mean),
}


def _name(case: str) -> str:
    return case.rsplit("_", 1)[0]


def _implemented(case: str, p: dict) -> bool:
    # LD-DPO discounts tokens beyond the shorter completion; at alpha 1 it is DPO.
    return _name(case) in PAIRED and not p["use_weighting"] and p.get("ld_alpha", 1.0) == 1.0


def _kept(step: Tensor, mask: Tensor) -> LogProbs:
    return LogProbs(step_BKT=step, mask_BKT=mask, density="exact")


def test_dpo_trainer() -> None:
    z, seen = Recording("trl_dpo"), set()
    mask = as_groups(z.tensor("shared.in.completion_mask")[:, 1:].bool())
    for case, suffix in runs("trl_dpo"):
        p, out, metric = (z.scalars[case][k] for k in ("p", "out" + suffix, "metric"))
        if not _implemented(case, p):
            continue
        seen.add(_name(case))
        dtype = DTYPES[suffix]
        logps = z.tensor("shared.in.logps", dtype).requires_grad_()
        length = mask.sum(-1, keepdim=True) if _name(case) == "sigmoid_norm" else 1
        policy = _kept(as_groups(logps) / length, mask)
        reference = _kept(as_groups(z.tensor("shared.in.ref_logps", dtype)) / length, mask)
        build, reduce = PAIRED[_name(case)]
        inputs = ObjectiveInputs(
            policy=policy,
            reference=reference,
            scores_BK=winner_scores(len(logps)),
            mask_BK=torch.ones(mask.shape[:2], dtype=torch.bool),
        )
        output = build(p)(inputs)
        loss = reduce(output, mask)
        assert loss.dtype == dtype
        assert_close(loss.item(), out["loss"], rtol=1e-9 if suffix else 2e-5, atol=0)
        loss.backward()
        if not suffix:
            assert_close(logps.grad, z.tensor(f"{case}.grad.logps"), rtol=1e-4, atol=1e-6)
        if _name(case) not in ("sigmoid_norm", "ipo", "sft"):
            # TRL always logs total rewards; those three have others here.
            for ours in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
                if ours == "rewards/accuracies" and _name(case) == "apo_zero":
                    continue  # unpaired: ours counts candidates, not pairs
                assert_close(output.metrics[ours].item(), metric[ours.replace("/", "_")], rtol=1e-4, atol=1e-6)
    assert seen >= {"sigmoid", "hinge", "ipo", "robust", "sft"}


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
        if not suffix:
            assert_close(logps.grad, z.tensor(f"{case}.grad.logps"), rtol=1e-4, atol=1e-6)
    assert seen == {KTO, APOZeroUnpaired}
