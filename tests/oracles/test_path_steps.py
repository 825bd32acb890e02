"""Stochastic steps of flow_grpo and ddpo-pytorch: log-probs, deviations and gradients against recorded numbers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from recorded import DTYPES, Recording
from torch import Tensor
from torch.testing import assert_close

from penchant.likelihoods import DDIM, FlowSDE, gaussian
from penchant.likelihoods.transitions import Step, Transition, gaussian_kl

pytestmark = pytest.mark.oracle


@dataclass
class Schedule:
    alphas_cumprod: Tensor | None = None


def scored(z: Recording, case: str, transition: Transition, step: Step, quantity, answer: str = "model_output"):
    prediction = z.tensor(f"{case}.in.{answer}").requires_grad_()
    mean = transition.mean(step, prediction, z.tensor(f"{case}.in.sample"), quantity)
    log_prob = transition.log_prob(z.tensor(f"{case}.in.prev_sample"), mean, transition.std(step))
    return prediction, mean, log_prob


def test_flow_grpo() -> None:
    z = Recording("flow_grpo_sde_step")
    for case, scalars in z.scalars.items():
        p, sigmas = scalars["p"], z.tensor(f"{case}.in.sigmas")
        index = torch.tensor(p["step_index"])
        assert_close(z.tensor(f"{case}.in.timesteps"), 1000 * sigmas[index], rtol=1e-6, atol=1e-3)
        step = Step.between(Schedule(), sigmas[index], sigmas[index + 1])
        ours = FlowSDE(noise=p["noise_level"], kl="code")
        prediction, mean, log_prob = scored(z, case, ours, step, "velocity")
        # Their std_dev_t is what their KL divides by; their step has sqrt(-dt) of it.
        assert_close(ours.kl_std(step).float(), z.tensor(f"{case}.out.std").flatten(), rtol=2e-5, atol=0)
        if z.has(f"{case}.out.prev_mean"):
            assert_close(mean, z.tensor(f"{case}.out.prev_mean"), rtol=2e-5, atol=2e-6)
        assert_close(log_prob, z.tensor(f"{case}.out.log_prob"), rtol=2e-5, atol=2e-6)
        if z.has(f"{case}.grad.model_output"):
            log_prob.sum().backward()
            assert_close(prediction.grad, z.tensor(f"{case}.grad.model_output"), rtol=2e-3, atol=1e-6)


def test_flow_grpo_walks_our_schedule() -> None:
    """Theirs stores its smallest sigma after the shift, so only the first step, from 1, is compared."""
    z = Recording("flow_grpo_sde_step")
    for case, scalars in z.scalars.items():
        sigmas, p = z.tensor(f"{case}.in.sigmas"), scalars["p"]
        assert len(sigmas) == p["num_steps"] + 1
        assert sigmas[0] == gaussian.flow_sigmas(p["num_steps"], p["shift"])[0] == 1


def test_flow_grpo_kl() -> None:
    z = Recording("flow_grpo_loss")
    for case, scalars in z.scalars.items():
        for suffix, dtype in DTYPES.items():
            out = scalars["out" + suffix]
            if "kl_loss" not in out:
                continue
            mean, reference, std = (
                z.tensor(f"{case}.in{suffix}.{name}", dtype) for name in ("prev_mean", "prev_mean_ref", "std")
            )
            mean.requires_grad_()
            kl = gaussian_kl(mean, reference, std.flatten()).mean()
            assert_close(kl.item(), out["kl_loss"], rtol=1e-9 if suffix else 2e-5, atol=0)
            (scalars["p"]["beta"] * kl).backward()
            if z.has(f"{case}.grad{suffix}.prev_mean"):
                assert_close(mean.grad, z.tensor(f"{case}.grad{suffix}.prev_mean"), rtol=2e-3, atol=1e-9)


def test_ddpo() -> None:
    z = Recording("ddpo")
    schedule = Schedule(z.tensor("shared.in.alphas_cumprod"))
    cases = [case for case in z.scalars if z.has(f"{case}.in.sample")]
    assert cases
    for case in cases:
        p, time = z.scalars[case]["p"], z.tensor(f"{case}.in.timesteps")
        before = time - p["num_train_timesteps"] // p["num_steps"]
        # Stable Diffusion's last step ends at the first timestep, not at data.
        step = Step.between(schedule, time, before.clamp(min=0))
        transition, quantity = DDIM(eta=p["eta"]), "v_prediction" if p["v_prediction"] else "epsilon"
        *_, old = scored(z, case, transition, step, quantity, "model_output_old")
        prediction, _, log_prob = scored(z, case, transition, step, quantity)
        assert_close(old, z.tensor(f"{case}.out.log_prob_old"), rtol=1e-4, atol=1e-5)
        assert_close(log_prob, z.tensor(f"{case}.out.log_prob"), rtol=1e-4, atol=1e-5)
        assert_close((log_prob - old).exp(), z.tensor(f"{case}.out.ratio"), rtol=2e-3, atol=1e-5)
        advantage = z.tensor(f"{case}.in.advantages").clamp(-p["adv_clip_max"], p["adv_clip_max"])
        clip, ratio = p["clip_range"], (log_prob - old.detach()).exp()
        loss = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)).mean()
        loss.backward()
        assert_close(loss.item(), z.scalars[case]["out"]["loss"], rtol=2e-4, atol=1e-5)
        assert_close(prediction.grad, z.tensor(f"{case}.grad.model_output"), rtol=2e-3, atol=1e-6)
