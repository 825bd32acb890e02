"""VideoAlign's reward losses, values and gradients, and its accuracies, recorded from its own code."""

from __future__ import annotations

import pytest
import torch
from recorded import DTYPES, Recording, runs
from torch.testing import assert_close

from penchant.reward_models.accuracy import with_ties, without_ties
from penchant.reward_models.losses import (
    BradleyTerry,
    BradleyTerryTies,
    Comparisons,
    ConstantMargin,
    RatedMargin,
    RatedScale,
    Regression,
    RewardLoss,
)

pytestmark = pytest.mark.oracle

LOSSES, ACCURACY = "videoalign_reward_losses", "videoalign_accuracy"


def loss_of(case: str, k: float) -> RewardLoss:
    """Our name for the recorded `loss_type`."""
    return {
        "bt": BradleyTerry(reduction="all"),
        "btt": BradleyTerryTies(theta=k, reduction="all"),
        "reg": Regression(reduction="all"),
        "margin": RatedMargin(reduction="all"),
        "constant_margin": ConstantMargin(reduction="all"),
        "scaled": RatedScale(reduction="all"),
    }[case]


@pytest.mark.parametrize(("case", "suffix"), runs(LOSSES))
def test_reward_losses(case: str, suffix: str) -> None:
    z, dtype = Recording(LOSSES), DTYPES[suffix]
    rewards = {side: z.tensor(f"shared.in.rewards_{side}", dtype).requires_grad_() for side in "AB"}
    pairs = Comparisons(
        reward_A_BD=rewards["A"],
        reward_B_BD=rewards["B"],
        label_BD=z.tensor("shared.in.chosen_label"),
        rating_A_BD=z.tensor("shared.in.A_scores", dtype),
        rating_B_BD=z.tensor("shared.in.B_scores", dtype),
    )
    loss = loss_of(case, z.scalars[case]["p"]["k"])(pairs)
    assert loss.dtype == dtype
    assert_close(loss.item(), z.scalars[case]["out" + suffix]["loss"], rtol=1e-9 if suffix else 2e-5, atol=0)
    loss.backward()
    exact = {"rtol": 1e-9, "atol": 1e-12} if suffix else {"rtol": 1e-4, "atol": 1e-6}
    for side, reward in rewards.items():
        assert_close(reward.grad, z.tensor(f"{case}.grad{suffix}.rewards_{side}"), **exact)


@pytest.mark.parametrize("case", list(Recording(ACCURACY).scalars))
def test_accuracies_to_the_bit(case: str) -> None:
    z = Recording(ACCURACY)
    out, label = z.scalars[case]["out"], z.arrays[f"{case}.in.h"].tolist()
    difference = z.arrays[f"{case}.in.m"]
    assert with_ties(difference, label, compat="videoalign").accuracy == out["with_ties"]
    assert without_ties(difference, label) == out["without_ties"]


def test_every_recorded_case_has_a_loss() -> None:
    assert {case for case, _ in runs(LOSSES)} == {"bt", "btt", "reg", "margin", "constant_margin", "scaled"}
    assert torch.tensor([loss_of(case, 5.0).reduction == "all" for case, _ in runs(LOSSES)]).all()
