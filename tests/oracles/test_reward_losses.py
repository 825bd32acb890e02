"""TRL's RewardTrainer: every case, loss and gradient in float32 and float64."""

from __future__ import annotations

import pytest
import torch
from recorded import DTYPES, Recording, as_groups, runs, winner_scores
from torch.testing import assert_close

from penchant.objectives import bradley_terry_loss

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize(("case", "suffix"), runs("trl_reward_bt"))
def test_reward_trainer(case: str, suffix: str) -> None:
    z, dtype = Recording("trl_reward_bt"), DTYPES[suffix]
    p, out = z.scalars[case]["p"], z.scalars[case]["out" + suffix]
    rewards = z.tensor("shared.in.rewards", dtype).requires_grad_()
    scores_BK = winner_scores(len(rewards))
    margin = z.tensor("shared.in.margin", dtype)[:, None, None].expand(-1, 2, 2)
    loss_B = bradley_terry_loss(
        as_groups(rewards[:, 0]),
        scores_BK,
        torch.ones_like(scores_BK, dtype=torch.bool),
        margin_BKK=margin if p["use_margin"] else None,
        centering=p["center"],
    )
    assert loss_B.dtype == dtype
    assert_close(loss_B.mean().item(), out["loss"], rtol=1e-9 if suffix else 2e-5, atol=0)
    loss_B.mean().backward()
    exact = {"rtol": 1e-9, "atol": 1e-12} if suffix else {"rtol": 1e-4, "atol": 1e-6}
    assert_close(rewards.grad, z.tensor(f"{case}.grad{suffix}.rewards"), **exact)
