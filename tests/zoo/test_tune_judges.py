"""The shipped judges of tunes: they fit the shipped model, and say what their card says, on tunes that it wrote."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.assets import path
from penchant.judges import load
from penchant.models.completion import Completion
from penchant.reward_models.folders import read_config
from penchant.zoo.tunes import pairs
from penchant.zoo.tunes.ablations import held_out
from penchant.zoo.tunes.corruptions import cut_off, spoilt
from penchant.zoo.tunes.judge_measures import accuracy
from penchant.zoo.tunes.listeners import Listeners
from penchant.zoo.tunes.rewards import RECIPES

JIG, REEL = "jig in 6/8, major", "reel in 2/2, major"


@pytest.fixture(scope="module")
def drawn():
    return [group for _, group in pairs.drawn(path("tunes/samples"))]


@pytest.fixture(scope="module")
def tunes(drawn) -> dict[str, list[str]]:
    return {caption: [g.candidates[0].text for g in drawn if g.prompt == caption][:30] for caption in (JIG, REEL)}


@pytest.mark.parametrize("part", RECIPES)
def test_a_judge_is_small_and_rests_on_the_shipped_model(part):
    folder = path(f"tunes/{part}")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 300_000
    assert read_config(folder).backbone.generator == "zoo:tunes"


def test_adherence_is_a_cosine_that_knows_a_jig_from_a_reel(tunes):
    judge = load("zoo:tunes/adherence")
    for caption, other in ((JIG, REEL), (REEL, JIG)):
        own, wrong = (judge.score([asked] * 30, tunes[caption])[:, 0] for asked in (caption, other))
        assert np.abs([own, wrong]).max() <= 1
        assert (own > wrong).mean() >= 0.9


def test_quality_is_an_opinion_score_that_falls_with_every_level_and_minds_a_tune_cut_off(tunes):
    judge = load("zoo:tunes/quality")
    found = [
        judge.score([JIG] * 30, [spoilt(t, level, np.random.default_rng(i)) for i, t in enumerate(tunes[JIG])]).mean()
        for level in (0, 2, 4)
    ]
    assert 1 <= found[2] < found[1] < found[0] <= 5
    cut = judge.score([JIG] * 30, [cut_off(t, np.random.default_rng(i)) for i, t in enumerate(tunes[JIG])])
    assert cut.mean() < found[0] - 0.5


def test_preference_foretells_votes_that_it_did_not_learn_from(drawn):
    voted = held_out(list(pairs.groups(path("tunes/samples"))))[:300]
    found = accuracy(load("zoo:tunes/preference"), voted, dimension="preference")
    assert found.low > 0.5
    assert found.low < Listeners().ceiling(voted)


def test_listeners_agree_as_often_as_published(drawn):
    assert Listeners().agreement(drawn) == pytest.approx(0.68, abs=0.01)


def test_the_held_out_judge_has_three_dimensions_and_orders_alike(tunes):
    judge = load("zoo:tunes/judge")
    assert judge.dimensions == ("adherence", "quality", "preference")
    completions = [Completion(text=text, finished=True) for text in tunes[JIG]]
    own, wrong = (judge.score([asked] * 30, completions) for asked in (JIG, REEL))
    assert (own[:, 0] > wrong[:, 0]).mean() >= 0.8
    assert np.array_equal(own[:, 1:], wrong[:, 1:]), "neither quality nor preference sees the caption"
    worse = judge.score([JIG] * 30, [spoilt(t, 4, np.random.default_rng(i)) for i, t in enumerate(tunes[JIG])])
    assert worse[:, 1].mean() < own[:, 1].mean()
    overall = load("zoo:tunes/judge#overall").score([JIG] * 30, completions)[:, 0]
    assert np.allclose(overall, own.mean(1))
