"""iREPO: the worked values of its specification to all their digits, and one sentence of the paper at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from log_probs import of_total, random_inputs
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import DPO, IPO, IREPO
from penchant.types import ObjectiveInputs, ObjectiveOutput

WINS = [[0, 4, 5, 3], [1, 0, 3, 2], [0, 2, 0, 1], [2, 3, 4, 0]]


def log_strengths(wins: list[list[int]], prior: float) -> list[float]:
    """Zermelo's iteration p_i <- W_i / sum over j of n_ij / (p_i + p_j), with geometric mean 1."""
    W = torch.tensor(wins, dtype=torch.float64)
    W = W + prior * (1 - torch.eye(len(W), dtype=torch.float64))
    p = torch.ones(len(W), dtype=torch.float64)
    for _ in range(5000):
        p = W.sum(1) / ((W + W.T) / (p[:, None] + p[None])).sum(1)
        p = p / p.log().mean().exp()
    return p.log().tolist()


def fitted(
    objective: IREPO, scores: list[float], policy: list[float], reference: list[float]
) -> tuple[ObjectiveOutput, Tensor]:
    """The output on one group, and the gradient in its log-probs."""
    leaf = torch.tensor([policy], dtype=torch.float64, requires_grad=True)
    inputs = ObjectiveInputs(
        policy=of_total(leaf, "exact"),
        reference=of_total(torch.tensor([reference], dtype=torch.float64), "exact"),
        scores_BK=torch.tensor([scores], dtype=torch.float64),
        mask_BK=torch.ones(1, len(scores), dtype=torch.bool),
    )
    output = objective(inputs)
    output.loss.backward()
    assert leaf.grad is not None
    return output, leaf.grad[0]


def digits(got: Tensor | float, wanted: list[float] | float) -> None:
    """The specification writes ten; its iteration stopped a little before the tenth had settled."""
    assert_close(torch.as_tensor(got).double(), torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1.5e-10)


def test_two_answers_by_hand() -> None:
    """Wins 4 : 1, so strengths 2 and 1/2."""
    scores = log_strengths([[0, 4], [1, 0]], prior=0.0)
    digits(torch.tensor(scores, dtype=torch.float64).exp(), [2.0, 0.5])
    output, slope = fitted(IREPO(beta=0.5), scores, [-12.0, -15.0], [-12.4, -14.7])
    digits(output.metrics["rewards/margins"], 0.35)
    digits(output.loss.detach(), 1.0739060029)
    digits(slope, [-1.0362943611, 1.0362943611])


def test_four_answers_by_hand() -> None:
    digits(
        torch.tensor(log_strengths(WINS, 0.0), dtype=torch.float64),
        [1.1196618468, -0.3527780232, -1.1196618468, 0.3527780232],
    )
    scores = log_strengths(WINS, 0.5)
    digits(torch.tensor(scores, dtype=torch.float64), [0.8644360184, -0.2767379911, -0.8644360184, 0.2767379911])
    policy, reference = [-20.0, -21.0, -19.5, -22.0], [-20.5, -20.8, -19.0, -22.2]
    output, slope = fitted(IREPO(beta=0.1), scores, policy, reference)
    digits(output.metrics["rewards/margins"], 0.1)
    digits(output.loss.detach(), 2.6532241121)
    digits(slope, [-0.3257744074, 0.0, 0.3257744074, 0.0])
    output, slope = fitted(IREPO(beta=0.1, pairing="all"), scores, policy, reference)
    digits(output.loss.detach(), 0.9722938989)
    digits(slope, [-0.1085914691, 0.0342317321, 0.1085914691, -0.0342317321])


@pytest.mark.parametrize("pairing", ["best_worst", "all"])
def test_there_is_no_loss_and_no_push_where_the_policy_prefers_as_the_annotators_do(pairing: str) -> None:
    scores, reference, beta = [0.9, -0.3, 0.1], [-4.0, -7.0, -5.0], 0.3
    policy = [r + s / beta for r, s in zip(reference, scores, strict=True)]
    output, slope = fitted(IREPO(beta=beta, pairing=pairing), scores, policy, reference)  # type: ignore[arg-type]
    assert_close(output.loss.item(), 0.0, rtol=0, atol=1e-25)
    assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)
    # DPO goes on.
    _, onward = fitted(DPO(beta=beta), scores, policy, reference)  # type: ignore[arg-type]
    assert onward[0] < -0.01


