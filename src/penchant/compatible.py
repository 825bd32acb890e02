"""Which parts fit together; said when a recipe is built, in one sentence that names what to use instead."""

from __future__ import annotations

from penchant.errors import RecipeError
from penchant.types import Likelihood, Objective


def reasons(objective: Objective | type[Objective], density: str) -> list[str]:
    """Why an objective cannot work on a likelihood of this density; empty if it can."""
    needs, name = objective.needs, _name(objective)
    found = []
    if density not in needs.density:
        wanted = " or ".join(sorted(needs.density))
        found.append(f"{name} is defined on {_a(wanted)} density and this likelihood gives {_a(density)} one.")
    if needs.behavior and density == "bound":
        found.append(f"{name} needs behavior log-probs of a rollout, which a denoising bound does not have; use DPO.")
    if needs.value and density != "exact":
        found.append(f"{name} needs a value network, which only models of tokens have; use GRPO or RLOO.")
    if needs.collision and density != "exact":
        found.append(
            f"{name} weighs by how peaked the policy's tokens are, which {_a(density)} density does not tell; use DPO."
        )
    return found


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _name(objective: Objective | type[Objective]) -> str:
    return objective.__name__ if isinstance(objective, type) else type(objective).__name__


def require(objective: Objective, likelihood: Likelihood, *, ties: str, cached: bool, by_candidate: bool) -> None:
    """Raises RecipeError for the first thing in a recipe that does not fit.

    Args:
        objective: what is minimised.
        likelihood: what it is given.
        ties: the tie policy of the feedback.
        cached: whether reference scores come from a cache.
        by_candidate: whether the loop goes through a group one candidate at a time.
    """
    for reason in reasons(objective, likelihood.density):
        raise RecipeError(reason, field="objective", remedy="see `penchant check` for what fits.")
    name = _name(objective)
    # An objective without the option says itself what a tie means to it.
    if ties in ("half", "keep") and getattr(objective, "tie_credit", None) == 0:
        raise RecipeError(
            f"ties are kept but {name} would give them no loss.",
            field="feedback.ties",
            remedy="set objective.tie_credit to 0.5, or feedback.ties to 'drop'.",
        )
    if objective.needs.divergence and cached:
        raise RecipeError(
            f"{name} compares predictions with the reference's, and the cache keeps scores only.",
            field="reference.cache",
            remedy="leave reference.cache out.",
        )
    if (objective.needs.divergence or objective.needs.value) and by_candidate:
        raise RecipeError(
            f"{name} differentiates through more than log-probs, and a pass by candidate keeps no more.",
            field="by_candidate",
            remedy="set by_candidate to False and lower micro_batch.",
        )


_GIVEN = ("reference", "behavior", "mismatched", "divergence", "value", "collision")


def table(objectives: dict[str, type[Objective]], likelihoods: dict[str, type[Likelihood]]) -> str:
    """The compatibility table of the docs, as Markdown."""
    names = list(likelihoods)
    lines = ["| objective | needs | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for name, objective in objectives.items():
        needs = objective.needs
        wants = [w for w in _GIVEN if getattr(needs, w)]
        text = ", ".join([*wants, f"K >= {needs.min_candidates}", needs.scores])
        cells = ["yes" if not reasons(objective, likelihoods[n].density) else "no" for n in names]
        lines.append(f"| {name} | {text} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
