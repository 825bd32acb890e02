"""The judging of a run: what a recipe's judges say becomes evidence, alarms and a report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from penchant.evaluate import PolicyResult, Timing
from penchant.evaluate.sheet import Sheet
from penchant.feedback.groups import Prompt
from penchant.judges import load
from penchant.judging import Judging
from penchant.recipes import find

PROMPTS = ("red heart", "green apple", "blue heart", "yellow face")
ASKED = tuple(Prompt(text=text) for text in PROMPTS)
TIMING = Timing(seconds=1.0, cpu_seconds=1.0, peak_bytes=1.0, pairs_per_second=1.0, stages=())


def sheet(images: list[Image.Image]) -> Sheet:
    return Sheet(captions="held-out", prompts=ASKED, seeds=1, samples=tuple(images))


def plain(colours: tuple[str, ...]) -> list[Image.Image]:
    """Discs of these colours: what they show is the caption's colour, or it is not."""
    y, x = np.mgrid[:48, :48]
    disc = Image.fromarray((((y - 24) ** 2 + (x - 24) ** 2 < 300) * 255).astype("uint8"))
    return [Image.composite(Image.new("RGB", (48, 48), c), Image.new("RGB", (48, 48), "white"), disc) for c in colours]


def judged(tmp_path, *, trained_against: tuple[str, ...] = ()) -> PolicyResult:
    """A policy that lost every colour, beside a base that had them."""
    recipe = find("mapo")
    assert recipe.evaluation is not None
    recipe = replace(recipe, evaluation=replace(recipe.evaluation, trained_against=trained_against))
    roles = [("zoo:emoji/judge", "held out"), *((name, "trained against") for name in trained_against)]
    judging = Judging(
        recipe=recipe,
        seen=(),
        held_out=ASKED,
        judges={name: (load(name), role) for name, role in roles},
        cache=tmp_path,
    )
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.7}\n{"step": 2, "loss": 0.6}\n')
    base, policy = plain(("red", "green", "blue", "yellow")), plain(("black",) * 4)
    return judging.result([sheet(base)], [sheet(policy)], tmp_path, TIMING)


def test_a_held_out_judge_that_finds_the_policy_worse_raises_an_alarm(tmp_path):
    names = [alarm.name for alarm in judged(tmp_path).alarms]
    assert "fidelity fall" in names


@pytest.mark.parametrize("labeller", ["zoo:emoji/labeller"])
def test_beside_a_judge_trained_against_it_is_not_said_twice(labeller, tmp_path):
    names = [alarm.name for alarm in judged(tmp_path, trained_against=(labeller,)).alarms]
    assert "fidelity fall" not in names
