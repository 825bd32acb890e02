"""Diversity and drift: worked values and meanings."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.errors import PenchantError
from penchant.evaluate import Diversity, feature_diversity, feature_drift, measure_drift, pixel_diversity, pixel_drift


def test_feature_diversity_by_hand():
    # prompt 0: orthogonal (1 - 0); prompt 1: parallel whatever the length (0) -> mean 0.5
    assert feature_diversity(np.array([[[1.0, 0], [0, 2.0]], [[1.0, 1.0], [5.0, 5.0]]])).value == pytest.approx(0.5)


def test_feature_diversity_is_the_mean_over_pairs():
    features = np.random.default_rng(0).normal(size=(4, 5, 7))
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    pairs = [1 - unit[p, i] @ unit[p, j] for p in range(4) for i in range(5) for j in range(i)]
    assert feature_diversity(features).value == pytest.approx(np.mean(pairs))


def test_pixel_diversity_is_the_mean_over_pairs_and_reads_bytes():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 6, 3), dtype=np.uint8)
    values = pixels / 255
    pairs = [((values[p, i] - values[p, j]) ** 2).mean() for p in range(3) for i in range(4) for j in range(i)]
    assert pixel_diversity(pixels).value == pytest.approx(np.mean(pairs))
    assert pixel_diversity(values).value == pytest.approx(np.mean(pairs))


def test_one_picture_for_every_seed_has_no_diversity():
    same = np.repeat(np.random.default_rng(0).random((3, 1, 8)), 4, axis=1)
    assert feature_diversity(same).value == pytest.approx(0, abs=1e-12)
    assert pixel_diversity(same).value == pytest.approx(0, abs=1e-12)


def test_diversity_does_not_see_differences_between_prompts():
    near, far = np.zeros((2, 2, 3)), np.zeros((2, 2, 3))
    near[:] = [1.0, 0, 0]
    far[0], far[1] = [1.0, 0, 0], [0, 1.0, 0]
    assert feature_diversity(near).value == feature_diversity(far).value == 0


def test_fraction_of_the_base_needs_the_same_space():
    features = Diversity(value=0.3, space="features", prompts=2, seeds=2)
    assert features.of(Diversity(value=0.6, space="features", prompts=2, seeds=2)) == 0.5
    with pytest.raises(PenchantError, match="pixels"):
        features.of(Diversity(value=0.6, space="pixels", prompts=2, seeds=2))
    with pytest.raises(PenchantError, match="identical"):
        features.of(Diversity(value=0.0, space="features", prompts=2, seeds=2))


def test_drift_by_hand():
    base = np.zeros((2, 1, 2, 2, 3), dtype=np.uint8)
    policy = base.copy()
    policy[0] = 255  # one of two pictures turns white: MSE 1 and 0
    drift = measure_drift(
        pixels=(policy, base),
        features=([[[1.0, 0]], [[1.0, 0]]], [[[0, 3.0]], [[2.0, 0]]]),  # orthogonal, parallel
        log_probs=([-1.0, -2.0], [-1.5, -1.0]),  # +0.5, -1.0
        divergence=[0.1, 0.3],
    )
    assert drift.pixel_mse == pytest.approx(0.5)
    assert drift.feature_cosine == pytest.approx(0.5)
    assert drift.log_ratio == pytest.approx(-0.25)
    assert drift.divergence == pytest.approx(0.2)


def test_a_policy_equal_to_its_base_has_not_drifted_and_what_is_not_given_is_none():
    pixels = np.random.default_rng(0).random((2, 2, 4, 4, 3))
    assert pixel_drift(pixels, pixels) == 0
    assert feature_drift(pixels.reshape(2, 2, -1), pixels.reshape(2, 2, -1)) == pytest.approx(0, abs=1e-12)
    assert measure_drift(pixels=(pixels, pixels)).feature_cosine is None


def test_independent_samples_drift_as_far_as_the_base_is_diverse():
    # the sentence under the report's table: a drift as large as the diversity leaves nothing of the base
    rng = np.random.default_rng(0)
    base, policy = rng.random((200, 4, 48)), rng.random((200, 4, 48))
    assert pixel_drift(policy, base) == pytest.approx(pixel_diversity(base).value, rel=0.03)
    assert feature_drift(policy, base) == pytest.approx(feature_diversity(base).value, rel=0.03)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: feature_diversity(np.ones((3, 1, 4))), "two samples"),
        (lambda: feature_diversity(np.zeros((3, 2, 4))), "zero"),
        (lambda: feature_diversity(np.ones((3, 4))), "prompts, seeds"),
        (lambda: pixel_diversity(np.full((3, 2, 4), 200.0)), r"\[0, 1\]"),
        (lambda: pixel_diversity(np.ones((3, 2, 4), dtype=np.int64)), "int64"),
        (lambda: pixel_diversity(np.full((3, 2, 4), np.nan)), r"\[0, 1\]"),
        (lambda: pixel_drift(np.zeros((3, 2, 4)), np.zeros((3, 2, 5))), "shape"),
        (lambda: measure_drift(log_probs=([1.0], [1.0, 2.0])), "shape"),
    ],
)
def test_bad_samples_are_refused(call, words):
    with pytest.raises(PenchantError, match=words):
        call()
