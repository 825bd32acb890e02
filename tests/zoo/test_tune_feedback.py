"""Feedback on tunes: halves that share nothing, captions, ratings, pairs of samples, and what is measured on them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from penchant.feedback.groups import Candidate, Group, Judgement
from penchant.judges.base import Judge
from penchant.models.completion import Completion
from penchant.recipes import REWARDS
from penchant.reward_training.data import annotated
from penchant.zoo.tunes import captioned, pairs, rated
from penchant.zoo.tunes.ablations import held_out, variants
from penchant.zoo.tunes.data import Record
from penchant.zoo.tunes.halves import HALVES, Strain, known, strains
from penchant.zoo.tunes.judge_measures import accuracy, naming, rating

CAPTIONS = ("reel in 2/2, major", "jig in 6/8, minor", "slip jig in 9/8, dorian")


def tune(seed: int) -> str:
    """Eight bars of notes that no other seed has."""
    rng = np.random.default_rng(seed)
    return " ".join(" ".join(f"N{rng.integers(-5, 20)}_12" for _ in range(4)) + " |" for _ in range(8))


def record(caption: str, seed: int, split: str = "train") -> Record:
    dance, _, rest = caption.partition(" in ")
    metre, _, mode = rest.partition(", ")
    return Record(caption=caption, dance=dance, metre=metre, mode=mode, text=tune(seed), split=split, book="ryan")


@pytest.fixture(scope="module")
def found() -> list[Strain]:
    records = [record(CAPTIONS[i % 3], i) for i in range(180)]
    records += [record(CAPTIONS[i % 3], 1000 + i, "validation") for i in range(60)]
    records += [record("march in 2/2, major", 2000 + i, "held-out") for i in range(12)]
    records += [record("a rare one in 3/4, major", 3000)]
    return strains(records)


def test_halves_and_splits_share_no_strain_and_rare_captions_are_left_out(found):
    where = Counter(s.record.text for s in found)
    assert set(where.values()) == {1}
    assert {(s.half, s.split) for s in found} == {
        (half, split) for half in HALVES for split in ("train", "validation", "test", "held-out")
    }
    assert known(found) == sorted(CAPTIONS)
    assert "a rare one in 3/4, major" not in {s.record.caption for s in found}


def test_tunes_that_begin_alike_are_of_one_half():
    """Another ending, or another key in the words of the tonic, makes a variant."""
    records = []
    for i in range(60):
        first = record(CAPTIONS[0], i)
        bars = first.text.split(" | ")
        variant = " | ".join([*bars[:-1], "N0_12 N2_12 N4_12 N0_12 |"])
        records += [first, Record(**{**vars(first), "text": variant})]
    half = {s.record.text: s.half for s in strains(records)}
    assert all(half[a.text] == half[b.text] for a, b in zip(records[::2], records[1::2], strict=True))
    assert set(half.values()) == set(HALVES)


def test_a_caption_is_paired_with_its_own_strain_and_one_of_another(found):
    own = {s.record.text: s for s in found}
    groups = list(captioned.groups(found))
    assert groups == list(captioned.groups(found))
    for group in groups:
        right, wrong = (own[c.text] for c in group.candidates)
        assert right.record.caption == group.prompt != wrong.record.caption
        assert right.split == wrong.split == group.split
        assert group.judgements[0].source == f"simulated:books/{right.half}"
        assert right.half == wrong.half
    asked = Counter(g.prompt for g in groups if g.split == "train")
    assert max(asked.values()) < 1.5 * min(asked.values())


def test_a_rating_is_five_minus_the_level_and_both_sides_are_of_one_strain(found):
    groups = [g for g in rated.groups(found) if g.split == "train"]
    values = [v for g in groups for v in g.judgements[0].values]
    assert set(values) == {1.0, 2.0, 3.0, 4.0, 5.0}
    clean = {s.record.text for s in found}
    for group in groups:
        for candidate, value in zip(group.candidates, group.judgements[0].values, strict=True):
            assert (candidate.text in clean) == (value == 5), "nothing but level 0 leaves a tune as it was"
    pairs_, _ = annotated(groups, ["quality"], reads=frozenset({"ratings"}), takes=frozenset({"text"}))
    assert len(pairs_) == len(groups)


class Sampler:
    """Stands in for a language model: a tune a (prompt, seed)."""

    def complete(self, prompts, *, seeds, decoding):
        return [Completion(text=tune(seed), finished=seed % 7 > 0) for seed in seeds]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("drawn") / "samples.parquet"
    assert pairs.draw(Sampler(), CAPTIONS, file, count=300, batch=64) == 300
    return file


def test_pairs_are_drawn_by_count_whatever_the_batch(table, tmp_path):
    pairs.draw(Sampler(), CAPTIONS, tmp_path / "again.parquet", count=300, batch=7)
    one, other = pairs.drawn(table), pairs.drawn(tmp_path / "again.parquet")
    assert one == other
    assert Counter(group.prompt for _, group in one) == dict.fromkeys(CAPTIONS, 100)
    assert all(group.candidates[0].seed != group.candidates[1].seed for _, group in one)


def test_every_pair_is_of_one_half_and_of_one_split_and_has_one_vote(table):
    voted = list(pairs.groups(table))
    counts = [pairs.voted(pairs.drawn(table), half)[1] for half in HALVES]
    assert len(voted) == sum(c["voted"] for c in counts) == 300 - sum(c["not heard"] for c in counts)
    assert len({g.id for g in voted}) == len(voted)
    assert all(len(g.judgements) == 1 for g in voted)
    assert {g.judgements[0].source for g in voted} == {"simulated:listeners/a", "simulated:listeners/b"}
    kept = held_out(voted)
    learnt = [g for g in voted if g.judgements[0].source.endswith("/a") and g.split == "train"]
    assert not {g.id for g in kept} & {g.id for g in learnt}
    assert len(kept) > len([g for g in voted if g.judgements[0].source.endswith("/b")])


def test_ablations_differ_from_the_recipe_in_what_they_are_called_after():
    made = variants(REWARDS["tune-preference"]())
    assert made["whole"] == REWARDS["tune-preference"]()
    assert not made["without text"].dimensions[0].sees_prompt
    assert made["a third"].backbone.windows == "first_third"


# What is measured.


class Knows(Judge):
    """Gives each sample the number that it is told."""

    name, version, dimensions = "knows", "1", ("adherence",)

    def __init__(self, told):
        self.told = told

    def score(self, prompts, samples):
        return np.array([[self.told(p, s)] for p, s in zip(prompts, samples, strict=True)])


def test_naming_counts_how_often_the_own_caption_is_first(found):
    test = [s for s in found if s.split in ("validation", "test")]
    own = {s.record.text: s.record.caption for s in test}
    captions = known(found)
    assert naming(Knows(lambda p, s: float(own[s] == p)), test, captions).top_one.value == 1
    always = naming(Knows(lambda p, s: float(p == captions[0])), test, captions)
    assert always.top_one.value == np.mean([s.record.caption == captions[0] for s in test])
    assert always.by_caption.value == pytest.approx(1 / 3) == always.chance
    assert always.top_one.low < always.top_one.value < always.top_one.high


def test_rating_and_accuracy_of_who_knows_are_one_and_of_who_does_not_are_chance(found):
    groups = [g for g in rated.groups(found) if g.split == "test"]
    told = {(g.prompt, c.text): v for g in groups for c, v in zip(g.candidates, g.judgements[0].values, strict=True)}
    known_ = rating(Knows(lambda p, s: told[p, s]), groups)
    assert known_.spearman.value == pytest.approx(1)
    assert known_.error.value == 0
    off = rating(Knows(lambda p, s: told[p, s] - 1), groups)
    assert (off.spearman.value, off.error.value) == (pytest.approx(1), 1)
    won = Judgement(kind="pair", values=(1.0, 0.0), dimension="preference", source="simulated:x")
    votes = [
        Group(prompt="p", candidates=(Candidate(text=f"{i} b"), Candidate(text=f"{i} a")), judgements=(won,))
        for i in range(20)
    ]
    assert accuracy(Knows(lambda p, s: float(s.endswith("b"))), votes, dimension="preference").value == 1
    assert accuracy(Knows(lambda p, s: 0.0), votes, dimension="preference").value == 0.5
