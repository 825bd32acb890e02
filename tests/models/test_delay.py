"""The delay pattern and the distributions of codes, on numbers worked by hand."""

from __future__ import annotations

import math

import torch
from torch.testing import assert_close

from penchant.models import delay
from penchant.models.music_scoring import CodeLogits, attended, filtered, guided, with_null

CODES = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]])
S = 99


def test_a_finer_codebook_is_said_a_column_later() -> None:
    grid = delay.delayed(CODES, delay.delays(4, channels=1), silent=S)
    assert grid.tolist() == [
        [1, 2, 3, S, S, S],
        [S, 4, 5, 6, S, S],
        [S, S, 7, 8, 9, S],
        [S, S, S, 10, 11, 12],
    ]
    assert torch.equal(delay.undelayed(grid, (0, 1, 2, 3)), CODES)
    assert torch.equal(delay.spoken(torch.tensor(6), (0, 1, 2, 3), columns=6), grid != S)


def test_both_sides_of_stereo_wait_for_their_level() -> None:
    waits = delay.delays(4, channels=2)
    assert waits == (0, 0, 1, 1)
    grid = delay.delayed(CODES, waits, silent=S)
    assert grid.tolist() == [[1, 2, 3, S], [4, 5, 6, S], [S, 7, 8, 9], [S, 10, 11, 12]]
    assert torch.equal(delay.undelayed(grid, waits), CODES)


def test_a_shorter_sound_says_nothing_in_the_padding_of_its_batch() -> None:
    said = delay.spoken(torch.tensor([4, 6]), (0, 1, 2, 3), columns=6)
    assert said[0].int().tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    assert said[1].sum() == 12


def test_a_column_is_predicted_from_those_before() -> None:
    assert delay.shifted(CODES, silent=S).tolist() == [[S, 1, 2], [S, 4, 5], [S, 7, 8], [S, 10, 11]]


def test_guidance_goes_from_the_null_branch_to_the_conditional_one_and_beyond() -> None:
    conditional, null = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 1.0]])
    assert guided(torch.cat([conditional, null]), 3.0).tolist() == [[-1.0, 7.0]]
    assert torch.equal(guided(torch.cat([conditional, null]), 0.0), null)
    assert torch.equal(guided(conditional, 1.0), conditional)
    inputs, states, heard = with_null(torch.ones(2, 4, 1), torch.ones(2, 3, 5), torch.ones(2, 3, dtype=torch.bool))
    assert (len(inputs), states[:2].min(), states[2:].max(), bool(heard[2:].any())) == (4, 1, 0, False)
    assert attended(heard).all()  # a row that may look nowhere would be NaN


def test_temperature_comes_before_top_k_and_what_top_k_cuts_is_impossible() -> None:
    logits = torch.tensor([0.0, 2.0, 4.0]).log_softmax(-1).view(1, 1, 1, 3)
    found = CodeLogits.of(logits, spoken=torch.ones(1, 1, 1, dtype=torch.bool), temperature=2.0, top_k=2)
    p = 1 / (1 + math.e)
    assert_close(found.logp.exp().flatten(), torch.tensor([0.0, p, 1 - p]))
    assert filtered(torch.tensor([1.0, 2.0]), 5).tolist() == [1.0, 2.0]


def test_a_column_adds_up_the_codes_that_are_said_in_it() -> None:
    logp = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()[:, None].expand(2, 2, 2)  # Kq, T, V
    found = CodeLogits(logp=logp, spoken=torch.tensor([[True, True], [False, True]]))
    grid = torch.tensor([[0, 1], [2, 0]])  # 2 is silence
    assert_close(found.of_codes(grid).exp(), torch.tensor([0.25, 0.375]))
    assert_close(found.collision().exp(), torch.tensor([0.625, 0.3125]))
    other = CodeLogits(logp=torch.full((2, 2, 2), 0.5).log(), spoken=found.spoken)
    kl = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert_close(found.kl(other), torch.tensor([kl, kl]))
