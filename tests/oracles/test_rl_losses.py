"""TRL's GRPO, RLOO and GMPO trainers, flow_grpo's and ddpo-pytorch's losses and advantages, with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recorded import DTYPES, Recording, runs
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import (
    BNPO,
    CISPO,
    DAPO,
    GMPO,
    GRPO,
    GSPO,
    LUSPO,
    RLOO,
    SAPO,
    VESPO,
    Advantage,
    ClippedAdvantage,
    DrGRPO,
    ExpertIteration,
    GroupRelative,
    LeaveOneOut,
    PromptHistory,
    RawAdvantage,
    Whitened,
    decoupled,
)
from penchant.types import Density, LogProbs, Objective, ObjectiveInputs

pytestmark = pytest.mark.oracle

Options = dict[str, Any]
GIVEN = RawAdvantage()


def _clips(p: Options) -> Options:
    return {"advantage": GIVEN, "clip_low": p["epsilon_low"], "clip_high": p["epsilon_high"], "beta": p["beta"]}


GRPO_TRAINER: dict[str, Callable[[Options], Objective]] = {
    "grpo": lambda p: GRPO(**_clips(p)),
    "grpo_onpolicy": lambda p: GRPO(**_clips(p)),
    "grpo_delta": lambda p: GRPO(**_clips(p), dual_clip=p["delta"]),
    "grpo_opsm": lambda p: GRPO(**_clips(p), stale=p["off_policy_mask_threshold"]),
    "grpo_klbc": lambda p: GRPO(**_clips(p), kl="weighted_k3"),
    "bnpo": lambda p: BNPO(**_clips(p)),
    "dr_grpo": lambda p: DrGRPO(**_clips(p), length=p["max_completion_length"]),
    "dapo": lambda p: DAPO(**_clips(p)),
    "gspo": lambda p: GSPO(**_clips(p)),
    "luspo_seq": lambda p: LUSPO(**_clips(p)),
    "cispo": lambda p: CISPO(advantage=GIVEN, ceiling=p["epsilon_high"], beta=p["beta"]),
    "sapo": lambda p: SAPO(
        advantage=GIVEN, tau_good=p["sapo_temperature_pos"], tau_bad=p["sapo_temperature_neg"], beta=p["beta"]
    ),
    "vespo": lambda p: VESPO(
        advantage=GIVEN,
        k_good=p["vespo_k_pos"],
        lambda_good=p["vespo_lambda_pos"],
        k_bad=p["vespo_k_neg"],
        lambda_bad=p["vespo_lambda_neg"],
        beta=p["beta"],
    ),
}
# Gradients on high-entropy tokens alone need entropies, which log-probs do not tell; LUSPO on *token* ratios averages
# over padding too, and its paper has sequence ratios.
NOT_OURS = {"grpo_entq", "luspo"}
TRAINER_RUNS = [run for run in runs("trl_grpo") if run[0].removesuffix("_kl") not in NOT_OURS]


def _rows(steps: Tensor, mask: Tensor, density: Density = "exact") -> LogProbs:
    """Rows [N, T] as groups of one."""
    return LogProbs(step_BKT=steps[:, None], mask_BKT=mask[:, None].bool(), density=density)


def _inputs(z: Recording, dtype: torch.dtype, logps: Tensor, *, on_policy: bool = False) -> ObjectiveInputs:
    mask = z.tensor("shared.in.completion_mask")
    score_BK = z.tensor("shared.in.advantages", dtype)[:, None]
    return ObjectiveInputs(
        policy=_rows(logps, mask),
        behavior=None if on_policy else _rows(z.tensor("shared.in.old_logps", dtype), mask),
        reference=_rows(z.tensor("shared.in.ref_logps", dtype), mask),
        scores_BK=score_BK,
        mask_BK=torch.ones_like(score_BK, dtype=torch.bool),
    )


def _compare(
    objective: Objective, inputs: ObjectiveInputs, logps: Tensor, z: Recording, case: str, suffix: str
) -> None:
    output, recorded = objective(inputs), z.scalars[case]["out" + suffix]
    assert output.loss.dtype == DTYPES[suffix]
    assert_close(output.loss.item(), recorded["loss"], rtol=1e-9 if suffix else 2e-5, atol=0)
    output.loss.backward()
    assert logps.grad is not None
    assert_close(logps.grad.float(), z.tensor(f"{case}.grad.logps"), rtol=1e-4, atol=1e-6)
    for ours, theirs in (("kl", "kl"), ("ratio/clipped", "clip_ratio_region_mean")):
        if theirs in recorded and ours in output.metrics:
            assert_close(output.metrics[ours].item(), recorded[theirs], rtol=1e-5, atol=1e-6)


def test_the_grpo_trainers_cases_are_all_known() -> None:
    assert {case.removesuffix("_kl") for case in Recording("trl_grpo").scalars} == GRPO_TRAINER.keys() | NOT_OURS


@pytest.mark.parametrize(("case", "suffix"), TRAINER_RUNS)
def test_grpo_trainer(case: str, suffix: str) -> None:
    z, dtype = Recording("trl_grpo"), DTYPES[suffix]
    logps = z.tensor("shared.in.logps", dtype).requires_grad_()
    objective = GRPO_TRAINER[case.removesuffix("_kl")](z.scalars[case]["p"])
    inputs = _inputs(z, dtype, logps, on_policy=case == "grpo_onpolicy")
    _compare(objective, inputs, logps, z, case, suffix)


@pytest.mark.parametrize(("case", "suffix"), runs("trl_gmpo"))
def test_gmpo_trainer(case: str, suffix: str) -> None:
    z, dtype = Recording("trl_gmpo"), DTYPES[suffix]
    logps = z.tensor("shared.in.logps", dtype).requires_grad_()
    _compare(GMPO(**_clips(z.scalars[case]["p"])), _inputs(z, dtype, logps), logps, z, case, suffix)


@pytest.mark.parametrize(("case", "suffix"), runs("trl_rloo_loss"))
def test_rloo_trainer(case: str, suffix: str) -> None:
    """Its behavior is known by whole samples only."""
    z, dtype = Recording("trl_rloo_loss"), DTYPES[suffix]
    logps = z.tensor("shared.in.logps", dtype).requires_grad_()
    mask, score_BK = z.tensor("shared.in.completion_mask"), z.tensor("shared.in.advantages", dtype)[:, None]
    old = torch.zeros_like(logps.detach())
    old[:, 0] = z.tensor("shared.in.old_logps", dtype)
    inputs = ObjectiveInputs(
        policy=_rows(logps, mask),
        behavior=_rows(old, mask),
        scores_BK=score_BK,
        mask_BK=torch.ones_like(score_BK, dtype=torch.bool),
    )
    _compare(RLOO(**_clips(z.scalars[case]["p"] | {"beta": 0.0})), inputs, logps, z, case, suffix)


def _of_groups(advantage: Advantage, rewards: Tensor, K: int) -> Tensor:
    """Advantages of rows, K of them a prompt."""
    reward_BK = rewards.reshape(-1, K)
    known_BK = ~reward_BK.isnan()
    return advantage(torch.where(known_BK, reward_BK, 0), known_BK).flatten()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_trl_group_advantages(scale: Any) -> None:
    z, case = Recording("trl_advantages"), f"sum_then_normalize_{scale}"
    rewards, K = z.tensor(f"{case}.out.rewards"), z.scalars[case]["p"]["num_generations"]
    found = _of_groups(GroupRelative(scale=scale), rewards, K)
    assert_close(found, z.tensor(f"{case}.out.advantages"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_trl_advantages_of_several_rewards_by_their_groups(scale: str) -> None:
    z, case = Recording("trl_advantages"), f"normalize_then_sum_{scale}"
    K = z.scalars[case]["p"]["num_generations"]
    given = z.tensor("shared.in.rewards_per_func")
    reward_BKD = given.reshape(-1, K, given.shape[-1])
    summed = decoupled(reward_BKD, z.tensor("shared.in.weights"), torch.ones(reward_BKD.shape[:2]).bool()).flatten()
    assert_close(summed, z.tensor(f"{case}.out.rewards"), rtol=1e-5, atol=1e-6, equal_nan=True)
    assert_close(_of_groups(Whitened(), summed, K), z.tensor(f"{case}.out.advantages"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("whiten", [False, True])
def test_trl_leave_one_out(whiten: bool) -> None:
    z, case = Recording("trl_advantages"), f"rloo_norm{int(whiten)}"
    found = _of_groups(
        LeaveOneOut(whiten=whiten), z.tensor(f"{case}.in.rewards"), z.scalars[case]["p"]["num_generations"]
    )
    assert_close(found, z.tensor(f"{case}.out.advantages"), rtol=1e-5, atol=1e-6)


def _by_prompt(ids: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(scores [B, K], mask [B, K], row of each) of prompts with differently many samples; padding is -1."""
    rows = [torch.nonzero(ids == prompt).flatten() for prompt in ids.unique()]
    row_BK = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    return torch.where(row_BK >= 0, rewards[row_BK], 7.0), row_BK >= 0, row_BK


