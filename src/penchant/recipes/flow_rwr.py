"""Flow-RWR (Liu et al., arXiv 2501.13918): imitation weighed by rewards, from the pairs of `flow-dpo`.

The weight is exp(r), r = (VQ + MQ + TA) / 3 of normalised scores. The paper names no temperature, clip or
normalisation: temperature 1, at most 20, divided by the batch's mean (ours; `penchant.objectives.reward_weights`).
"""

from __future__ import annotations

from dataclasses import replace

from penchant.objectives import RWR, SelfNormalisedWeight
from penchant.recipe import Preferences, Recipe
from penchant.recipes import flow_dpo


def embedded() -> Recipe:
    """The samples of the shipped video model by their rewards, with everything else as in `flow-dpo`."""
    dpo = flow_dpo.embedded()
    return replace(
        dpo,
        name="flow-rwr",
        objective=RWR(weight=SelfNormalisedWeight()),
        # Two samples with the same reward say nothing to each other, and as much as any to this objective.
        feedback=Preferences(path="zoo:clips/samples", ties="keep"),
    )
