"""Objectives made of objectives: what they add up to, what they need, and how they are written down."""

from __future__ import annotations

import io
import math
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from log_probs import gradient, random_inputs, select
from test_meaning_text import softplus, tokens
from torch.testing import assert_close

from penchant.bibliography import REFERENCES, bibliography, keys
from penchant.cli.runs import _override
from penchant.compatible import reasons, table
from penchant.errors import RecipeError
from penchant.likelihoods import LIKELIHOODS
from penchant.objectives import (
    BCO,
    DPO,
    DSPO,
    IPO,
    IREPO,
    KTO,
    OBJECTIVES,
    SFT,
    TPO,
    WPO,
    AlphaDivergence,
    ForwardKL,
    Hinge,
    Mixture,
    RankDPO,
    ReferenceFree,
    SimPO,
)
from penchant.recipe import Recipe
from penchant.recipe_file import from_toml, to_toml
from penchant.recipes import find
from penchant.types import Needs, Objective

by_name: dict[str, Any] = {"ids": lambda o: type(o).__name__}

# --- mixtures -------------------------------------------------------------------------------------------------------


def test_a_mixture_is_the_weighted_sum_of_its_parts() -> None:
    inputs = random_inputs(B=4, K=3, density="exact")
    parts = (DPO(beta=2.0), BCO(beta=0.7), SFT(reduce="mean"))
    got = Mixture(parts=tuple(zip(parts, (0.8, 0.2, 1.5), strict=True)))(inputs)
    losses = [part(inputs).loss_B for part in parts]
    assert_close(got.loss_B, 0.8 * losses[0] + 0.2 * losses[1] + 1.5 * losses[2])
    assert_close(got.metrics["loss/1_BCO"], losses[1].mean().detach())
    assert_close(got.metrics["rewards/margins"], parts[0](inputs).metrics["rewards/margins"])


def test_the_default_mixture_is_mpo_and_counts_the_answer_per_token() -> None:
    _, inputs = tokens([[-0.2, -0.4], [-1.0]], [1.0, 0.0], [[-0.3, -0.3], [-0.8]])
    r_w, r_l = 0.1 * 0.0, 0.1 * -0.2
    by_hand = 0.8 * softplus(r_l - r_w) + 0.2 * (softplus(-r_w) + softplus(r_l)) + 0.3
    assert_close(Mixture()(inputs).loss.item(), by_hand)


def test_a_mixture_needs_what_any_part_needs() -> None:
    mixture = Mixture(parts=((SimPO(), 1.0), (WPO(), 0.5), (KTO(), 0.1)))
    needs = mixture.needs
    assert needs.reference
    assert needs.mismatched
    assert needs.collision
    assert not needs.behavior
    assert needs.min_candidates == 2
    assert needs.density == frozenset({"exact"})
    assert needs.scores == "label"
    assert not Mixture(parts=((SimPO(), 1.0), (SFT(), 0.5))).needs.reference
    # The class stands in the table with the needs of its default.
    for kind in OBJECTIVES.values():
        assert kind.needs == kind().needs, kind.__name__


def test_parts_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="no density in common"):
        Mixture(parts=((DSPO(), 1.0), (WPO(), 1.0)))
    with pytest.raises(ValueError, match="label and as logit"):
        Mixture(parts=((KTO(), 1.0), (IREPO(), 1.0), (DPO(), 1.0)))
    with pytest.raises(ValueError, match="mixture of nothing"):
        Mixture(parts=())


def test_kept_ties_are_refused_if_any_part_would_drop_them() -> None:
    recipe, credited = find("diffusion-dpo"), DPO(tie_credit=0.5)
    recipe = replace(recipe, objective=credited, feedback=replace(recipe.feedback, ties="keep"))
    assert replace(recipe, objective=Mixture(parts=((credited, 1.0), (SFT(), 1.0))))
    nothing = Mixture(parts=((SFT(), 1.0),))
    assert nothing.tie_credit is None
    for objective in (Mixture(parts=((nothing, 1.0), (credited, 1.0), (BCO(), 1.0))), ReferenceFree()):
        with pytest.raises(RecipeError, match="tie_credit"):
            replace(recipe, objective=objective)
    assert WPO().tie_credit == TPO().tie_credit == 0


# --- without a reference --------------------------------------------------------------------------------------------


