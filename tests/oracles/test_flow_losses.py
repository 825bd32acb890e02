"""Flow-DPO as in flow_grpo: times, corruption, losses and gradients against its recorded numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recorded import DTYPES, Recording, Replay, as_groups, errors, paired_batch, paired_draw, runs
from torch.testing import assert_close

from penchant.likelihoods import FlowMatching, gaussian
from penchant.objectives import DPO
from penchant.objectives.beta import convert
from penchant.types import ObjectiveInputs

pytestmark = pytest.mark.oracle
FILE = "flow_dpo_sd3"
SHIFT = 3.0  # of SD3.5's scheduler, with which the file was recorded


def _grid_times(z: Recording) -> torch.Tensor:
    """Our time before the shift for each recorded row: a multiple of 1 / grid, tied inside the pair."""
    grid = len(z.arrays["shared.in.sigmas"])
    u = z.arrays["shared.out.u"].astype(np.float64)
    return torch.from_numpy(FlowMatching(grid=grid).on_grid(1 - u)).repeat(2)


def test_sigma_schedule() -> None:
    sigmas = Recording(FILE).tensor("shared.in.sigmas")
    assert_close(gaussian.flow_sigmas(len(sigmas), SHIFT).float(), sigmas, rtol=1e-6, atol=1e-7)
    assert_close(Recording(FILE).tensor("shared.in.timesteps"), 1000 * sigmas, rtol=1e-6, atol=1e-4)


def test_logit_normal_index() -> None:
    z = Recording(FILE)
    grid = len(z.arrays["shared.in.sigmas"])
    time = _grid_times(z)[: len(z.arrays["shared.out.u"])]
    np.testing.assert_array_equal((grid - time * grid).round().long(), z.arrays["shared.out.indices"])
    sigma = gaussian.shift_time(_grid_times(z), SHIFT).float()
    assert_close(sigma, z.tensor("shared.out.sigmas").flatten(), rtol=1e-6, atol=1e-7)
    assert torch.equal(as_groups(z.tensor("shared.out.noise"))[:, 0], as_groups(z.tensor("shared.out.noise"))[:, 1])


def test_flow_dpo() -> None:
    z = Recording(FILE)
    latents = z.tensor("shared.in.latents", torch.float64)
    batch_draw = paired_draw(_grid_times(z), z.tensor("shared.out.noise"))
    for case, suffix in runs(FILE):
        dtype, p, out = DTYPES[suffix], z.scalars[case]["p"], z.scalars[case]["out" + suffix]
        tolerance = {"rtol": 1e-9, "atol": 1e-14} if suffix else {"rtol": 2e-5, "atol": 1e-9}
        batch, likelihood = paired_batch(latents.to(dtype)), FlowMatching()
        target = z.tensor("shared.out.noise", dtype) - latents.to(dtype)
        answer = (target + p["pred_scale"] * z.tensor("shared.in.eps_model", dtype)).requires_grad_()
        model = Replay(answer, prediction="velocity", shift=SHIFT)
        ref_answer = target + p["pred_scale"] * z.tensor("shared.in.eps_ref", dtype)
        policy = likelihood.log_prob(model, batch, batch_draw)
        fixed = likelihood.log_prob(Replay(ref_answer, prediction="velocity", shift=SHIFT), batch, batch_draw)
        inputs = ObjectiveInputs(policy=policy, reference=fixed, scores_BK=batch.scores_BK, mask_BK=batch.mask_BK)
        output = DPO(beta=convert(p["beta"], source="flow-grpo"))(inputs)
        assert_close(output.loss.item(), out["loss"], **tolerance)
        assert_close(output.metrics["rewards/accuracies"].item(), out["implicit_acc"], rtol=1e-5, atol=0)
        assert_close(errors(policy), z.tensor(f"{case}.out{suffix}.theta_mse"), **tolerance)
        assert_close(errors(fixed), z.tensor(f"{case}.out{suffix}.ref_mse"), **tolerance)
        assert_close(model.noisy.float(), z.tensor("shared.out.noisy"), rtol=1e-5, atol=1e-6)
        assert_close(model.time.float(), z.tensor("shared.out.sigmas").flatten(), rtol=1e-6, atol=1e-7)
        assert_close(1000 * model.time.float(), z.tensor("shared.out.timesteps"), rtol=1e-6, atol=1e-3)
        if z.has(f"{case}.grad{suffix}.model_pred"):
            output.loss.backward()
            assert_close(answer.grad, z.tensor(f"{case}.grad{suffix}.model_pred"), rtol=2e-3, atol=1e-6)