@pytest.mark.parametrize(("case", "scale"), [("grpo_gs0", "group"), ("grpo_gs1", "batch")])
def test_flow_grpo_advantages(case: str, scale: Any) -> None:
    """Its deviations divide by n."""
    z = Recording("flow_grpo_advantages")
    reward_BK, mask_BK, row_BK = _by_prompt(z.tensor("shared.in.prompt_id"), z.tensor("shared.in.rewards"))
    found_BK = GroupRelative(scale=scale, correction=0)(reward_BK, mask_BK)
    assert_close(found_BK[mask_BK], z.tensor(f"{case}.out.advantages")[row_BK[mask_BK]], rtol=1e-9, atol=1e-9)
    assert (found_BK[~mask_BK] == 0).all()


@pytest.mark.parametrize("case", ["sft_gs0", "sft_gs1"])
def test_flow_grpo_imitates_the_best_of_a_group(case: str) -> None:
    z = Recording("flow_grpo_advantages")
    reward_BK, mask_BK, row_BK = _by_prompt(z.tensor("shared.in.prompt_id"), z.tensor("shared.in.rewards"))
    logp_BK = torch.full_like(reward_BK, -0.3).requires_grad_()
    policy = LogProbs(step_BKT=logp_BK[:, :, None], mask_BKT=torch.ones_like(mask_BK)[:, :, None], density="bound")
    ExpertIteration()(ObjectiveInputs(policy=policy, scores_BK=reward_BK, mask_BK=mask_BK)).loss_B.sum().backward()
    assert logp_BK.grad is not None
    assert_close(-logp_BK.grad[mask_BK], z.tensor(f"{case}.out.advantages")[row_BK[mask_BK]])


