"""What an objective made of others needs: what its parts do."""

from __future__ import annotations

from collections.abc import Sequence

from penchant.types import Needs, Objective


def joined(needs: Sequence[Needs]) -> Needs:
    """The needs of several objectives at once.

    Raises:
        ValueError: they exclude each other: no density suits all, or they read the scores in different units.
    """
    density = frozenset.intersection(*(n.density for n in needs))
    if not density:
        raise ValueError("the parts have no density in common; check each of them by itself.")
    # Scores of any unit have an order; two units cannot be had at once.
    units = [n.scores for n in needs if n.scores not in ("none", "order")]
    if len(set(units)) > 1:
        words = " and as ".join(sorted(set(units)))
        raise ValueError(f"the parts read the same scores as {words}; they are one or the other.")
    orders = [n.scores for n in needs if n.scores == "order"]
    return Needs(
        reference=any(n.reference for n in needs),
        behavior=any(n.behavior for n in needs),
        mismatched=any(n.mismatched for n in needs),
        divergence=any(n.divergence for n in needs),
        value=any(n.value for n in needs),
        collision=any(n.collision for n in needs),
        min_candidates=max(n.min_candidates for n in needs),
        density=density,
        scores=[*units, *orders, needs[0].scores][0],
    )


def declare(objective: Objective, *needs: Needs) -> None:
    """Gives a composed objective needs of its own, all of these at once; the class's are those of its default."""
    object.__setattr__(objective, "needs", joined(needs))


def least_tie_credit(parts: Sequence[Objective]) -> float | None:
    """The smallest `tie_credit` of the parts that have one; at 0 kept ties would give them no loss."""
    credits = [getattr(part, "tie_credit", None) for part in parts]
    return min((credit for credit in credits if credit is not None), default=None)
