"""Advantages: what a reward is worth beside the others."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import ClippedAdvantage, GroupRelative, LeaveOneOut, PromptHistory, RawAdvantage, Whitened
from penchant.types import Statistics

RAW = RawAdvantage()
UNSCALED = GroupRelative(scale="none")
by_name = {"ids": lambda o: type(o).__name__}


def known(rewards: Any) -> tuple[Tensor, Tensor]:
    reward_BK = torch.tensor(rewards, dtype=torch.float64)
    return reward_BK.nan_to_num(99.0), ~reward_BK.isnan()


def test_group_advantages_have_mean_zero_and_deviation_one_and_ignore_a_prompts_own_level() -> None:
    reward_BK, known_BK = known([[1.0, 2.0, 4.0, 5.0], [0.0, 0.0, 3.0, 1.0]])
    found_BK = GroupRelative(eps=0.0)(reward_BK, known_BK)
    assert_close(found_BK.mean(-1), torch.zeros(2).double(), atol=1e-12, rtol=0)
    assert_close(found_BK.std(-1), torch.ones(2).double())
    assert_close(GroupRelative(eps=0.0)(reward_BK * 3 + 7, known_BK), found_BK)


def test_the_batch_deviation_keeps_easy_and_hard_groups_in_proportion() -> None:
    reward_BK, known_BK = known([[1.0, 3.0], [1.0, 1.2]])
    found_BK = GroupRelative(scale="batch", eps=0.0)(reward_BK, known_BK)
    assert_close(found_BK, torch.tensor([[-1.0, 1.0], [-0.1, 0.1]]).double() / reward_BK.std())
    of_all = Statistics(steps=1.0, mean=9.0, std=2.0)
    assert_close(
        GroupRelative(scale="batch", eps=0.0)(reward_BK, known_BK, of_all),
        torch.tensor([[-0.5, 0.5], [-0.05, 0.05]]).double(),
    )


def test_leave_one_out_compares_with_the_others() -> None:
    reward_BK, known_BK = known([[1.0, 2.0, 6.0]])
    assert_close(LeaveOneOut()(reward_BK, known_BK), torch.tensor([[-3.0, -1.5, 4.5]]).double())
    # It is the group's baseline times K / (K - 1).
    assert_close(LeaveOneOut()(reward_BK, known_BK), UNSCALED(reward_BK, known_BK) * 3 / 2)


@pytest.mark.parametrize("advantage", [GroupRelative(), UNSCALED, LeaveOneOut(), Whitened(), RAW], **by_name)
def test_a_reward_that_is_not_a_number_counts_nowhere(advantage: Any) -> None:
    with_gap, without = known([[1.0, math.nan, 2.0, 6.0]]), known([[1.0, 2.0, 6.0]])
    found_BK = advantage(*with_gap)
    assert found_BK[0, 1] == 0
    assert_close(found_BK[:, [0, 2, 3]], advantage(*without))


@pytest.mark.parametrize("advantage", [GroupRelative(), UNSCALED, LeaveOneOut()], **by_name)
def test_alone_or_equal_there_is_nothing_to_learn(advantage: Any) -> None:
    assert (advantage(*known([[3.0, math.nan]])) == 0).all()
    assert (advantage(*known([[0.5, 0.5, 0.5]])) == 0).all()
    assert advantage.min_candidates == 2
    assert ClippedAdvantage(advantage=advantage).min_candidates == 2


def test_advantages_are_held() -> None:
    found = ClippedAdvantage(advantage=RAW, largest=2.0)(*known([[-9.0, 1.0, 9.0]]))
    assert found.tolist() == [[-2.0, 1.0, 2.0]]
    with pytest.raises(ValueError, match="largest"):
        ClippedAdvantage(largest=0.0)


def test_whitened_by_the_statistics_of_a_collection() -> None:
    reward_BK, known_BK = known([[1.0, 2.0], [3.0, 6.0]])
    of_all = Statistics(steps=1.0, mean=reward_BK.mean().item(), std=reward_BK.std().item())
    assert_close(Whitened()(reward_BK, known_BK), Whitened()(reward_BK, known_BK, of_all))


def test_a_history_compares_a_prompt_with_its_own_past_once_it_has_one() -> None:
    history = PromptHistory(size=3, least=3, eps=1e-12)
    assert_close(history.advantages(["a", "b"], [1.0, 3.0]), [-1.0, 1.0])
    history.advantages(["a", "b"], [2.0, 9.0])
    # a: 1, 2, 6 with mean 3 and deviation sqrt(14/3); then the oldest is forgotten: 2, 6, 4.
    assert_close(history.advantages(["a", "b"], [6.0, math.nan])[0], 3 / math.sqrt(14 / 3))
    again = PromptHistory(size=3, least=3, eps=1e-12)
    again.restore(history.state())
    for one in (history, again):
        assert_close(one.advantages(["a"], [4.0])[0], 0.0)
    assert again.state() == history.state()
    with pytest.raises(ValueError, match="least"):
        PromptHistory(size=4, least=5)
    with pytest.raises(ValueError, match="eps"):
        PromptHistory(eps=0.0)
