"""The examples in docstrings print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "penchant.objectives.beta",
        "penchant.objectives.dpo",
        "penchant.objectives.grpo",
        "penchant.objectives.mapo",
        "penchant.objectives.numerics",
        "penchant.objectives.prompt_history",
        "penchant.objectives.rwr",
        "penchant.objectives.simpo",
        "penchant.likelihoods.diffusion",
        "penchant.likelihoods.gaussian",
        "penchant.likelihoods.randomness",
    ],
)
def test_examples(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted
    assert not results.failed