def test_ddpo_prompt_history() -> None:
    """Three collections after each other. The recording does not say its buffer; one must give all three."""
    z = Recording("ddpo")
    names = ("in.prompt_id", "in.rewards", "out.advantages")
    collections = [[z.tensor(f"stat{i}.{name}").tolist() for name in names] for i in range(3)]

    def fits(size: int, least: int) -> bool:
        history = PromptHistory(size=size, least=least)
        for ids, rewards, recorded in collections:
            found = history.advantages([str(prompt) for prompt in ids], rewards)
            if not all(math.isclose(f, r, rel_tol=1e-9) for f, r in zip(found, recorded, strict=True)):
                return False
        return True

    assert any(fits(size, least) for size in range(1, 37) for least in range(1, size + 1))


@pytest.mark.parametrize(("case", "suffix"), runs("flow_grpo_loss"))
def test_flow_grpo_loss(case: str, suffix: str) -> None:
    z, dtype = Recording("flow_grpo_loss"), DTYPES[suffix]
    p, out = z.scalars[case]["p"], z.scalars[case]["out" + suffix]
    logp, mean, of_reference, std = (
        z.tensor(f"{case}.in{suffix}.{name}", dtype) for name in ("log_prob", "prev_mean", "prev_mean_ref", "std")
    )
    logp.requires_grad_()
    mean.requires_grad_()
    # As its code has it: the mean over dimensions, and sigma without the step size.
    divergence = (mean - of_reference).square().mean((1, 2, 3)) / (2 * std.flatten().square())
    ones = torch.ones(len(logp), 1)
    fixed = z.tensor(f"{case}.in{suffix}.old_log_probs", dtype)[:, p["j"]]
    inputs = ObjectiveInputs(
        policy=_rows(logp[:, None], ones, "path"),
        behavior=_rows(fixed[:, None], ones, "path"),
        reference=_rows(fixed[:, None], ones, "path"),
        divergence_BKT=divergence[:, None, None],
        scores_BK=z.tensor(f"{case}.in{suffix}.advantages", dtype)[:, p["j"], None],
        mask_BK=ones.bool(),
    )
    held = ClippedAdvantage(advantage=GIVEN, largest=p["adv_clip_max"])
    clip = p["clip_range"]
    output = GRPO(advantage=held, clip_low=clip, clip_high=clip, beta=p["beta"], kl="exact")(inputs)
    exact = 1e-9 if suffix else 2e-5
    assert_close(output.loss.item(), out["loss"], rtol=exact, atol=0)
    if p["beta"] > 0:
        assert_close(output.metrics["kl"].item(), out["kl_loss"], rtol=exact, atol=0)
    output.loss.backward()
    assert_close(logp.grad, z.tensor(f"{case}.grad{suffix}.log_prob", dtype), rtol=exact, atol=0)
    if z.has(f"{case}.grad{suffix}.prev_mean"):
        assert_close(mean.grad, z.tensor(f"{case}.grad{suffix}.prev_mean", dtype), rtol=exact, atol=1e-12)


