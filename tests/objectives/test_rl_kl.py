"""Estimates of the KL divergence, over all that could be drawn."""

from __future__ import annotations

from dataclasses import replace

import torch
from log_probs import gradient, random_inputs
from torch import Tensor
from torch.testing import assert_close

from penchant.objectives import GRPO, RawAdvantage
from penchant.objectives.ratios import Estimator, counted_steps, kl_steps
from penchant.types import LogProbs, ObjectiveInputs

RAW = RawAdvantage()


def over_a_vocabulary(policy_V: Tensor, reference_V: Tensor, behavior_V: Tensor) -> ObjectiveInputs:
    """One candidate a token of the vocabulary: what is drawn, by all that could be."""

    def each(p_V: Tensor) -> LogProbs:
        return LogProbs(step_BKT=p_V.log()[None, :, None], mask_BKT=torch.ones(1, len(p_V), 1).bool(), density="exact")

    return ObjectiveInputs(
        policy=each(policy_V),
        reference=each(reference_V),
        behavior=each(behavior_V),
        scores_BK=torch.zeros(1, len(policy_V)),
        mask_BK=torch.ones(1, len(policy_V)).bool(),
    )


def expected_kl(estimator: Estimator, policy_V: Tensor, reference_V: Tensor, behavior_V: Tensor) -> Tensor:
    """The mean of an estimator over what the behavior draws."""
    inputs = over_a_vocabulary(policy_V, reference_V, behavior_V)
    return (behavior_V.detach() * kl_steps(inputs, estimator)[0, :, 0]).sum()


P, Q, MU = (torch.tensor(p, dtype=torch.float64) for p in ([0.5, 0.3, 0.2], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]))


def test_k1_and_k3_are_unbiased_and_the_weighted_one_off_policy_too() -> None:
    exact = (P * (P / Q).log()).sum()
    for estimator in ("k1", "k3", "weighted_k3"):
        assert_close(expected_kl(estimator, P, Q, P), exact)
    assert_close(expected_kl("weighted_k3", P, Q, MU), exact)
    assert not torch.isclose(expected_kl("k3", P, Q, MU), exact)
    assert not torch.isclose(expected_kl("k2", P, Q, P), exact)


def test_as_a_loss_k1_pulls_nowhere_and_k2_and_the_weighted_k3_pull_as_the_divergence_does() -> None:
    def pull(estimator: Estimator) -> Tensor:
        logits = P.log().requires_grad_()
        policy_V = logits.softmax(-1)
        loss = expected_kl(estimator, policy_V, Q, P)
        return torch.autograd.grad(loss, logits)[0]

    logits = P.log().requires_grad_()
    p = logits.softmax(-1)
    (exact,) = torch.autograd.grad((p * (p / Q).log()).sum(), logits)
    assert_close(pull("k1"), torch.zeros(3).double(), atol=1e-12, rtol=0)
    assert_close(pull("k2"), exact)
    assert_close(pull("weighted_k3"), exact)
    assert not torch.allclose(pull("k3"), exact)


def test_no_estimate_at_the_reference_and_none_that_is_negative_but_k1() -> None:
    inputs = random_inputs(density="exact")
    assert inputs.reference is not None
    same = replace(inputs, policy=replace(inputs.reference, output=None))
    for estimator in ("k1", "k2", "k3", "weighted_k3"):
        assert (kl_steps(same, estimator) == 0).all()
        assert (kl_steps(inputs, estimator) >= 0).all() or estimator == "k1"
    assert_close(kl_steps(inputs, "exact"), torch.where(counted_steps(inputs), inputs.divergence_BKT, 0))


def test_the_kl_term_pulls_back_and_is_reported_by_step() -> None:
    inputs = random_inputs(density="exact")
    objective = GRPO(advantage=RAW, beta=0.5)
    still = replace(inputs, scores_BK=torch.zeros_like(inputs.scores_BK))
    assert inputs.reference is not None
    (away_BKT,) = (inputs.policy.step_BKT.detach() - inputs.reference.step_BKT,)
    grad_BKT = gradient(objective, still)
    counted = inputs.policy.mask_BKT
    assert (grad_BKT.sign()[counted] == away_BKT.sign()[counted]).all()
    assert_close(objective(still).metrics["kl"], kl_steps(still, "k3")[counted].mean().detach())
