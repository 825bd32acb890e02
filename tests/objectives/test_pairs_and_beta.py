"""Pair weights against loops, and the table of beta units against the formulas it converts between."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from log_probs import of_total
from torch.testing import assert_close

from penchant.objectives import DPO
from penchant.objectives.beta import Source, convert, factor
from penchant.objectives.pairs import Pairing, margins, pair_weights
from penchant.types import ObjectiveInputs


def by_loops(scores: list[float], present: list[bool], pairing: str, credit: float) -> list[list[float]]:
    K, weights, counted = len(scores), {}, 0.0
    here = [s for s, p in zip(scores, present, strict=True) if p]
    for i, j in itertools.combinations(range(K), 2):
        if not (present[i] and present[j]):
            continue
        if scores[i] < scores[j]:
            i, j = j, i
        if pairing == "best_worst" and (scores[i], scores[j]) != (max(here), min(here)):
            continue
        if scores[i] > scores[j]:
            weights[i, j] = 1.0
            counted += 1
        elif credit > 0:
            weights[i, j] = weights[j, i] = credit
            counted += 1
    return [[weights.get((i, j), 0.0) / max(counted, 1) for j in range(K)] for i in range(K)]


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=5),
    pairing=st.sampled_from(get_args(Pairing)),
    credit=st.sampled_from([0.0, 0.25, 0.5]),
)
def test_pair_weights_are_those_of_the_loops(data: list[tuple[int, bool]], pairing: Pairing, credit: float) -> None:
    scores, present = [float(s) for s, _ in data], [p for _, p in data]
    weights = pair_weights(torch.tensor([scores]), torch.tensor([present]), pairing=pairing, tie_credit=credit)
    assert_close(weights[0], torch.tensor(by_loops(scores, present, pairing, credit)))


def test_weights_of_a_group_add_up_to_one_or_zero() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.4, 0.4, 0.4], [math.nan, 1.0, math.nan]])
    total = pair_weights(scores, torch.ones(3, 3, dtype=torch.bool)).sum((-1, -2))
    assert_close(total, torch.tensor([1.0, 0.0, 0.0]))


def test_margins_outside_the_pairs_are_zero_even_of_rubbish() -> None:
    value = torch.tensor([[1.0, 3.0, math.inf]], requires_grad=True)
    weight = pair_weights(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[True, True, False]]))
    margin = margins(value, weight)
    assert margin[0].tolist() == [[0, 0, 0], [2, 0, 0], [0, 0, 0]]
    margin.sum().backward()
    assert value.grad is not None
    assert value.grad[0].tolist() == [-1, 1, 0]


# --- beta -----------------------------------------------------------------------------------------------------------

M_W, M_L, R_W, R_L, DIMS = 0.10, 0.11, 0.101, 0.109, 4 * 8 * 8
MARGIN = (M_W - M_L) - (R_W - R_L)
# The logit of every source as it writes it, from mean errors.
LOGITS = {
    "diffusion-dpo-code": lambda beta: -0.5 * beta * MARGIN,
    "diffusion-dpo-s9": lambda beta: -beta * MARGIN * DIMS,
    "sum": lambda beta: -beta * MARGIN * DIMS,
    "diffusers": lambda beta: -beta * MARGIN,
    "diffusers-sdxl": lambda beta: -0.5 * beta * MARGIN,
    "simpletuner": lambda beta: -0.5 * beta * MARGIN * DIMS,
    "flow-grpo": lambda beta: -0.5 * beta * MARGIN,
    "videoalign": lambda beta: -0.5 * beta * MARGIN,
    "diffusion-kto": lambda beta: beta * -MARGIN,
    "dspo": lambda beta: -0.5 * beta * MARGIN,
    "text": lambda beta: beta * ((-M_W / 2 + R_W / 2) - (-M_L / 2 + R_L / 2)),
    "penchant": lambda beta: beta * ((-M_W / 2 + R_W / 2) - (-M_L / 2 + R_L / 2)),
}


@pytest.mark.parametrize("source", get_args(Source))
def test_a_converted_beta_gives_the_sources_logit(source: Source) -> None:
    inputs = ObjectiveInputs(
        policy=of_total(-0.5 * torch.tensor([[M_W, M_L]], dtype=torch.float64)),
        reference=of_total(-0.5 * torch.tensor([[R_W, R_L]], dtype=torch.float64)),
        scores_BK=torch.tensor([[1.0, 0.0]]),
        mask_BK=torch.ones(1, 2, dtype=torch.bool),
    )
    beta = convert(37.0, source=source, dims=DIMS)
    assert_close(DPO(beta=beta)(inputs).metrics["rewards/margins"].item(), LOGITS[source](37.0))
    assert_close(convert(beta, source="penchant", to=source, dims=DIMS), 37.0)


def test_worked_conversions() -> None:
    """Section 1.1 of the method notes: 5000 is 0.1526, 0.0381 and 0.0095 in sums over three latent sizes."""
    assert convert(2500, source="diffusers") == convert(5000, source="diffusion-dpo-code") == 5000
    for dims, expected in ((16384, 0.1526), (65536, 0.0381), (262144, 0.0095)):
        assert_close(convert(5000, source="penchant", to="sum", dims=dims), expected, rtol=0, atol=5e-5)
    assert convert(1000, source="diffusion-kto") == 2000


def test_sums_need_to_know_their_size_and_sources_their_name() -> None:
    with pytest.raises(ValueError, match="dims"):
        convert(1.0, source="simpletuner")
    with pytest.raises(ValueError, match="no beta unit"):
        factor("diffuser")  # type: ignore[arg-type]
