"""How clips move: the measures of `penchant.judges.motion`, policy beside base at equal prompts and seeds.

A policy can please a judge by moving less: a clip that stands still is never rough, and each of its frames may be
beautiful. So motion is measured without any judge that could have been trained against.

Shape legend: P prompts, S seeds a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penchant.evaluate.winrate import MeanGain, mean_gain
from penchant.feedback.clip import Clip


@dataclass(frozen=True, kw_only=True)
class ClipForm:
    """Means over all clips, base (`before`) and policy (`after`), with the interval of the change.

    `dynamic_degree` in shorter sides a second, `smoothness` and `steadiness` in [0, 1].
    """

    dynamic_degree: MeanGain
    smoothness: MeanGain
    steadiness: MeanGain


def clip_form(policy: Sequence[Clip], base: Sequence[Clip], *, seeds: int) -> ClipForm:
    """The motion of the policy's clips beside the base's.

    Args:
        policy: P x S clips, prompt by prompt.
        base: the base's at the same prompts and seeds.
        seeds: S.

    Raises:
        ModelError: OpenCV is missing.
        PenchantError: as `penchant.evaluate.winrate.mean_gain`.
    """
    from penchant.judges.motion import motion

    after, before = ([motion(clip) for clip in side] for side in (policy, base))

    def gain(name: str) -> MeanGain:
        sides = (np.reshape([getattr(one, name) for one in side], (-1, seeds)) for side in (after, before))
        return mean_gain(*sides)

    return ClipForm(dynamic_degree=gain("dynamic_degree"), smoothness=gain("smoothness"), steadiness=gain("steadiness"))