@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
def test_ddpo_loss(case: str) -> None:
    z = Recording("ddpo")
    p, advantage = z.scalars[case]["p"], z.tensor(f"{case}.in.advantages")
    output_of_model = z.tensor(f"{case}.in.model_output").requires_grad_()
    logp = _ddim_log_prob(z, case, output_of_model)
    assert_close(logp, z.tensor(f"{case}.out.log_prob"), rtol=1e-4, atol=1e-5)
    # Ratios here are within 1e-4 of 1, where float32 log-probs are coarse: the recorded values, with our gradient.
    logp = logp + (z.tensor(f"{case}.out.log_prob") - logp).detach()
    ones = torch.ones(len(logp), 1)
    inputs = ObjectiveInputs(
        policy=_rows(logp[:, None], ones, "path"),
        behavior=_rows(z.tensor(f"{case}.out.log_prob_old")[:, None], ones, "path"),
        scores_BK=advantage[:, None],
        mask_BK=ones.bool(),
    )
    held = ClippedAdvantage(advantage=GIVEN, largest=p["adv_clip_max"])
    output = GRPO(advantage=held, clip_low=p["clip_range"], clip_high=p["clip_range"])(inputs)
    assert_close(output.loss.item(), z.scalars[case]["out"]["loss"], rtol=2e-5, atol=0)
    output.loss.backward()
    assert output_of_model.grad is not None
    assert_close(output_of_model.grad, z.tensor(f"{case}.grad.model_output"), rtol=2e-3, atol=1e-6)


def _ddim_log_prob(z: Recording, case: str, predicted: Tensor) -> Tensor:
    """log N(x_{t-1}; mean, sigma) of a DDIM step with noise (arXiv 2010.02502, eq. 12, 16), a mean over dimensions."""
    p, t = z.scalars[case]["p"], z.tensor(f"{case}.in.timesteps")
    kept = z.tensor("shared.in.alphas_cumprod").double()
    before = t - p["num_train_timesteps"] // p["num_steps"]
    a = kept[t][:, None, None, None]
    b = torch.where(before >= 0, kept[before.clamp(min=0)], kept[0])[:, None, None, None]
    x, later = z.tensor(f"{case}.in.sample").double(), z.tensor(f"{case}.in.prev_sample").double()
    out = predicted.double()
    noise = a.sqrt() * out + (1 - a).sqrt() * x if p["v_prediction"] else out
    clean = (x - (1 - a).sqrt() * noise) / a.sqrt()
    sigma = p["eta"] * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
    mean = b.sqrt() * clean + (1 - b - sigma.square()).sqrt() * noise
    return torch.distributions.Normal(mean, sigma).log_prob(later).mean((1, 2, 3)).float()
