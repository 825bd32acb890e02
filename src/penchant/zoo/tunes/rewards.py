"""The shipped judges of tunes: what `penchant train-reward` left, in half precision, without the trunk they share."""

from __future__ import annotations

RECIPES = {
    "adherence": "tune-adherence",
    "quality": "tune-quality",
    "preference": "tune-preference",
    "judge": "tune-judge",
}
"""Part of the zoo -> recipe that trains it. Recipes stand above the zoo, so a person runs them."""
