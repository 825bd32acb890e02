"""Diffusion-DPO, diffusers' script and MaPO: our likelihood and objective against their losses and gradients."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from recorded import DTYPES, Recording, Replay, as_groups, as_rows, errors, paired_batch, paired_draw, runs
from torch import Tensor
from torch.testing import assert_close

from penchant.likelihoods import Diffusion, gaussian
from penchant.objectives import DPO, IPO, Hinge, MaPO
from penchant.objectives.beta import convert
from penchant.types import LogProbs, Objective, ObjectiveInputs, ObjectiveOutput

pytestmark = pytest.mark.oracle
SALESFORCE = ("diffusion_dpo_sd15", "diffusion_dpo_sdxl")
LOSS, GRADIENT = {"rtol": 2e-5, "atol": 1e-9}, {"rtol": 2e-3, "atol": 1e-6}
EXACT = {"rtol": 1e-9, "atol": 1e-14}


def _align(
    objective: Objective,
    latents: Tensor,
    time: Tensor,
    noise: Tensor,
    model: Replay,
    reference: Replay | None,
) -> tuple[ObjectiveOutput, LogProbs, LogProbs | None]:
    batch, draw, likelihood = paired_batch(latents), paired_draw(time, noise), Diffusion()
    policy = likelihood.log_prob(model, batch, draw)
    fixed = None if reference is None else likelihood.log_prob(reference, batch, draw)
    inputs = ObjectiveInputs(policy=policy, reference=fixed, scores_BK=batch.scores_BK, mask_BK=batch.mask_BK)
    return objective(inputs), policy, fixed


@pytest.mark.parametrize("file", SALESFORCE)
def test_diffusion_dpo(file: str) -> None:
    z = Recording(file)
    for case, suffix in runs(file):
        dtype, p, out = DTYPES[suffix], z.scalars[case]["p"], z.scalars[case]["out" + suffix]
        loss_tolerance, gradient_tolerance = (EXACT, EXACT) if suffix else (LOSS, GRADIENT)
        noise, target = z.tensor("shared.out.noise", dtype), z.tensor("shared.out.target", dtype)
        alphas = z.tensor("shared.in.alphas_cumprod")
        answer = (target + p["pred_scale"] * z.tensor("shared.in.eps_model", dtype)).requires_grad_()
        model = Replay(answer, prediction="epsilon", alphas_cumprod=alphas)
        ref_answer = target + p["pred_scale"] * z.tensor("shared.in.eps_ref", dtype)
        reference = Replay(ref_answer, prediction="epsilon", alphas_cumprod=alphas)
        output, policy, fixed = _align(
            DPO(beta=p["beta"]),
            z.tensor("shared.in.latents", dtype),
            z.tensor("shared.out.timesteps"),
            noise,
            model,
            reference,
        )
        assert fixed is not None
        assert output.loss.dtype == dtype
        assert_close(output.loss.item(), out["loss"], **loss_tolerance)
        assert_close(output.metrics["rewards/accuracies"].item(), out["implicit_acc"], **LOSS)
        assert_close(errors(policy), z.tensor(f"{case}.out{suffix}.model_losses"), **loss_tolerance)
        assert_close(errors(fixed), z.tensor(f"{case}.out{suffix}.ref_losses"), **loss_tolerance)
        ratio = as_rows(policy.total().detach() - fixed.total())
        inside = p["beta"] * (ratio.chunk(2)[0] - ratio.chunk(2)[1])
        # A logit is a small difference of errors: its error is theirs times beta.
        slack = p["beta"] * errors(policy).max().item() * torch.finfo(dtype).eps * 4
        assert_close(inside, z.tensor(f"{case}.out{suffix}.inside_term"), rtol=2e-5, atol=slack)
        assert_close(model.noisy.float(), z.tensor("shared.out.noisy_latents"), rtol=1e-5, atol=1e-6)
        assert_close(model.time, z.tensor("shared.out.timesteps"))
        if z.has(f"{case}.grad{suffix}.model_pred"):
            output.loss.backward()
            assert_close(answer.grad, z.tensor(f"{case}.grad{suffix}.model_pred"), **gradient_tolerance)


@pytest.mark.parametrize("file", SALESFORCE)
def test_winner_and_loser_share_noise_and_timestep(file: str) -> None:
    z = Recording(file)
    noise, time = z.tensor("shared.out.noise"), z.tensor("shared.out.timesteps")
    half = len(noise) // 2
    # What the peer does to its raw draws is what a shared draw is.
    assert_close(as_groups(noise), z.tensor("shared.in.noise_raw")[:half, None].expand(-1, 2, *noise.shape[1:]))
    assert_close(as_groups(time), z.tensor("shared.in.timesteps_raw")[:half, None].expand(-1, 2))
    draw = Diffusion().draw(paired_batch(z.tensor("shared.in.latents")), seed=0, epoch=0)
    assert draw.noise_BKT is not None
    assert draw.time_BKT is not None
    assert torch.equal(draw.noise_BKT[:, 0], draw.noise_BKT[:, 1])
    assert torch.equal(draw.time_BKT[:, 0], draw.time_BKT[:, 1])
    assert len(draw.noise_BKT[:, 0].flatten(1).unique(dim=0)) == half


def test_timestep_rules_of_refiner_and_turbo() -> None:
    z = Recording("diffusion_dpo_sdxl")
    raw = z.tensor("shared.in.timesteps_raw").numpy()
    refiner, turbo = Diffusion(timestep_range=(0, 200)), Diffusion(timesteps=(249, 499, 749, 999))
    np.testing.assert_array_equal(refiner.timestep(raw), z.arrays["rule_refiner.out.timesteps"])
    np.testing.assert_array_equal(turbo.timestep(raw), z.arrays["rule_turbo.out.timesteps"])


def test_zero_terminal_snr_rule() -> None:
    z = Recording("diffusion_dpo_sdxl")
    model = Replay(torch.empty(0), prediction="epsilon", alphas_cumprod=z.tensor("shared.in.alphas_cumprod"))
    rescaled = Diffusion(zero_terminal_snr=True).schedule(model)
    assert_close(rescaled, z.tensor("rule_ztsnr.out.alphas_cumprod"), rtol=2e-5, atol=1e-6)


@cache
def _peer_schedule() -> Tensor:
    """The schedule as both scripts load it from their scheduler, in float32."""
    return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod


@pytest.mark.parametrize(
    ("file", "kind"), [(f, k) for f in ("diffusers_dpo", "mapo") for k in ("epsilon", "v_prediction")]
)
def test_peers_corruption_and_targets(file: str, kind: str) -> None:
    z = Recording(file)
    x0, noise = z.tensor("shared.in.latents"), z.tensor(f"{kind}.out.noise")
    time = z.tensor(f"{kind}.out.timesteps")
    assert torch.equal(as_groups(noise)[:, 0], as_groups(noise)[:, 1])
    assert torch.equal(as_groups(time)[:, 0], as_groups(time)[:, 1])
    # Our schedule is a float64 product, the peers' a float32 one.
    for alphas, slack in ((_peer_schedule(), 1e-6), (gaussian.alphas_cumprod("scaled_linear"), 2e-5)):
        a, s = gaussian.ddpm_coefficients(alphas, time)
        assert_close(gaussian.add_noise(x0, noise, a, s), z.tensor(f"{kind}.out.noisy"), rtol=1e-5, atol=slack)
        assert_close(gaussian.target(kind, x0, noise, a, s), z.tensor(f"{kind}.out.target"), rtol=1e-5, atol=slack)


def _script_objective(p: dict) -> tuple[Objective, float]:
    """Our objective for a run of the diffusers script, and the factor its loss has over ours."""
    beta = convert(p["beta"], source="diffusers")
    if p["ipo"]:
        return IPO(beta=beta), 4.0
    return (Hinge(beta=beta), 1.0) if p["hinge"] else (DPO(beta=beta), 1.0)


def test_diffusers_script() -> None:
    z = Recording("diffusers_dpo")
    for case, suffix in runs("diffusers_dpo"):
        kind = "v_prediction" if case.startswith("v_prediction") else "epsilon"
        dtype, p, out = DTYPES[suffix], z.scalars[case]["p"], z.scalars[case]["out" + suffix]
        target, alphas = z.tensor(f"{kind}.out.target", dtype), _peer_schedule()
        answer = (target + p["pred_scale"] * z.tensor("shared.in.eps_model", dtype)).requires_grad_()
        ref_answer = target + p["pred_scale"] * z.tensor("shared.in.eps_ref", dtype)
        objective, factor = _script_objective(p)
        output, policy, fixed = _align(
            objective,
            z.tensor("shared.in.latents", dtype),
            z.tensor(f"{kind}.out.timesteps"),
            z.tensor(f"{kind}.out.noise", dtype),
            Replay(answer, prediction=kind, alphas_cumprod=alphas),
            Replay(ref_answer, prediction=kind, alphas_cumprod=alphas),
        )
        assert fixed is not None
        assert_close(factor * output.loss.item(), out["loss"], **LOSS)
        assert_close(output.metrics["rewards/accuracies"].item(), out["implicit_acc"], **LOSS)
        assert_close(errors(policy).float(), z.tensor(f"{case}.out{suffix}.model_losses"), **LOSS)
        assert_close(errors(fixed).float(), z.tensor(f"{case}.out{suffix}.ref_loss"), **LOSS)
        if z.has(f"{case}.grad{suffix}.model_pred"):
            (factor * output.loss).backward()
            assert_close(answer.grad, z.tensor(f"{case}.grad{suffix}.model_pred"), **GRADIENT)


def test_mapo() -> None:
    z = Recording("mapo")
    for case, suffix in runs("mapo"):
        dtype, p, out = DTYPES[suffix], z.scalars[case]["p"], z.scalars[case]["out" + suffix]
        kind = "v_prediction" if case.startswith("v_prediction") else "epsilon"
        shared = not z.has(f"{case}.in.target")
        latents, noise = z.tensor("shared.in.latents", dtype), z.tensor(f"{kind}.out.noise", dtype)
        target = z.tensor(f"{kind}.out.target" if shared else f"{case}.in.target", dtype)
        if not shared:
            # These cases bring a target of their own, which as the noise of an epsilon model is the target.
            noise = target
        # T cases: a plain prediction; the others a target plus noise scaled row by row.
        scales = z.tensor("shared.in.scales", dtype)
        answer = (target + scales * z.tensor("shared.in.eps_model", dtype)).requires_grad_()
        output, policy, _ = _align(
            MaPO(beta=p["beta"], scale=p["snr"], amplitude=p["T"]),
            latents,
            z.tensor(f"{kind}.out.timesteps"),
            noise,
            Replay(answer, prediction=kind, alphas_cumprod=_peer_schedule()),
            None,
        )
        won, lost = errors(policy).float().chunk(2)
        assert_close(won, z.tensor(f"{case}.out{suffix}.losses_w"), **LOSS)
        assert_close(lost, z.tensor(f"{case}.out{suffix}.losses_l"), **LOSS)
        assert_close(output.loss.item(), out["loss"], **LOSS)
        if z.has(f"{case}.grad{suffix}.model_pred"):
            output.loss.backward()
            assert_close(answer.grad, z.tensor(f"{case}.grad{suffix}.model_pred"), **GRADIENT)


def _true_mapo(won: float, lost: float, p: dict) -> tuple[float, float, float]:
    """Loss and its derivatives by the two errors, in Python floats: another route than the library's."""

    def phi(x: float) -> tuple[float, float]:
        if x < 1e-4:
            return 1 - x / 2 + x * x / 12, -0.5 + x / 6
        return x / math.expm1(x), (math.expm1(x) - x * math.exp(x)) / math.expm1(x) ** 2 if x < 300 else 0.0

    (phi_w, slope_w), (phi_l, slope_l) = phi(p["snr"] * won), phi(p["snr"] * lost)
    z = p["T"] * (phi_w - phi_l)
    softplus = max(-z, 0) + math.log1p(math.exp(-abs(z)))
    pull = p["beta"] * p["T"] * p["snr"] / (1 + math.exp(min(z, 700)))
    return won + p["beta"] * softplus, 1 - pull * slope_w, pull * slope_l


