"""Flow-DPO is DPO on a flow bound: what VideoAlign (arXiv 2501.13918, section 4.2) says of it, sentence by sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from tiny_denoisers import batch, linear
from torch import Tensor
from torch.testing import assert_close

from penchant.likelihoods import Diffusion, FlowMatching, gaussian
from penchant.objectives import DPO
from penchant.types import CandidateBatch, Denoiser, Draw, Likelihood, LogProbs, ObjectiveInputs

BETA = 3.0
CONSTANT = FlowMatching(shift=1.0, time="uniform")
DERIVED = FlowMatching(shift=1.0, time="uniform", weight="one_minus_t_squared")


def pairs() -> CandidateBatch:
    """Six groups of two in float64; the second candidate wins."""
    groups = batch(range(6), K=2, dtype=torch.float64)
    return replace(groups, scores_BK=torch.tensor([[0.0, 1.0]]).expand(6, 2))


def loss(policy: LogProbs, reference: LogProbs, groups: CandidateBatch) -> Tensor:
    inputs = ObjectiveInputs(policy=policy, reference=reference, scores_BK=groups.scores_BK, mask_BK=groups.mask_BK)
    return DPO(beta=BETA)(inputs).loss_B


class FlowAsDiffusion(Denoiser):
    """A flow model seen as an epsilon model on a variance-preserving path with the same signal-to-noise ratios.

    Timestep i is the flow time (i + 1) / (steps + 1). The latents of the two paths differ by a factor only,
    x_flow = x_vp * sqrt((1-t)^2 + t^2), and eps = x_flow + (1 - t) v.
    """

    prediction = "epsilon"

    def __init__(self, flow: Denoiser, steps: int) -> None:
        self.flow, self.shift = flow, 1.0
        self.times = torch.arange(1, steps + 1, dtype=torch.float64) / (steps + 1)
        self.alphas_cumprod = (1 - self.times).square() / ((1 - self.times).square() + self.times.square())

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        t_N = self.times[time_N]
        across = t_N.reshape(-1, *[1] * (noisy_N.dim() - 1))
        x = noisy_N * ((1 - across).square() + across.square()).sqrt()
        return x + (1 - across) * self.flow.denoise(x, t_N, condition, candidates)

    def unconditional(self) -> Mapping[str, Tensor]:
        return self.flow.unconditional()


def test_the_loss_is_log_two_at_the_start() -> None:
    model, groups = linear("velocity", dtype=torch.float64), pairs()
    for likelihood in (CONSTANT, DERIVED):
        log_probs = likelihood.log_prob(model, groups, likelihood.draw(groups, seed=0, epoch=0))
        assert_close(loss(log_probs, log_probs, groups), torch.full((6,), math.log(2), dtype=torch.float64))


def test_the_loss_is_the_papers_formula() -> None:
    """-log sigmoid(-beta/2 * [(|v_w - v|^2 - |v_w - v_ref|^2) - (|v_l - v|^2 - |v_l - v_ref|^2)]), norms as means."""
    model, reference, groups = *(linear("velocity", seed=s, dtype=torch.float64) for s in (0, 1)), pairs()
    draw = CONSTANT.draw(groups, seed=0, epoch=0)
    t_N, noise = draw.time_BKT[:, 0, 0].double(), draw.noise_BKT[:, 0, 0].double()  # type: ignore[index]
    across = t_N.reshape(-1, 1, 1, 1)
    gaps = []
    for k in (1, 0):
        x0 = groups.candidates["latents"][:, k]
        micro = {name: value[:, k] for name, value in groups.candidates.items() if name != "latents"}
        x, target = (1 - across) * x0 + across * noise, noise - x0
        errors = [
            (target - m.denoise(x, t_N, groups.condition, micro)).square().flatten(1).mean(-1)
            for m in (model, reference)
        ]
        gaps.append(errors[0] - errors[1])
    by_hand = torch.nn.functional.softplus(BETA / 2 * (gaps[0] - gaps[1]))
    got = loss(*(CONSTANT.log_prob(m, groups, draw) for m in (model, reference)), groups)
    assert_close(got, by_hand)


def test_winner_and_loser_share_time_and_noise() -> None:
    groups = pairs()
    for likelihood in (CONSTANT, DERIVED):
        draw = likelihood.draw(groups, seed=0, epoch=0)
        assert draw.time_BKT is not None
        assert draw.noise_BKT is not None
        assert torch.equal(draw.time_BKT[:, 0], draw.time_BKT[:, 1])
        assert torch.equal(draw.noise_BKT[:, 0], draw.noise_BKT[:, 1])


@pytest.mark.parametrize("likelihood", [CONSTANT, DERIVED], ids=["constant", "derived"])
def test_swapping_winner_and_loser_flips_the_sign_of_the_inside(likelihood: FlowMatching) -> None:
    groups = pairs()
    swapped = replace(groups, scores_BK=groups.scores_BK.flip(1))
    draw = likelihood.draw(groups, seed=0, epoch=0)
    both = [likelihood.log_prob(linear("velocity", seed=s, dtype=torch.float64), groups, draw) for s in (0, 1)]
    inside = [torch.log(torch.expm1(loss(*both, g))) for g in (groups, swapped)]
    assert_close(inside[0], -inside[1])
    assert inside[0].abs().max() > 0.1


def _on_steps(groups: CandidateBatch, steps: int) -> tuple[Draw, Draw, Tensor]:
    """The same times and noise as a draw of the flow and as a draw of the diffusion model; and the times [B]."""
    flow = CONSTANT.draw(groups, seed=0, epoch=0)
    index = torch.arange(groups.shape[0]) * steps // groups.shape[0]
    t_B = (index + 1).double() / (steps + 1)
    spread = (groups.shape[0], 2, 1)
    return (
        replace(flow, time_BKT=t_B[:, None, None].expand(spread)),
        replace(flow, time_BKT=index[:, None, None].expand(spread)),
        t_B,
    )


@pytest.mark.parametrize(("likelihood", "equal"), [(DERIVED, True), (CONSTANT, False)], ids=["derived", "constant"])
def test_it_is_diffusion_dpo_on_noise_exactly_when_beta_falls_as_one_minus_t_squared(
    likelihood: Likelihood, equal: bool
) -> None:
    groups, steps = pairs(), 50
    flow_draw, diffusion_draw, _ = _on_steps(groups, steps)
    model, reference = (linear("velocity", seed=s, dtype=torch.float64, grad=s == 0) for s in (0, 1))
    by_flow = loss(*(likelihood.log_prob(m, groups, flow_draw) for m in (model, reference)), groups)
    diffusion = Diffusion(timestep_range=(0, steps))
    as_diffusion = [FlowAsDiffusion(m, steps) for m in (model, reference)]
    by_noise = loss(*(diffusion.log_prob(m, groups, diffusion_draw) for m in as_diffusion), groups)
    slopes = [torch.autograd.grad(value.sum(), model.weights)[0] for value in (by_flow, by_noise)]
    assert torch.allclose(by_flow, by_noise, rtol=1e-9) == equal
    assert torch.allclose(*slopes, rtol=1e-9) == equal


def test_a_constant_beta_is_the_stronger_leash_at_high_noise() -> None:
    """At equal beta the two logits differ by (1 - t)^2: the derived form hardly regards what happens near noise."""
    groups, steps = pairs(), 50
    draw, _, t_B = _on_steps(groups, steps)
    both = [linear("velocity", seed=s, dtype=torch.float64) for s in (0, 1)]
    ratios = [
        one.log_prob(both[0], groups, draw).total() - one.log_prob(both[1], groups, draw).total()
        for one in (CONSTANT, DERIVED)
    ]
    assert_close(ratios[1], (1 - t_B).square()[:, None] * ratios[0])


def test_the_velocitys_error_is_the_noises_over_one_minus_t() -> None:
    x0, noise, v = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t_N = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    a_N, s_N = gaussian.flow_coefficients(t_N)
    x = gaussian.add_noise(x0, noise, a_N, s_N)
    eps = gaussian.convert(v, x, a_N, s_N, source="velocity", to="epsilon")
    assert_close(gaussian.mean_error(eps, noise), (1 - t_N).square() * gaussian.mean_error(v, noise - x0))
