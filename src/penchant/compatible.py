"""Which parts fit together; said when a recipe is built, in one sentence that names what to use instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penchant.errors import RecipeError
from penchant.types import Likelihood, Objective

if TYPE_CHECKING:
    from penchant.recipe import Recipe


def reasons(objective: Objective | type[Objective], density: str) -> list[str]:
    """Why an objective cannot work on a likelihood of this density; empty if it can."""
    needs, name = objective.needs, _name(objective)
    found = []
    if density not in needs.density:
        wanted = " or ".join(sorted(needs.density))
        found.append(f"{name} is defined on a {wanted} density and this likelihood gives a {density} one.")
    if needs.behavior and density == "bound":
        found.append(f"{name} needs behavior log-probs of a rollout, which a denoising bound does not have; use DPO.")
    if needs.divergence and density == "path":
        found.append(f"{name} needs the distance of predictions, which a recorded path does not give; use DPO.")
    return found


def _name(objective: Objective | type[Objective]) -> str:
    return objective.__name__ if isinstance(objective, type) else type(objective).__name__


def problems(recipe: Recipe) -> list[tuple[str, str, str]]:
    """Every (field, problem, remedy) of a recipe; empty if its parts fit."""
    objective, remedy = recipe.objective, "see `penchant check` for what fits."
    found = [("objective", reason, remedy) for reason in reasons(objective, recipe.likelihood.density)]
    # An objective without the option says itself what a tie means to it.
    if recipe.feedback.ties in ("half", "keep") and getattr(objective, "tie_credit", None) == 0:
        found.append(
            (
                "feedback.ties",
                f"ties are kept but {_name(objective)} would give them no loss.",
                "set objective.tie_credit to 0.5, or feedback.ties to 'drop'.",
            )
        )
    if objective.needs.divergence and recipe.reference.cache:
        found.append(
            (
                "reference.cache",
                f"{_name(objective)} compares predictions with the reference's, and the cache keeps scores only.",
                "leave reference.cache out.",
            )
        )
    if objective.needs.divergence and recipe.train.by_candidate:
        found.append(
            (
                "by_candidate",
                f"{_name(objective)} differentiates through predictions, which a pass by candidate does not keep.",
                "set by_candidate to False and lower micro_batch.",
            )
        )
    return found


def require(recipe: Recipe) -> None:
    """Raises RecipeError for the first thing that does not fit."""
    for field, problem, remedy in problems(recipe):
        raise RecipeError(problem, field=field, remedy=remedy)


def table(objectives: dict[str, type[Objective]], likelihoods: dict[str, type[Likelihood]]) -> str:
    """The compatibility table of the docs, as Markdown."""
    names = list(likelihoods)
    lines = ["| objective | needs | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for name, objective in objectives.items():
        needs = objective.needs
        wants = [w for w in ("reference", "behavior", "mismatched", "divergence") if getattr(needs, w)]
        text = ", ".join([*wants, f"K >= {needs.min_candidates}", needs.scores])
        cells = ["yes" if not reasons(objective, likelihoods[n].density) else "no" for n in names]
        lines.append(f"| {name} | {text} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
