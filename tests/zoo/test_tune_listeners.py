"""Simulated listeners and faults of tunes: the published rules, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from penchant.errors import FeedbackError
from penchant.feedback.groups import Candidate, Group
from penchant.feedback.tune import parse
from penchant.zoo.tunes.corruptions import CORRUPTIONS, SHARES, cut_off, rating, spoilt
from penchant.zoo.tunes.listeners import WEIGHTS, Listeners, temperature_for
from penchant.zoo.tunes.traits import TRAITS, traits

REEL = "reel in 2/2, major"
# Eight bars of 48 ticks; two repeat the first; ends on a long tonic.
GOOD = " | ".join(
    [
        "N0_12 N2_12 N4_12 N5_12",
        "N7_12 N9_12 N7_12 N5_12",
        "N0_12 N2_12 N4_12 N5_12",
        "N7_12 N5_12 N4_12 N2_12",
        "N0_12 N2_12 N4_12 N5_12",
        "N7_12 N9_12 N11_12 N12_12",
        "N11_12 N9_12 N7_12 N5_12",
        "N4_12 N2_12 N0_24 |",
    ]
)
# No bar but the first is full, one pitch throughout, then two leaps beyond the octave; ends off the tonic.
BAD = "N0_12 N0_12 N0_12 N0_12 | N0_12 N0_12 | N0_6 N0_6 | N14_6 N1_6 |"


def pair(first: str, second: str, number: int = 0) -> Group:
    return Group(id=f"g{number}", prompt=REEL, candidates=(Candidate(text=first), Candidate(text=second)))


def hand(text: str) -> dict[str, float]:
    return dict(zip(TRAITS, traits(REEL, text).tolist(), strict=True))


def samples(count: int) -> list[Group]:
    """Pairs of differently spoilt tunes."""
    rng = np.random.default_rng(0)
    return [
        pair(spoilt(GOOD, int(rng.integers(5)), rng), spoilt(GOOD, int(rng.integers(5)), rng), i) for i in range(count)
    ]


def test_traits_are_what_a_hand_counts():
    good = hand(GOOD)
    assert good["valid bars"] == good["tonic"] == good["arrival"] == 1
    assert good["form"] == 1, "two of eight bars repeat the first"
    widths = [abs(b - a) for a, b in pairwise([n.pitch for n in parse(GOOD).notes])]  # type: ignore[operator]
    assert good["steps"] == pytest.approx(sum(1 <= w <= 2 for w in widths) / len(widths))
    assert good["range"] == 1
    assert good["leaps"] == good["stuck"] == 0
    bad = hand(BAD)
    assert bad["valid bars"] == 1 / 4, "the first of four has 48 ticks"
    assert bad["tonic"] == bad["form"] == bad["arrival"] == bad["steps"] == 0
    assert bad["leaps"] == pytest.approx(2 / 9), "0 to 14 and 14 to 1"
    assert bad["stuck"] == pytest.approx(6 / 10), "eight in a row, of which six are at least the third"
    assert not traits(REEL, "").any()


def test_the_mean_listener_prefers_the_better_tune_and_knows_faults_from_merits():
    utility = {text: float(np.dot(WEIGHTS, traits(REEL, text))) for text in (GOOD, BAD)}
    assert utility[GOOD] > utility[BAD] + 3
    assert [w < 0 for w in WEIGHTS] == [trait in ("leaps", "stuck") for trait in TRAITS]


def test_a_vote_depends_on_seed_listener_and_pair_and_on_nothing_else():
    groups = samples(60)
    listeners = Listeners()
    assert listeners.votes(groups) == listeners.votes(groups)
    again = [listeners.vote(number, group) for number, group in reversed(list(enumerate(groups)))]
    assert [g for g in reversed(again) if g] == listeners.votes(groups)[0]
    assert replace(listeners, seed=1).votes(groups) != listeners.votes(groups)


def test_pairs_that_were_not_heard_are_dropped_and_counted():
    groups = [pair(GOOD, BAD, i) for i in range(2000)]
    kept, counts = Listeners(heard=0.9).votes(groups)
    assert counts["voted"] == len(kept) == 2000 - counts["not heard"]
    # Four deviations of a binomial.
    assert abs(counts["not heard"] - 200) < 4 * np.sqrt(2000 * 0.9 * 0.1)
    assert all(len(g.judgements) == 1 and g.judgements[0].source == "simulated:listeners" for g in kept)
    assert Listeners(heard=1.0).votes(groups)[1]["not heard"] == 0


def test_between_equals_the_place_decides_and_by_no_more_than_it_says():
    same = [pair(GOOD, GOOD, i) for i in range(4000)]
    kept, _ = Listeners(place=0.2, heard=1.0).votes(same)
    first = np.mean([g.judgements[0].values[0] for g in kept])
    assert first == pytest.approx(0.2 + 0.8 / 2, abs=4 * np.sqrt(0.24 / 4000))
    assert Listeners(place=0.0).preference(0, same[0]) == 0.5


def test_every_listener_has_a_taste_of_their_own_around_the_published_weights():
    tastes = np.stack([Listeners().taste(i) for i in range(2000)])
    assert not np.array_equal(tastes[0], tastes[1])
    assert np.allclose(tastes.mean(0), WEIGHTS, atol=4 * 0.5 * 4 / np.sqrt(2000))
    assert np.allclose(tastes.std(0), 0.5 * np.abs(WEIGHTS), rtol=0.1)


@pytest.mark.parametrize("asked", [0.6, 0.68])
def test_the_temperature_gives_the_agreement_that_was_asked_for(asked):
    """Told by the rule, and counted in the votes of listeners who are asked about the same pairs."""
    groups = samples(150)
    listeners = Listeners(temperature=temperature_for(asked, groups), heard=1.0)
    assert listeners.agreement(groups) == pytest.approx(asked, abs=1e-4)
    votes = np.array(
        [[listeners.vote(n, g).judgements[0].values[0] for g in groups] for n in range(1000, 1040)]  # type: ignore[union-attr]
    )
    counted = (votes[:20] == votes[20:]).mean()
    assert counted == pytest.approx(asked, abs=0.04)


def test_nobody_agrees_more_often_than_their_tastes_allow():
    with pytest.raises(FeedbackError, match="never agree"):
        temperature_for(0.999, samples(50))


def test_the_ceiling_is_what_knowing_the_rule_foretells():
    groups = samples(100)
    listeners = Listeners(heard=1.0)
    ceiling, agreement = listeners.ceiling(groups), listeners.agreement(groups)
    assert 0.5 < agreement < ceiling < 1
    guess = [np.mean([listeners.preference(n, g) for n in range(64)]) > 0.5 for g in groups]
    votes = [[listeners.vote(n, g).judgements[0].values[0] == 1 for g in groups] for n in range(100, 160)]  # type: ignore[union-attr]
    assert np.mean(np.array(votes) == np.array(guess)) == pytest.approx(ceiling, abs=0.03)


# Faults.


@pytest.mark.parametrize("level", range(5))
def test_a_level_spoils_so_many_words_or_cuts_the_tune_off(level):
    rng = np.random.default_rng(level)
    words = GOOD.split()
    for _ in range(50):
        found = spoilt(GOOD, level, rng).split()
        faults = max(int(level > 0), round(SHARES[level] * len(words)))
        if words[: len(found)] == found and len(found) < len(words) - faults:
            assert level == 4
        else:
            assert abs(len(found) - len(words)) <= faults
        assert level > 0 or found == words
        assert not parse(" ".join(found)).unread
    assert rating(level) == 5 - level


def test_each_fault_is_what_it_is_called():
    words = ["N0_12", "N2_12", "|", "N4_12"]
    found = {}
    for name, fault in CORRUPTIONS.items():
        found[name] = list(words)
        fault(found[name], 1, np.random.default_rng(0))
    assert found["deleted"] == ["N0_12", "|", "N4_12"]
    assert found["repeated"] == ["N0_12", "N2_12", "N2_12", "|", "N4_12"]
    assert found["swapped"] == ["N0_12", "N4_12", "|", "N2_12"]
    pitch, ticks = found["wrong pitch"][1][1:].split("_")
    assert abs(int(pitch) - 2) in (1, 3, 5, 6)
    assert ticks == "12"
    assert found["wrong duration"][1].startswith("N2_")
    assert found["wrong duration"] != words


def test_a_tune_that_is_cut_off_stops_within_a_bar():
    for seed in range(30):
        cut = cut_off(GOOD, np.random.default_rng(seed))
        assert GOOD.startswith(cut)
        assert not cut.endswith("|")
        assert GOOD[len(cut) :].split()[0] != "|"