def test_reference_free_is_the_objective_on_log_probs_alone() -> None:
    _, inputs = tokens([[-0.2, -0.4], [-1.0, -0.1, -0.3]], [1.0, 0.0])
    assert_close(ReferenceFree(objective=Hinge(beta=0.5))(inputs).loss.item(), 1 - 0.5 * (-0.6 + 1.4))
    assert_close(ReferenceFree(objective=IPO(beta=0.5))(inputs).loss.item(), (-0.3 + 1.4 / 3 - 1) ** 2)
    assert not ReferenceFree().needs.reference
    assert "drift/chosen" not in ReferenceFree()(inputs).metrics
    assert ReferenceFree(objective=RankDPO()).needs.scores == "share"


@pytest.mark.parametrize("objective", [SimPO(), KTO(), DSPO()])
def test_what_has_no_reference_or_needs_more_of_it_is_refused(objective: Objective) -> None:
    with pytest.raises(ValueError, match="reference to leave out"):
        ReferenceFree(objective=objective)


# --- TPO ------------------------------------------------------------------------------------------------------------


def test_tpo_imitates_the_gold_answer_and_compares_the_other_two() -> None:
    rows = [[-0.9, -0.3], [-0.2, -0.4, -0.6], [-1.1]]
    leaf, inputs = tokens(rows, [0.0, 2.0, 1.0])
    output = TPO(preference=ReferenceFree(objective=DPO(beta=0.5)), alpha=0.7)(inputs)
    assert_close(output.loss.item(), softplus(-0.5 * (-1.1 + 1.2)) + 0.7 * 0.4)
    output.loss.backward()
    assert_close(leaf.grad[0, 1], torch.full((3,), -0.7 / 3).double())
    length = TPO.length_controlled(beta=2.0, gamma=0.5, alpha=0.0)(inputs).loss.item()
    assert_close(length, softplus(-(2.0 * (-1.1 + 0.6) - 0.5)))


def test_tpo_without_a_gold_answer_is_silent() -> None:
    inputs = random_inputs(B=2, K=3, density="exact")
    tied = replace(inputs, scores_BK=torch.ones_like(inputs.scores_BK))
    assert (gradient(TPO(), tied) == 0).all()
    assert TPO.needs.min_candidates == 3


# --- WPO ------------------------------------------------------------------------------------------------------------


def test_wpo_weighs_a_pair_by_how_on_policy_it_is() -> None:
    _, inputs = tokens([[-0.2, -0.4], [-1.0]], [1.0, 0.0], [[-0.3, -0.3], [-0.8]])
    collision = torch.tensor([[[-0.5, -0.7], [-0.3, 99.0]]], dtype=torch.float64)
    inputs = replace(inputs, policy=replace(inputs.policy, collision_BKT=collision))
    weights = math.exp((0.3 + 0.3) / 2), math.exp(-0.7)
    for inner in (DPO(beta=0.2), IPO(beta=0.2), SimPO()):
        got = WPO(objective=inner)(inputs)
        assert_close(got.loss.item(), weights[0] * weights[1] * inner(inputs).loss.item())
        assert_close(got.metrics["weights/pairs"].item(), weights[0] * weights[1])


def test_wpo_weighs_an_answer_of_the_policy_as_one() -> None:
    """Where all tokens are equally likely, every token has the probability that the policy's own have."""
    inputs = random_inputs(B=3, K=2, density="exact")
    uniform = torch.full_like(inputs.policy.step_BKT, -math.log(50)).detach().requires_grad_()
    policy = replace(inputs.policy, step_BKT=uniform, collision_BKT=uniform.detach())
    inputs = replace(inputs, policy=policy)
    assert_close(WPO(objective=DPO(beta=2.0))(inputs).loss_B, DPO(beta=2.0)(inputs).loss_B)


def test_wpo_s_weights_have_no_gradient() -> None:
    inputs, objective = random_inputs(B=3, K=2, density="exact"), DPO(beta=2.0)
    weighted, plain = gradient(WPO(objective=objective), inputs), gradient(objective, inputs)
    ratio_B = WPO(objective=objective)(inputs).loss_B / objective(inputs).loss_B
    assert_close(weighted, ratio_B[:, None, None] * plain)