def test_mapo_at_every_edge_of_the_scalar_sweep() -> None:
    """Ours is finite and right where the peer's float32 is not a number; where the peer is sound we agree with it."""
    z = Recording("mapo_scalar_sweep")
    p, compared = z.scalars["sweep"]["p"], 0
    objective = MaPO(beta=p["beta"], scale=p["snr"], amplitude=p["T"])
    for suffix, dtype in DTYPES.items():
        for _, _, won, lost, peer_loss, _, peer_grad_w, peer_grad_l in z.arrays[f"sweep.out{suffix}.rows"].tolist():
            pixels = torch.tensor([[[won], [lost]]], dtype=dtype).sqrt().requires_grad_()
            mask = torch.ones(1, 2, 1, dtype=torch.bool)
            policy = LogProbs(step_BKT=-0.5 * pixels.square(), mask_BKT=mask, density="bound")
            inputs = ObjectiveInputs(policy=policy, scores_BK=torch.tensor([[1.0, 0.0]]), mask_BK=mask[..., 0])
            loss = objective(inputs).loss
            loss.backward()
            assert pixels.grad is not None
            (x_w, grad_w), (x_l, grad_l) = zip(pixels.flatten().tolist(), pixels.grad.flatten().tolist(), strict=True)
            truth, slope_w, slope_l = _true_mapo(x_w * x_w, x_l * x_l, p)
            # One unit in the last place of phi is T times as much in the logit.
            tight = 1e-5 if dtype == torch.float32 else 1e-11
            slack = p["beta"] * p["T"] * torch.finfo(dtype).eps
            assert_close(loss.item(), truth, rtol=tight, atol=slack)
            assert_close(grad_w, slope_w * 2 * x_w, rtol=200 * tight, atol=200 * slack * slope_w)
            assert_close(grad_l, slope_l * 2 * x_l, rtol=200 * tight, atol=1e-25)
            # The peer loses about eps / x of phi at small x: an oracle only where x is not small or the margin is won.
            sound = min(won, lost) > 0.1 or abs(slope_l) < 1e-9
            if sound and math.isfinite(peer_grad_w):
                compared += 1
                assert_close(loss.item(), peer_loss, rtol=1e-4, atol=1e-6)
                assert_close(grad_w, peer_grad_w, rtol=2e-3, atol=1e-6)
                assert_close(grad_l, peer_grad_l, rtol=2e-3, atol=1e-6)
    assert compared
