"""Counted randomness depends on its arguments and on nothing else."""

from __future__ import annotations

import itertools

import numpy as np

from penchant.likelihoods import generator
from penchant.likelihoods.randomness import digest


def test_same_arguments_same_numbers_whatever_was_drawn_before() -> None:
    first = generator(1, 2, "a", "noise").standard_normal(5)
    generator(9, 9, "z", "noise").standard_normal(1000)
    np.testing.assert_array_equal(first, generator(1, 2, "a", "noise").standard_normal(5))


def test_every_argument_matters() -> None:
    arguments = itertools.product((0, 1), (0, 1), ("a", "b"), ("noise", "time"))
    numbers = [generator(*argument).integers(0, 2**62) for argument in arguments]
    assert len(set(numbers)) == 16


def test_ids_do_not_run_into_each_other() -> None:
    assert digest("a", "bc") != digest("ab", "c")
    assert digest(1, 11) != digest(11, 1)


def test_numbers_are_standard_normal_across_ids() -> None:
    numbers = np.array([generator(0, 0, f"id-{i}", "noise").standard_normal() for i in range(2000)])
    assert abs(numbers.mean()) < 0.08
    assert abs(numbers.std() - 1) < 0.06
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.08


def test_numbers_are_the_same_on_every_machine() -> None:
    # Frozen: caches of reference log-probs outlive a run.
    assert int(generator(0, 0, "group", "time").integers(0, 1000)) == 193