@pytest.mark.parametrize("pairing", ["all", "best_worst"])
def test_wpo_weighs_pair_by_pair(pairing: Any) -> None:
    inputs = replace(random_inputs(B=1, K=4, density="exact"), scores_BK=torch.tensor([[0.3, 0.9, 0.1, 0.3]]))
    objective = WPO(objective=IPO(beta=0.7), pairing=pairing)
    ordered = [[1, 2]] if pairing == "best_worst" else [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    pairs = [objective(select(inputs, (slice(None), two))).loss_B for two in ordered]
    assert_close(objective(inputs).loss_B, torch.stack(pairs).mean(0))


def test_wpo_weighs_tied_pairs_that_its_objective_credits() -> None:
    inputs = replace(random_inputs(B=1, K=2, density="exact"), scores_BK=torch.zeros(1, 2))
    assert WPO(objective=DPO(beta=2.0))(inputs).loss == 0
    credited = DPO(beta=2.0, tie_credit=0.5)
    got, plain = WPO(objective=credited)(inputs), credited(inputs)
    assert_close(got.loss, got.metrics["weights/pairs"] * plain.loss)
    assert got.loss > 0


def test_wpo_needs_token_probabilities() -> None:
    assert WPO(objective=SimPO()).needs == Needs(collision=True, density=frozenset({"exact"}))
    for density in ("bound", "path"):
        assert any("peaked" in reason for reason in reasons(WPO(), density))
    assert not reasons(WPO(), "exact")
    (row,) = [line for line in table({"wpo": WPO}, LIKELIHOODS).splitlines() if "wpo" in line]
    assert "reference, collision, K >= 2, order" in row
    for objective in (TPO(), KTO()):
        with pytest.raises(ValueError, match="log-probs of a pair"):
            WPO(objective=objective)


# --- written down ---------------------------------------------------------------------------------------------------

NESTED: list[Objective] = [
    DPO(beta=3.0, divergence=AlphaDivergence(alpha=0.4)),
    Mixture(
        parts=(
            (DPO(beta=2.0, divergence=ForwardKL()), 0.8),
            (ReferenceFree(objective=IPO(beta=0.7)), 1),
            (Mixture(parts=((SFT(reduce="mean"), 0.5),)), 0.25),
        )
    ),
    ReferenceFree(objective=Hinge(divergence=ForwardKL())),
    WPO(objective=IPO(divergence=AlphaDivergence(alpha=0.2)), pairing="best_worst"),
    TPO.length_controlled(),
]


@pytest.mark.parametrize("objective", NESTED, **by_name)
def test_nested_objectives_survive_toml(objective: Objective, tmp_path: Path) -> None:
    recipe = recipe_of(objective)
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe))
    again = from_toml(path)
    assert again == recipe
    assert again.objective.needs == objective.needs
    inputs = random_inputs(B=2, K=3, density="exact")
    assert_close(again.objective(inputs).loss_B, objective(inputs).loss_B)


def test_a_nested_part_that_does_not_fit_is_named(tmp_path: Path) -> None:
    text = to_toml(replace(find("diffusion-dpo"), objective=Mixture()))
    path = tmp_path / "recipe.toml"
    for old, new in (("    0.8,", '    "much",'), ("objectives.bco:BCO", "recipe:Preferences")):
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(RecipeError):
            from_toml(path)


def recipe_of(objective: Objective) -> Recipe:
    """A recipe with this objective, on a likelihood that it fits."""
    fitting = next(kind for kind in LIKELIHOODS.values() if not reasons(objective, kind.density))
    return replace(find("diffusion-dpo"), likelihood=fitting(), objective=objective)


def _overridden(objective: Objective, *words: str) -> Recipe:
    return _override(recipe_of(objective), words, "mine")


def test_the_command_line_reaches_nested_options() -> None:
    mixed = _overridden(Mixture(), "--objective.parts.0.0.beta", "0.3", "--objective.parts.2.1", "0.5").objective
    assert mixed == Mixture(parts=((DPO(beta=0.3), 0.8), (BCO(beta=0.1), 0.2), (SFT(reduce="mean"), 0.5)))
    bent = _overridden(DPO(divergence=AlphaDivergence()), "--objective.divergence.alpha", "0.2").objective
    assert bent == DPO(divergence=AlphaDivergence(alpha=0.2))
    assert _overridden(IREPO(), "--objective.reduce", "mean").objective == IREPO(reduce="mean")


@pytest.mark.parametrize("objective", [*NESTED, *(kind() for kind in OBJECTIVES.values())], **by_name)
def test_every_objective_has_help_and_references(objective: Objective) -> None:
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit):
        _overridden(objective, "--help")
    assert "usage" in said.getvalue()
    cited = "\n".join(bibliography(recipe_of(objective)))
    assert all(REFERENCES[key] in cited for key in objective.cite)


def test_what_is_cited_is_what_is_inside() -> None:
    recipe = replace(find("diffusion-dpo"), objective=NESTED[1])
    assert keys(recipe)[:4] == ("wang2024mpo", *DPO.cite, "wang2024fdpo", "xu2024cpo")
    assert "azar2024ipo" in keys(recipe)
    assert "wang2024fdpo" not in keys(replace(recipe, objective=DPO()))
