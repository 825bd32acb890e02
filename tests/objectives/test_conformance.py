"""What every objective of the table must do, for every density it admits and every group size."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import replace

import pytest
import torch
from log_probs import BATCH_BASELINE, BEHAVIOR_IF_GIVEN, TAME, gradient, of_total, random_inputs, select, tame
from torch import Tensor
from torch.testing import assert_close

from penchant import objectives
from penchant.objectives import OBJECTIVES
from penchant.types import Density, Needs, ObjectiveInputs

CASES = [
    (name, density, K)
    for name, kind in OBJECTIVES.items()
    for density, K in itertools.product(sorted(kind.needs.density), (1, 2, 3, 5))
    if kind.needs.min_candidates <= K
]
everyone = pytest.mark.parametrize(("name", "density", "K"), CASES)
names = pytest.mark.parametrize("name", list(OBJECTIVES))


def _density(name: str) -> Density:
    return sorted(OBJECTIVES[name].needs.density)[0]


@everyone
def test_finite_scalar_metrics_and_one_loss_a_group(name: str, density: Density, K: int) -> None:
    output = tame(name)(random_inputs(K=K, density=density))
    assert output.loss_B.shape == (4,)
    assert output.loss_B.isfinite().all()
    assert {"rewards/chosen", "rewards/margins", "rewards/accuracies", "logps/chosen"} <= output.metrics.keys()
    for metric, value in output.metrics.items():
        assert value.shape == (), metric
        assert not value.requires_grad, metric
        assert value.isfinite() or K == 1, metric


@everyone
def test_gradcheck(name: str, density: Density, K: int) -> None:
    inputs, objective = random_inputs(B=2, K=K, density=density), tame(name)

    def loss(step: Tensor) -> Tensor:
        policy = replace(inputs.policy, step_BKT=step)
        if name == "wpo":
            # Its weights move with the policy but are detached by definition: held at exp(0.3) here.
            policy = replace(policy, collision_BKT=step.detach() - 0.3)
        return objective(replace(inputs, policy=policy)).loss_B

    if name == "diffusion_kto":
        # Its baseline moves with the policy but is detached by definition: held at zero for the numeric derivative.
        assert inputs.reference is not None
        low = inputs.reference.step_BKT - 0.5
        inputs = replace(inputs, policy=replace(inputs.policy, step_BKT=low.detach().requires_grad_()))
    if name == "cispo":
        # So are its weights: held at the ceiling here.
        assert inputs.behavior is not None
        inputs = replace(inputs, behavior=replace(inputs.behavior, step_BKT=inputs.policy.step_BKT.detach() - 1))
    if name == "vespo":
        # And these: with k and lambda at zero they are all 1.
        objective = replace(objective, k_good=0.0, k_bad=0.0, lambda_good=0.0, lambda_bad=0.0)  # type: ignore[call-arg]
    assert torch.autograd.gradcheck(loss, (inputs.policy.step_BKT,))


@everyone
def test_the_order_of_candidates_changes_nothing(name: str, density: Density, K: int) -> None:
    inputs, objective = random_inputs(K=K, density=density), tame(name)
    for order in itertools.islice(itertools.permutations(range(K)), 1, 7):
        index = (slice(None), list(order))
        assert_close(objective(select(inputs, index)).loss_B, objective(inputs).loss_B)
        assert_close(gradient(objective, select(inputs, index)), gradient(objective, inputs)[index])


@everyone
def test_padding_changes_nothing_and_has_exactly_zero_gradient(name: str, density: Density, K: int) -> None:
    inputs, objective = random_inputs(K=K + 2, density=density), tame(name)
    where = torch.zeros(4, K + 2, dtype=torch.bool)
    where[:, 1 : K + 1] = True
    rubbish = replace(
        inputs.policy,
        step_BKT=inputs.policy.step_BKT.detach().clone(),
        collision_BKT=None if inputs.policy.collision_BKT is None else inputs.policy.collision_BKT.clone(),
    )
    rubbish.step_BKT[~where] = torch.tensor([torch.nan, 1e6, -torch.inf], dtype=torch.float64)
    if rubbish.collision_BKT is not None:
        rubbish.collision_BKT[~where] = torch.nan
    scores = torch.where(where, inputs.scores_BK, torch.tensor([9.0] + [-9.0] * (K + 1)))
    rubbish.step_BKT.requires_grad_()
    assert inputs.mismatched is not None
    hidden = replace(
        inputs,
        policy=rubbish,
        mask_BK=where,
        scores_BK=scores,
        mismatched=tuple(replace(m, mask_BKT=m.mask_BKT & where[:, :, None]) for m in inputs.mismatched),
    )
    kept = select(inputs, (slice(None), slice(1, K + 1)))
    assert_close(objective(hidden).loss_B, objective(kept).loss_B)
    grad = gradient(objective, hidden)
    assert (grad[~where] == 0).all()
    assert_close(grad[:, 1 : K + 1], gradient(objective, kept))
    for metric, value in objective(kept).metrics.items():
        assert_close(objective(hidden).metrics[metric], value, equal_nan=True)


@pytest.mark.parametrize(("name", "density", "K"), [case for case in CASES if case[0] not in BATCH_BASELINE])
def test_a_batch_is_its_groups_one_by_one(name: str, density: Density, K: int) -> None:
    inputs, objective = random_inputs(K=K, density=density), tame(name)
    singles = torch.cat([objective(select(inputs, slice(b, b + 1))).loss_B for b in range(4)])
    assert_close(objective(inputs).loss_B, singles)


@names
@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_dtypes_are_kept_and_half_precision_is_widened(name: str, given: torch.dtype, computed: torch.dtype) -> None:
    inputs = random_inputs(density=_density(name), dtype=given)
    for scores in (inputs.scores_BK, inputs.scores_BK.double(), (inputs.scores_BK * 3).long()):
        output = tame(name)(replace(inputs, scores_BK=scores))
        assert output.loss_B.dtype == computed
        assert {v.dtype for v in output.metrics.values()} == {computed}
    assert gradient(tame(name), inputs).dtype == given


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_values_stay_finite(name: str, dtype: torch.dtype) -> None:
    extremes = torch.tensor([0.0, -1e-12, -1e-7, -1e-3, -0.5, -44.0, -1e4], dtype=dtype)
    for objective in (tame(name), OBJECTIVES[name]()):
        for won, lost in itertools.product(extremes, extremes):
            leaf = torch.stack([won, lost])[None].requires_grad_()
            fixed = of_total(torch.tensor([[-0.5, -0.5]], dtype=dtype))
            inputs = ObjectiveInputs(
                policy=replace(of_total(leaf), collision_BKT=torch.full((1, 2, 1), -0.5, dtype=dtype)),
                reference=fixed,
                mismatched=(fixed, fixed),
                divergence_BKT=torch.full((1, 2, 1), 1e4, dtype=dtype),
                behavior=fixed,
                value_BKT=torch.full((1, 2, 1), -1e4, dtype=dtype),
                behavior_value_BKT=torch.full((1, 2, 1), 1e4, dtype=dtype),
                scores_BK=torch.tensor([[1.0, 0.0]]),
                mask_BK=torch.ones(1, 2, dtype=torch.bool),
            )
            loss = objective(inputs).loss
            loss.backward()
            assert loss.isfinite(), (won, lost)
            assert leaf.grad is not None
            assert leaf.grad.isfinite().all(), (won, lost)


@names
def test_groups_that_order_nothing_are_zero_with_zero_gradient(name: str) -> None:
    inputs, objective = random_inputs(density=_density(name)), tame(name)
    empty = replace(inputs, mask_BK=torch.zeros_like(inputs.mask_BK))
    assert (objective(empty).loss_B == 0).all()
    assert (gradient(objective, empty) == 0).all()
    # A mixture is as its parts, and SFT learns from ties.
    if objective.needs.scores == "order" and objective.needs.min_candidates > 1 and name != "mixture":
        tied = replace(inputs, scores_BK=torch.full_like(inputs.scores_BK, 0.5))
        assert (objective(tied).loss_B == 0).all()
        assert (gradient(objective, tied) == 0).all()
        lonely = replace(inputs, mask_BK=torch.tensor([True, False, False]).expand(4, 3))
        assert (objective(lonely).loss_B == 0).all()


@names
def test_no_gradient_reaches_the_reference_or_the_behavior(name: str) -> None:
    inputs = random_inputs(density=_density(name))
    assert inputs.reference is not None
    assert inputs.behavior is not None
    assert inputs.behavior_value_BKT is not None
    fixed = [
        replace(given, step_BKT=given.step_BKT.clone().requires_grad_())
        for given in (inputs.reference, inputs.behavior)
    ]
    old_BKT = inputs.behavior_value_BKT.clone().requires_grad_()
    given = replace(inputs, reference=fixed[0], behavior=fixed[1], behavior_value_BKT=old_BKT)
    tame(name)(given).loss.backward()
    assert [f.step_BKT.grad for f in fixed] == [None, None]
    assert old_BKT.grad is None


@names
def test_declared_needs_are_honest(name: str) -> None:
    """What is not declared is not read; what is declared is asked for in words."""
    objective, inputs = tame(name), random_inputs(density=_density(name))
    silent = replace(inputs.policy, collision_BKT=inputs.policy.collision_BKT if objective.needs.collision else None)
    undeclared = replace(
        inputs,
        policy=silent,
        reference=inputs.reference if objective.needs.reference else None,
        mismatched=inputs.mismatched if objective.needs.mismatched else None,
        divergence_BKT=inputs.divergence_BKT if objective.needs.divergence else None,
        value_BKT=inputs.value_BKT if objective.needs.value else None,
        behavior_value_BKT=inputs.behavior_value_BKT if objective.needs.value else None,
        behavior=inputs.behavior if objective.needs.behavior or name in BEHAVIOR_IF_GIVEN else None,
    )
    assert_close(objective(undeclared).loss_B, objective(inputs).loss_B)
    if name in BEHAVIOR_IF_GIVEN:
        on_policy = objective(replace(inputs, behavior=None)).loss_B
        assert on_policy.isfinite().all()
        assert not torch.allclose(on_policy, objective(inputs).loss_B)
    given = [("reference", "reference"), ("mismatched", "mismatched")]
    for need, field in [*given, ("divergence", "divergence_BKT"), ("value", "value_BKT")]:
        if getattr(objective.needs, need):
            with pytest.raises(ValueError, match=field):
                objective(replace(inputs, **{field: None}))
    if objective.needs.collision:
        with pytest.raises(ValueError, match="collision_BKT"):
            objective(replace(inputs, policy=replace(inputs.policy, collision_BKT=None)))


@names
def test_frozen_printable_comparable(name: str) -> None:
    objective = tame(name)
    assert replace(objective) == objective
    assert isinstance(objective.needs, Needs)
    assert eval(repr(objective), vars(objectives)) == objective
    if dataclasses.fields(objective):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            objective.beta = 1.0  # type: ignore[attr-defined]


def test_the_table_is_complete() -> None:
    assert OBJECTIVES.keys() == TAME.keys()
    assert len(set(OBJECTIVES.values())) == len(OBJECTIVES)
