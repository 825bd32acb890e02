"""Reward-weighted regression, one sentence at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from log_probs import gradient, of_total, pair, random_inputs, select, slopes
from torch.testing import assert_close

from penchant.objectives import (
    RWR,
    SFT,
    ClippedWeight,
    ExpWeight,
    RawWeight,
    RewardWeight,
    SelfNormalisedWeight,
    SoftmaxWeight,
)
from penchant.types import ObjectiveInputs

ADDITIVE: list[RewardWeight] = [ExpWeight(), SoftmaxWeight(), RawWeight(), ClippedWeight()]


def scored(*rewards: float) -> ObjectiveInputs:
    """One group whose candidates have the log-probs -0.1, -0.2, ..."""
    logp = -0.1 * torch.arange(1, len(rewards) + 1, dtype=torch.float64)[None]
    return ObjectiveInputs(
        policy=of_total(logp.requires_grad_()),
        scores_BK=torch.tensor([rewards], dtype=torch.float64),
        mask_BK=torch.ones(1, len(rewards), dtype=torch.bool),
    )


def pushes(weight: RewardWeight, *rewards: float) -> list[float]:
    """How much each candidate of a group counts: minus K times its slope."""
    return (-len(rewards) * gradient(RWR(weight=weight), scored(*rewards))[0, :, 0]).tolist()


def test_worked_by_hand() -> None:
    """Errors 0.2 and 0.4, rewards 1 and -1: half of (0.2 e + 0.4 / e) / 2."""
    assert_close(RWR()(scored(1.0, -1.0)).loss.item(), (0.1 * math.e + 0.2 / math.e) / 2)


def test_the_ratio_of_two_weights_is_the_exponential_of_the_rewards_difference() -> None:
    for temperature in (0.5, 1.0, 3.0):
        up, down = pushes(ExpWeight(temperature=temperature), 0.7, -0.4)
        assert_close(up / down, math.exp(1.1 / temperature))
        up, down = pushes(SoftmaxWeight(temperature=temperature), 0.7, -0.4)
        assert_close(up / down, math.exp(1.1 / temperature))


def test_equal_rewards_are_imitation_of_all() -> None:
    inputs = scored(0.0, 0.0, 0.0)
    for weight in (ExpWeight(), SoftmaxWeight(), SelfNormalisedWeight()):
        assert_close(RWR(weight=weight)(inputs).loss, SFT()(inputs).loss)


def test_one_sample_of_reward_zero_is_sft() -> None:
    assert_close(RWR()(scored(0.0)).loss, SFT()(scored(0.0)).loss)
    assert_close(RWR()(scored(math.log(3))).loss, 3 * SFT()(scored(0.0)).loss)


def test_a_cold_softmax_is_sft_on_the_winner() -> None:
    inputs = scored(0.1, 0.5, 0.3)
    assert_close(RWR(weight=SoftmaxWeight(temperature=1e-3))(inputs).loss, SFT()(inputs).loss)


def test_a_softmax_does_not_see_what_a_prompt_is_worth() -> None:
    assert_close(pushes(SoftmaxWeight(), 0.3, 1.0), pushes(SoftmaxWeight(), 5.3, 6.0))
    assert_close(sum(pushes(SoftmaxWeight(), 0.3, 1.0, -2.0)), 3.0)
    assert_close(pushes(ExpWeight(), 1.3, 2.0)[0], math.e * pushes(ExpWeight(), 0.3, 1.0)[0])


def test_no_weight_exceeds_the_largest_and_none_overflows() -> None:
    assert_close(pushes(ExpWeight(largest=5.0), 1e6, math.log(2), -1e6), [5.0, 2.0, 0.0])


def test_raw_rewards_push_away_and_clipped_ones_do_not() -> None:
    assert_close(pushes(RawWeight(), -2.0, 3.0), [-2.0, 3.0])
    assert_close(pushes(ClippedWeight(high=2.5), -2.0, 3.0), [0.0, 2.5])


def test_self_normalised_weights_have_mean_one_and_ignore_a_constant() -> None:
    inputs = random_inputs(B=6, K=2)
    normal = RWR(weight=SelfNormalisedWeight())
    assert_close(normal(inputs).metrics["weights/mean"].item(), 1.0)
    shifted = replace(inputs, scores_BK=inputs.scores_BK + 1.5)
    assert_close(normal(shifted).loss_B, normal(inputs).loss_B)
    assert not torch.allclose(RWR()(shifted).loss_B, RWR()(inputs).loss_B)
    with pytest.raises(ValueError, match="micro_batch"):
        normal(scored(0.3))


@pytest.mark.parametrize("weight", ADDITIVE, ids=lambda w: type(w).__name__)
def test_micro_batches_add_up_exactly(weight: RewardWeight) -> None:
    inputs, objective = random_inputs(B=6, K=3), RWR(weight=weight)
    parts = [gradient(objective, select(inputs, slice(b, b + 2))) for b in (0, 2, 4)]
    assert torch.equal(torch.cat(parts), gradient(objective, inputs))


@pytest.mark.parametrize("weight", [*ADDITIVE, SelfNormalisedWeight()], ids=lambda w: type(w).__name__)
def test_a_missing_candidate_weighs_nothing_and_changes_no_other_weight(weight: RewardWeight) -> None:
    whole, part = scored(0.4, -0.3, 9.0), scored(0.4, -0.3)
    hidden = replace(whole, mask_BK=torch.tensor([[True, True, False]]))
    assert_close(RWR(weight=weight)(hidden).loss, RWR(weight=weight)(part).loss)


def test_a_reward_that_is_no_number_counts_for_nothing() -> None:
    missing, kept = pushes(ExpWeight(), float("nan"), 0.5)
    assert missing == 0
    # The mean is over the candidates that were rewarded.
    assert_close(kept / 2, math.exp(0.5))


def test_no_reference_is_read_and_the_loser_is_still_imitated() -> None:
    assert not RWR.needs.reference
    won, lost = slopes(RWR(), -0.1, -0.3, None)
    assert won < lost < 0
    assert_close(RWR()(pair(-0.1, -0.3, (-0.9, -0.2))[1]).loss, RWR()(pair(-0.1, -0.3, None)[1]).loss)


def test_effective_share_of_samples() -> None:
    assert_close(RWR()(scored(0.0, 0.0)).metrics["weights/effective"].item(), 1.0)
    assert_close(RWR(weight=ClippedWeight())(scored(3.0, 0.0)).metrics["weights/effective"].item(), 0.5)
    assert_close(RWR(weight=RawWeight())(scored(-3.0, 1.0)).metrics["weights/largest"].item(), 3.0)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: ExpWeight(temperature=0.0),
        lambda: ExpWeight(largest=-1.0),
        lambda: SoftmaxWeight(temperature=-1.0),
        lambda: ClippedWeight(low=2.0, high=1.0),
        lambda: SelfNormalisedWeight(weight=RawWeight()),
        lambda: SelfNormalisedWeight(weight=SelfNormalisedWeight()),
    ],
)
def test_impossible_weights_are_refused(refused: object) -> None:
    with pytest.raises(ValueError, match=r"weight|must|mean"):
        refused()  # type: ignore[operator]
