"""Diffusion and flow-matching likelihoods: one test for each sentence one would say about them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_denoisers import SHAPE, Oracle, batch, linear
from torch import Tensor
from torch.testing import assert_close

from penchant.errors import ModelError, RecipeError
from penchant.likelihoods import LIKELIHOODS, Autoregressive, DenoisingPath, Diffusion, FlowMatching, gaussian
from penchant.types import CandidateBatch, Draw, Likelihood, LogProbs

KINDS = ("epsilon", "v_prediction", "sample", "velocity")


def likelihood_for(kind: str, **options: Any) -> Likelihood:
    return FlowMatching(**options) if kind == "velocity" else Diffusion(**options)


def rows(draw: Draw) -> tuple[Tensor, Tensor]:
    assert draw.time_BKT is not None
    assert draw.noise_BKT is not None
    return draw.time_BKT, draw.noise_BKT


def permuted(data: CandidateBatch, order: list[int]) -> CandidateBatch:
    return replace(
        data,
        sample_ids=tuple(tuple(ids[k] for k in order) for ids in data.sample_ids),
        candidates={name: v[:, order] for name, v in data.candidates.items()},
        scores_BK=data.scores_BK[:, order],
        mask_BK=data.mask_BK[:, order],
    )


# --- draws ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["epsilon", "velocity"])
def test_a_group_shares_time_and_noise_and_groups_differ(kind: str) -> None:
    time, noise = rows(likelihood_for(kind, steps=3).draw(batch(range(6), K=4), seed=1, epoch=2))
    assert time.shape == (6, 4, 3)
    assert noise.shape == (6, 4, 3, *SHAPE)
    for k in range(1, 4):
        assert torch.equal(time[:, 0], time[:, k])
        assert torch.equal(noise[:, 0], noise[:, k])
    assert len(noise[:, 0].flatten(0, 1).flatten(1).unique(dim=0)) == 18
    assert len(time[:, 0].unique()) > 10


@pytest.mark.parametrize("kind", ["epsilon", "velocity"])
def test_draws_do_not_depend_on_batch_order_or_size(kind: str) -> None:
    likelihood = likelihood_for(kind, steps=2, caption_dropout=0.5)
    whole = likelihood.draw(batch((5, 1, 7, 3)), seed=3, epoch=1)
    for b, group in enumerate((5, 1, 7, 3)):
        alone = likelihood.draw(batch((group,)), seed=3, epoch=1)
        assert alone.key_B[0] == whole.key_B[b]
        assert torch.equal(rows(alone)[0][0], rows(whole)[0][b])
        assert torch.equal(rows(alone)[1][0], rows(whole)[1][b])
        assert alone.dropped_B is not None
        assert whole.dropped_B is not None
        assert alone.dropped_B[0] == whole.dropped_B[b]


@pytest.mark.parametrize("kind", ["epsilon", "velocity"])
def test_seed_and_epoch_change_the_draw_and_its_key(kind: str) -> None:
    likelihood, data = likelihood_for(kind), batch()
    draws = [likelihood.draw(data, seed=s, epoch=e) for s, e in ((0, 0), (1, 0), (0, 1))]
    assert len({d.key_B for d in draws}) == 3
    assert len({rows(d)[1].sum().item() for d in draws}) == 3
    assert torch.equal(rows(likelihood.draw(data, seed=0, epoch=0))[1], rows(draws[0])[1])


@pytest.mark.parametrize("kind", ["epsilon", "velocity"])
def test_unshared_draws_belong_to_the_sample_not_to_its_place(kind: str) -> None:
    likelihood = likelihood_for(kind, share_noise=False, share_timestep=False)
    data, order = batch(K=3), [2, 0, 1]
    (time, noise), (time_p, noise_p) = (
        rows(likelihood.draw(d, seed=0, epoch=0)) for d in (data, permuted(data, order))
    )
    assert not torch.equal(noise[:, 0], noise[:, 1])
    assert not torch.equal(time[:, 0], time[:, 1])
    assert torch.equal(noise[:, order], noise_p)
    assert torch.equal(time[:, order], time_p)


def test_noise_and_timestep_are_shared_independently() -> None:
    time, noise = rows(Diffusion(share_noise=False).draw(batch(range(8)), seed=0, epoch=0))
    assert torch.equal(time[:, 0], time[:, 1])
    assert not torch.equal(noise[:, 0], noise[:, 1])
    time, noise = rows(Diffusion(share_timestep=False).draw(batch(range(8)), seed=0, epoch=0))
    assert not torch.equal(time[:, 0], time[:, 1])
    assert torch.equal(noise[:, 0], noise[:, 1])


@pytest.mark.parametrize("kind", ["epsilon", "velocity"])
def test_a_bank_repeats_after_as_many_epochs(kind: str) -> None:
    banked, data = likelihood_for(kind, bank=3), batch()
    keys = [banked.draw(data, seed=0, epoch=e).key_B for e in range(7)]
    assert len(set(keys)) == 3
    assert keys[1] == keys[4]
    assert torch.equal(rows(banked.draw(data, seed=0, epoch=1))[1], rows(banked.draw(data, seed=0, epoch=4))[1])
    assert len({likelihood_for(kind).draw(data, seed=0, epoch=e).key_B for e in range(7)}) == 7


def test_keys_name_everything_that_determines_a_log_prob() -> None:
    options: list[Likelihood] = [
        Diffusion(),
        Diffusion(steps=2),
        Diffusion(timestep_range=(0, 200)),
        Diffusion(timesteps=(249, 499)),
        Diffusion(zero_terminal_snr=True),
        Diffusion(share_noise=False),
        Diffusion(caption_dropout=0.2),
        Diffusion(prediction="sample"),
        FlowMatching(),
        FlowMatching(shift=1.0),
        FlowMatching(weight="one_minus_t_squared"),
        FlowMatching(time="uniform"),
    ]
    keys = [o.draw(batch((0,)), seed=0, epoch=0).key_B[0] for o in options]
    keys.append(Diffusion().draw(batch((0,), shape=(2, 4, 4)), seed=0, epoch=0).key_B[0])
    assert len(set(keys)) == len(keys)


def test_timesteps_stay_in_their_range_and_fill_it() -> None:
    data = batch(range(400), K=1, shape=(1,))
    time, _ = rows(Diffusion(steps=8).draw(data, seed=0, epoch=0))
    assert time.dtype == torch.int64
    assert time.min() >= 0
    assert time.max() <= 999
    assert abs(time.double().mean().item() - 499.5) < 15
    refiner, _ = rows(Diffusion(timestep_range=(100, 200)).draw(data, seed=0, epoch=0))
    assert refiner.min() >= 100
    assert refiner.max() < 200
    turbo, _ = rows(Diffusion(timesteps=(249, 499, 749, 999)).draw(data, seed=0, epoch=0))
    assert set(turbo.flatten().tolist()) == {249, 499, 749, 999}


def test_flow_times_follow_their_distribution() -> None:
    data = batch(range(500), K=1, shape=(1,))
    uniform, _ = rows(FlowMatching(time="uniform", steps=8).draw(data, seed=0, epoch=0))
    assert abs(uniform.mean().item() - 0.5) < 0.02
    assert abs(uniform.std().item() - math.sqrt(1 / 12)) < 0.01
    normal, _ = rows(FlowMatching(logit_mean=0.7, logit_std=0.5, steps=8).draw(data, seed=0, epoch=0))
    assert abs(normal.logit().mean().item() - 0.7) < 0.03
    assert abs(normal.logit().std().item() - 0.5) < 0.02
    gridded, _ = rows(FlowMatching(logit_mean=0.7, logit_std=0.5, steps=8, grid=10).draw(data, seed=0, epoch=0))
    assert_close(gridded, (normal * 10).ceil() / 10)
    assert gridded.min() > 0


def test_captions_are_dropped_for_the_group_in_the_stated_share() -> None:
    draw = Diffusion(caption_dropout=0.2).draw(batch(range(1000), shape=(1,)), seed=0, epoch=0)
    assert draw.dropped_B is not None
    assert 0.16 < draw.dropped_B.float().mean() < 0.24
    assert Diffusion().draw(batch(), seed=0, epoch=0).dropped_B is None
    assert Diffusion(caption_dropout=1.0).draw(batch(), seed=0, epoch=0).dropped_B.all()  # type: ignore[union-attr]


def test_one_candidate_at_a_time_is_the_same_draw_and_log_prob() -> None:
    likelihood, data, model = Diffusion(steps=2, share_noise=False), batch(K=3), linear("epsilon")
    draw = likelihood.draw(data, seed=0, epoch=0)
    whole = likelihood.log_prob(model, data, draw).total()
    for k in range(3):
        one, one_draw = data.only_candidate(k), draw.only_candidate(k)
        again = likelihood.draw(one, seed=0, epoch=0)
        assert torch.equal(rows(again)[1], rows(one_draw)[1])
        assert_close(likelihood.log_prob(model, one, one_draw).total()[:, 0], whole[:, k])


# --- log-probs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_knows_the_data_has_log_prob_zero(kind: str) -> None:
    data = batch((4,), dtype=torch.float64)
    data = replace(data, candidates={"latents": data.candidates["latents"][:, :1].expand(-1, 2, *SHAPE)})
    alphas = None if kind == "velocity" else gaussian.alphas_cumprod()
    model = Oracle(data.candidates["latents"][0, 0], prediction=kind, alphas_cumprod=alphas)
    likelihood = likelihood_for(kind, steps=5)
    log_probs = likelihood.log_prob(model, data, likelihood.draw(data, seed=0, epoch=0))
    assert log_probs.density == "bound"
    assert log_probs.step_BKT.abs().max() < 1e-20


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_by_hand(kind: str) -> None:
    """-1/2 of the mean squared error, written out for one row with no help of the library."""
    likelihood, data, model = likelihood_for(kind), batch((3,), dtype=torch.float64), linear(kind, dtype=torch.float64)
    draw = likelihood.draw(data, seed=0, epoch=0)
    (time, noise), x0 = rows(draw), data.candidates["latents"][0, 1]
    eps = noise[0, 1, 0].double()
    if kind == "velocity":
        t = time[0, 1, 0].double()
        t = 3 * t / (1 + 2 * t)
        a, s = 1 - t, t
    else:
        t = time[0, 1, 0]
        a, s = gaussian.alphas_cumprod()[t].sqrt(), (1 - gaussian.alphas_cumprod()[t]).sqrt()
    target = {"epsilon": eps, "sample": x0, "v_prediction": a * eps - s * x0, "velocity": eps - x0}[kind]
    condition, micro = data.condition["prompt"], data.candidates["micro"][:, 1]
    answer = model.denoise((a * x0 + s * eps)[None], t[None], {"prompt": condition}, {"micro": micro})[0]
    expected = -0.5 * ((answer - target) ** 2).sum() / math.prod(SHAPE)
    assert_close(likelihood.log_prob(model, data, draw).total()[0, 1], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_over_draws_is_the_log_prob(kind: str) -> None:
    likelihood, data, model = likelihood_for(kind, steps=4), batch(), linear(kind)
    log_probs = likelihood.log_prob(model, data, likelihood.draw(data, seed=0, epoch=0))
    assert log_probs.step_BKT.shape == (3, 2, 4)
    assert_close(log_probs.total(), log_probs.step_BKT.mean(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: str) -> None:
    likelihood, data = likelihood_for(kind, steps=2, caption_dropout=0.5), batch(dtype=torch.float64)
    data = replace(data, mask_BK=torch.tensor([[True, True], [True, False], [False, True]]))
    draw, model = likelihood.draw(data, seed=0, epoch=0), linear(kind, dtype=torch.float64)

    def total(weights: Tensor) -> Tensor:
        model.weights = weights
        return likelihood.log_prob(model, data, draw).total()

    weights = model.weights.clone().requires_grad_()
    assert torch.autograd.gradcheck(total, (weights,))
    assert total(weights).dtype == torch.float64


@pytest.mark.parametrize("source", KINDS[:3])
@pytest.mark.parametrize("space", KINDS[:3])
def test_a_prediction_judged_in_another_space_is_the_converted_error(source: str, space: Any) -> None:
    """eps, v and x0 errors of one prediction differ by the known factors s/a and 1/a."""
    data, model = batch(dtype=torch.float64), linear(source, dtype=torch.float64)
    own = Diffusion(timestep_range=(300, 301))
    draw = own.draw(data, seed=0, epoch=0)
    power = gaussian.alphas_cumprod()[300]
    a, s = power.sqrt(), (1 - power).sqrt()
    # |error| in eps, in units of the error in each space.
    unit = {"epsilon": 1.0, "sample": (a / s).item(), "v_prediction": a.item()}
    there = Diffusion(timestep_range=(300, 301), prediction=space).log_prob(model, data, draw).total()
    assert_close(there, own.log_prob(model, data, draw).total() * (unit[source] / unit[space]) ** 2)


def test_a_better_denoiser_is_more_likely_on_average() -> None:
    """The bound as an ELBO: of all linear denoisers of Gaussian data, the posterior mean scores best."""
    g = torch.Generator().manual_seed(0)
    data = batch(range(300), K=1, shape=(64,), dtype=torch.float64)
    data = replace(data, candidates={"latents": 0.5 * torch.randn(300, 1, 64, generator=g, dtype=torch.float64)})
    likelihood, model = FlowMatching(steps=1, shift=1.0), linear("velocity", dtype=torch.float64)
    draw = replace(likelihood.draw(data, seed=0, epoch=0), time_BKT=torch.full((300, 1, 1), 0.6, dtype=torch.float64))
    # E[eps - x0 | x_t] = (s - a v) / (a^2 v + s^2) x_t with v the data variance.
    best = (0.6 - 0.4 * 0.25) / (0.16 * 0.25 + 0.36)
    scores = {}
    for slope in (0.0, best - 0.2, best, best + 0.2):
        model.weights = torch.tensor([slope, 0, 0, 0], dtype=torch.float64)
        scores[slope] = likelihood.log_prob(model, data, draw).total().mean().item()
    assert max(scores, key=scores.__getitem__) == best


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_in_another_order_have_the_same_log_probs(kind: str) -> None:
    likelihood, data, model, order = likelihood_for(kind), batch(K=4), linear(kind), [3, 1, 0, 2]
    both = [likelihood.log_prob(model, d, likelihood.draw(d, seed=0, epoch=0)) for d in (data, permuted(data, order))]
    assert_close(both[0].total()[:, order], both[1].total())


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_candidate_is_zero_costs_no_forward_and_poisons_nothing(kind: str) -> None:
    likelihood, model = likelihood_for(kind, steps=2), linear(kind, grad=True)
    full, data = batch(K=3), batch(K=3)
    mask = torch.tensor([[True, False, True], [True, True, False], [False, False, False]])
    latents = torch.where(mask[:, :, None, None, None], data.candidates["latents"], torch.nan)
    data = replace(data, mask_BK=mask, candidates={**data.candidates, "latents": latents})
    draw = likelihood.draw(full, seed=0, epoch=0)
    log_probs = likelihood.log_prob(model, data, draw, keep_output=True)
    assert model.rows == 2 * int(mask.sum())
    assert (log_probs.step_BKT[~mask] == 0).all()
    assert (log_probs.output[~mask] == 0).all()  # type: ignore[index]
    assert torch.equal(log_probs.mask_BKT, mask[:, :, None].expand(-1, -1, 2))
    assert_close(log_probs.total()[mask], likelihood.log_prob(model, full, draw).total()[mask])
    log_probs.total().sum().backward()
    assert model.weights.grad is not None
    assert model.weights.grad.isfinite().all()


def test_a_batch_of_missing_candidates_is_all_zeros() -> None:
    data = batch()
    data = replace(data, mask_BK=torch.zeros(3, 2, dtype=torch.bool))
    likelihood = Diffusion()
    log_probs = likelihood.log_prob(linear("epsilon"), data, likelihood.draw(data, seed=0, epoch=0), keep_output=True)
    assert (log_probs.total() == 0).all()
    assert log_probs.output is not None
    assert log_probs.output.shape == (3, 2, 1, *SHAPE)


@pytest.mark.parametrize("kind", ["epsilon", "velocity"])
def test_dropped_captions_are_the_empty_prompt_and_others_stay(kind: str) -> None:
    data, model = batch(range(8)), linear(kind)
    likelihood = likelihood_for(kind, caption_dropout=0.5)
    draw = likelihood.draw(data, seed=0, epoch=0)
    assert draw.dropped_B is not None
    assert 0 < draw.dropped_B.sum() < 8
    with_drop = likelihood.log_prob(model, data, draw).total()
    kept = likelihood.log_prob(model, data, replace(draw, dropped_B=None)).total()
    empty = replace(data, condition={"prompt": model.unconditional()["prompt"].expand(8, -1, -1)})
    without = likelihood.log_prob(model, empty, replace(draw, dropped_B=None)).total()
    assert_close(with_drop, torch.where(draw.dropped_B[:, None], without, kept))
    extra = replace(data, condition={**data.condition, "first_frame": torch.zeros(8, 1)})
    assert_close(likelihood.log_prob(model, extra, draw).total(), with_drop)


def test_the_derived_flow_weight_multiplies_errors_and_divergence() -> None:
    data = batch(dtype=torch.float64)
    plain, weighted = FlowMatching(steps=2), FlowMatching(steps=2, weight="one_minus_t_squared")
    draw = plain.draw(data, seed=0, epoch=0)
    policy, reference = (linear("velocity", seed=s, dtype=torch.float64) for s in (0, 1))
    weight = (1 - gaussian.shift_time(rows(draw)[0].double(), 3.0)) ** 2
    unweighted = plain.log_prob(policy, data, draw)
    assert_close(weighted.log_prob(policy, data, draw).step_BKT, weight * unweighted.step_BKT)
    ends = [weighted.log_prob(m, data, draw, keep_output=True) for m in (policy, reference)]
    outs = [plain.log_prob(m, data, draw, keep_output=True).output for m in (policy, reference)]
    distance = weight * (outs[0] - outs[1]).square().flatten(3).mean(-1)  # type: ignore[operator]
    assert_close(weighted.divergence(*ends), distance)


def test_shift_is_the_models_unless_given() -> None:
    data, model = batch(), linear("velocity")
    draw = FlowMatching().draw(data, seed=0, epoch=0)
    given = FlowMatching(shift=3.0).log_prob(model, data, draw).total()
    assert_close(FlowMatching().log_prob(model, data, draw).total(), given)
    assert not torch.allclose(FlowMatching(shift=1.0).log_prob(model, data, draw).total(), given)


def test_video_latents_of_any_rank() -> None:
    data, model = batch(shape=(2, 3, 4, 5)), linear("velocity")
    log_probs = FlowMatching().log_prob(model, data, FlowMatching().draw(data, seed=0, epoch=0), keep_output=True)
    assert log_probs.output is not None
    assert log_probs.output.shape == (3, 2, 1, 2, 3, 4, 5)
    assert log_probs.total().shape == (3, 2)


def test_zero_terminal_snr_shows_the_model_pure_noise_at_the_last_step() -> None:
    data, seen = batch(dtype=torch.float64), []
    model = linear("v_prediction", dtype=torch.float64)
    plain = model.denoise
    model.denoise = lambda noisy, *rest: (seen.append(noisy), plain(noisy, *rest))[1]  # type: ignore[method-assign]
    likelihood = Diffusion(timesteps=(999,), zero_terminal_snr=True)
    draw = likelihood.draw(data, seed=0, epoch=0)
    assert likelihood.log_prob(model, data, draw).total().isfinite().all()
    assert_close(seen[0], rows(draw)[1].flatten(0, 2).double())
    Diffusion(timesteps=(999,)).log_prob(model, data, draw)
    assert not torch.allclose(seen[1], seen[0])


# --- numerics -------------------------------------------------------------------------------------------------------


def test_half_precision_forward_float32_error() -> None:
    data, likelihood = batch(shape=(4, 16, 16)), Diffusion()
    draw = likelihood.draw(data, seed=0, epoch=0)
    model = linear("epsilon")
    exact = likelihood.log_prob(model, data, draw).total()
    plain = model.denoise
    model.denoise = lambda *rows: plain(*rows).bfloat16()  # type: ignore[method-assign]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = likelihood.log_prob(model, data, draw, keep_output=True)
    assert half.step_BKT.dtype == torch.float32
    # The rounding of single predictions averages out; a mean taken in bfloat16 would keep 2^-9 of itself.
    assert_close(half.total(), exact, rtol=1e-3, atol=0)
    assert half.output is not None
    assert half.output.dtype == torch.float32


def test_half_precision_latents_are_corrupted_in_float32() -> None:
    data, seen = batch(), []
    data = replace(data, candidates={"latents": data.candidates["latents"].bfloat16()})
    model = linear("epsilon")
    plain = model.denoise
    model.denoise = lambda noisy, *rest: (seen.append(noisy.dtype), plain(noisy, *rest))[1]  # type: ignore[method-assign]
    assert Diffusion().log_prob(model, data, Diffusion().draw(data, seed=0, epoch=0)).step_BKT.dtype == torch.float32
    assert seen == [torch.float32]


def test_divergence_is_the_mean_squared_distance_of_predictions() -> None:
    likelihood, data = Diffusion(steps=3), batch(dtype=torch.float64)
    data = replace(data, mask_BK=torch.tensor([[True, True], [True, False], [True, True]]))
    draw = likelihood.draw(data, seed=0, epoch=0)
    policy, reference = (
        likelihood.log_prob(linear("epsilon", seed=s, dtype=torch.float64), data, draw, keep_output=True)
        for s in (0, 1)
    )
    distance = likelihood.divergence(policy, reference)
    assert policy.output is not None
    assert reference.output is not None
    assert_close(distance, (policy.output - reference.output).square().flatten(3).mean(-1))
    assert (distance[1, 1] == 0).all()
    assert (likelihood.divergence(policy, policy) == 0).all()
    with pytest.raises(ValueError, match="keep_output"):
        likelihood.divergence(policy, LogProbs(step_BKT=policy.step_BKT, mask_BKT=policy.mask_BKT, density="bound"))


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("epsilon", {"steps": 0}),
        ("epsilon", {"caption_dropout": 1.5}),
        ("epsilon", {"bank": 0}),
        ("epsilon", {"timesteps": ()}),
        ("epsilon", {"timestep_range": (200, 200)}),
        ("velocity", {"steps": 0}),
        ("velocity", {"grid": 0}),
        ("velocity", {"shift": 0.0}),
        ("velocity", {"time": "cosine"}),
        ("velocity", {"weight": "snr"}),
    ],
)
def test_impossible_options_are_refused(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        likelihood_for(kind, **options)


def _answer(likelihood: Likelihood, model: Any) -> None:
    data = batch()
    likelihood.log_prob(model, data, likelihood.draw(data, seed=0, epoch=0))


def test_models_of_the_other_family_are_refused() -> None:
    with pytest.raises(ModelError, match="FlowMatching"):
        _answer(Diffusion(), linear("velocity"))
    with pytest.raises(ModelError, match="Diffusion"):
        _answer(FlowMatching(), linear("epsilon"))


def test_what_a_model_cannot_mean_is_refused() -> None:
    short = linear("epsilon")
    short.alphas_cumprod = gaussian.alphas_cumprod(steps=100)
    with pytest.raises(ModelError, match="100 steps"):
        _answer(Diffusion(), short)
    with pytest.raises(ModelError, match="terminal"):
        _answer(Diffusion(zero_terminal_snr=True, prediction="sample"), linear("epsilon"))
    variances = linear("epsilon")
    variances.denoise = lambda noisy, *_: torch.cat([noisy, noisy], 1)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="variances"):
        _answer(Diffusion(), variances)
    misfit = linear("epsilon")
    misfit.unconditional = lambda: {"prompt": torch.zeros(1, 5, 2)}  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="empty prompt"):
        _answer(Diffusion(caption_dropout=1.0), misfit)


def test_the_table_holds_frozen_options() -> None:
    assert list(LIKELIHOODS) == ["diffusion", "flow_matching", "autoregressive", "denoising_path"]
    assert list(LIKELIHOODS.values()) == [Diffusion, FlowMatching, Autoregressive, DenoisingPath]
    for likelihood in (Diffusion(), FlowMatching()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            likelihood.steps = 2  # type: ignore[misc]
        assert replace(likelihood) == likelihood