def test_at_the_start_the_loss_is_the_mean_square_of_the_targets() -> None:
    inputs = random_inputs(B=5, K=3, density="exact")
    inputs = replace(inputs, policy=inputs.reference)
    pairs = inputs.scores_BK[:, :, None] - inputs.scores_BK[:, None, :]
    assert_close(IREPO(pairing="all")(inputs).loss_B, pairs.double().square().sum((-1, -2)) / 6)
    assert_close(IREPO()(inputs).loss_B, pairs.double().amax((-1, -2)).square())


def test_beyond_the_soft_label_the_push_turns() -> None:
    for d, sign in ((0.0, -1), (0.8, -1), (1.2, 1)):
        _, slope = fitted(IREPO(beta=1.0), [1.0, 0.0], [d, 0.0], [0.0, 0.0])
        assert_close(slope, 2 * (d - 1.0) * torch.tensor([1.0, -1.0], dtype=torch.float64))
        assert slope[0].sign() == sign


def test_noisy_labels_hardly_move_the_policy() -> None:
    """Of 100 votes 52 or 95 for the winner: DPO pushes alike, iREPO by the logit."""
    pushes = {}
    for share in (0.52, 0.95):
        scores = [math.log(share / (1 - share)), 0.0]
        pushes[share] = [
            float(fitted(objective, scores, [-3.0, -3.0], [-3.0, -3.0])[1][0].abs())  # type: ignore[arg-type]
            for objective in (DPO(beta=0.1), IREPO(beta=0.1))
        ]
    assert pushes[0.52][0] == pushes[0.95][0]
    assert pushes[0.52][1] < pushes[0.95][1] / 30


@pytest.mark.parametrize("pairing", ["best_worst", "all"])
def test_a_constant_on_the_scores_of_a_prompt_changes_nothing(pairing: str) -> None:
    inputs = random_inputs(B=4, K=3, density="exact")
    moved = replace(inputs, scores_BK=inputs.scores_BK + torch.tensor([[2.0], [-7.0], [0.5], [30.0]]))
    objective = IREPO(pairing=pairing)  # type: ignore[arg-type]
    assert_close(objective(moved).loss_B, objective(inputs).loss_B, rtol=1e-6, atol=1e-6)


def test_ipo_is_the_case_of_one_target_for_every_pair() -> None:
    """IPO's margin of 1 / (2 tau) per token is iREPO's target of beta / (2 tau); the losses differ by beta^2."""
    tau, beta = 0.3, 0.7
    inputs = random_inputs(B=6, K=2, density="exact")
    constant = (inputs.scores_BK == inputs.scores_BK.amax(-1, keepdim=True)) * beta / (2 * tau)
    got = IREPO(beta=beta, reduce="mean")(replace(inputs, scores_BK=constant.double())).loss_B
    assert_close(got, beta**2 * IPO(beta=tau)(inputs).loss_B)


def test_the_mean_is_an_option_for_long_answers() -> None:
    """Said twice, an answer has twice the log-ratio and the same log-ratio per token."""
    inputs = random_inputs(B=3, K=2, density="exact")

    def twice(log_probs):
        return replace(
            log_probs,
            step_BKT=log_probs.step_BKT.repeat(1, 1, 2),
            mask_BKT=log_probs.mask_BKT.repeat(1, 1, 2),
            collision_BKT=None,
        )

    doubled = replace(inputs, policy=twice(inputs.policy), reference=twice(inputs.reference))
    for reduce, factor in (("total", 2), ("mean", 1)):
        objective = IREPO(beta=0.4, reduce=reduce)  # type: ignore[arg-type]
        once, longer = (objective(i).metrics["rewards/margins"] for i in (inputs, doubled))
        assert_close(longer, factor * once)


def test_equal_strengths_give_no_pair_unless_they_are_asked_to() -> None:
    scores = [0.4, 0.4]
    assert fitted(IREPO(), scores, [-1.0, -2.0], [-1.5, -1.5])[0].loss == 0
    output, _ = fitted(IREPO(beta=1.0, tie_credit=0.5), scores, [-1.0, -2.0], [-1.5, -1.5])
    assert_close(output.loss.item(), 1.0)
