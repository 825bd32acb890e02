"""Training of reward models on small real clips with simulated labels: it learns, it resumes, it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from reward_model_fixtures import (
    MQ,
    SAME,
    TA,
    VQ,
    A,
    B,
    blurred,
    candidate,
    drawings,
    pair,
    panned,
    png,
    recipe,
    spoilt_pairs,
    written,
)
from safetensors.torch import load_file

from penchant.cli import main
from penchant.errors import FeedbackError, RecipeError
from penchant.feedback.groups import Candidate, Group, Judgement, Media
from penchant.judges import load
from penchant.recipe_file import from_toml, to_toml
from penchant.recipes import REWARDS
from penchant.reward_models.cnn import VideoCNN
from penchant.reward_models.losses import A_BETTER, B_BETTER, UNLABELLED, BradleyTerryTies, Regression
from penchant.reward_models.losses import SAME as TIE
from penchant.reward_training import RewardRecipe
from penchant.reward_training.data import annotated, in_random_order, splits
from penchant.reward_training.run import train_reward

LABELS = frozenset({"labels"})


def silent(text: str) -> None:
    """Tests need no progress."""


@pytest.fixture(scope="module")
def feedback(tmp_path_factory) -> str:
    return written(spoilt_pairs(40), tmp_path_factory.mktemp("feedback") / "pairs.parquet")


@pytest.fixture(scope="module")
def trained(feedback, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    return train_reward(recipe(feedback, out, steps=60), say=silent)


# What a run gives.


def test_it_tells_sharp_from_blurred_on_drawings_that_it_never_saw(trained):
    (row,) = [r for r in trained.agreement if r.split == "test" and r.dimension == "VQ"]
    assert row.pairs >= 8
    assert row.without_ties == 1
    assert row.with_ties > row.chance_with_ties


def test_a_dimension_in_which_all_ties_has_no_accuracy_without_ties(trained):
    row = next(r for r in trained.agreement if r.split == "test" and r.dimension == "TA")
    assert (row.ties, row.without_ties, row.with_ties) == (row.pairs, None, 1)


def test_the_judge_prefers_what_the_annotators_preferred(trained):
    judge = load(str(trained.model_path))
    caption, picture = drawings(45)[42]
    clip = panned(picture)
    sharp, soft = judge.score([caption] * 2, [clip, blurred(clip)])
    assert sharp[0] > soft[0]


def test_scores_are_normalised_on_the_validation_split(trained, feedback):
    from penchant.feedback import read
    from penchant.feedback.shown import sample_of

    rows = {}
    for group in read(feedback).split("validation"):
        rows |= {(group.prompt, c.id): sample_of(c) for c in group.candidates}
    score = load(str(trained.model_path)).score([prompt for prompt, _ in rows], list(rows.values()))
    assert np.allclose(score.mean(0), 0, atol=1e-5)
    assert np.allclose(score.std(0), 1, atol=1e-5)


def test_the_folder_tells_what_was_done(trained):
    assert from_toml(trained.folder / "reward.toml", RewardRecipe) == trained.recipe
    assert json.loads((trained.folder / "agreement.json").read_text())[0]["split"] == "train"
    assert "| test | VQ |" in (trained.folder / "agreement.md").read_text()
    lines = [json.loads(line) for line in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert not (trained.folder / "checkpoints").exists()


def test_a_finished_run_is_not_trained_again(trained):
    again = train_reward(trained.recipe, resume=True, say=silent)
    assert again.agreement == trained.agreement


# The same bits.


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(feedback, tmp_path, monkeypatch):
    from penchant.train.loop import Loop

    whole = train_reward(recipe(feedback, tmp_path / "whole", steps=8), say=silent)
    spec, step = recipe(feedback, tmp_path / "stopped", steps=8, save_every=3), Loop.take_step

    def killed(loop):
        if loop.step == 5:
            raise KeyboardInterrupt
        return step(loop)

    monkeypatch.setattr(Loop, "take_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_reward(spec, say=silent)
    monkeypatch.undo()
    with pytest.raises(RecipeError, match="unfinished"):
        train_reward(spec, say=silent)
    train_reward(spec, resume=True, say=silent)
    assert equal(weights(whole.folder), weights(tmp_path / "stopped"))


def test_micro_batches_add_up_to_the_whole_batch(feedback, tmp_path):
    """One step; the mean is over labelled entries, whose number differs from one micro-batch to the next."""
    spec = recipe(feedback, tmp_path / "whole", steps=1)
    whole = train_reward(spec, say=silent)
    parts = train_reward(
        replace(spec, out=str(tmp_path / "parts"), train=replace(spec.train, micro_batch=3)), say=silent
    )
    norms = [json.loads((run.folder / "metrics.jsonl").read_text())["grad_norm"] for run in (whole, parts)]
    losses = [json.loads((run.folder / "metrics.jsonl").read_text())["loss"] for run in (whole, parts)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_pooling_and_backbone_may_be_others(feedback, tmp_path):
    cnn = VideoCNN(side=16, frames=6, width=32, vocabulary=300, words=8, prior=None)
    run = train_reward(recipe(feedback, tmp_path, steps=2, backbone=cnn, pooling="last"), say=silent)
    assert load(str(run.model_path)).dimensions == ("VQ", "TA")


def test_pictures_train_as_clips_do(tmp_path):
    groups = []
    for i, (caption, picture) in enumerate(drawings(6)):
        sides = (Candidate(media=Media.of(png(picture))), Candidate(media=Media.of(png(picture.resize((12, 12))))))
        label = Judgement(kind="pair", dimension="VQ", values=A, source="simulated:test")
        groups.append(Group(prompt=f"{caption} {i}", candidates=sides, judgements=(label,)))
    path = written(groups, tmp_path / "pictures.parquet")
    run = train_reward(recipe(path, tmp_path / "run", steps=2, dimensions=(VQ,)), say=silent)
    _, picture = drawings(6)[0]
    assert load(str(run.model_path)).score(["a"], [picture]).shape == (1, 1)


def test_the_order_of_a_pair_is_counted():
    (found,), _ = annotated([pair("p", *two(), {"VQ": A})], ["VQ"], reads=LABELS)
    shown = [in_random_order(found, seed=0, epoch=epoch) for epoch in range(64)]
    assert shown == [in_random_order(found, seed=0, epoch=epoch) for epoch in range(64)]
    swapped = [s for s in shown if s.first == found.second]
    assert 16 < len(swapped) < 48
    assert all(s.labels == (B_BETTER,) and s.second == found.first for s in swapped)


# From judgements to labels.


def two():
    (_, one), (_, other) = drawings(2)
    return panned(one), panned(other)


def vote(values, weight=1.0):
    return Judgement(kind="pair", dimension="VQ", values=values, weight=weight, source="simulated:test")


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ([A], A_BETTER),
        ([A, A, B], A_BETTER),
        ([A, SAME, SAME], TIE),
        ([A, B], TIE),
        ([A, SAME, B], TIE),
        ([(None, 1.0)], UNLABELLED),
    ],
)
def test_the_verdict_with_most_votes_is_the_label(votes, label):
    first, second = two()
    other = Judgement(kind="pair", dimension="TA", values=A, source="simulated:test")
    group = Group(
        prompt="p",
        candidates=(candidate(first), candidate(second)),
        judgements=(*(vote(values) for values in votes), other),
    )
    (found,), without = annotated([group], ["VQ", "TA"], reads=LABELS)
    assert (found.labels, without) == ((label, A_BETTER), 0)


def test_a_heavier_vote_counts_more():
    first, second = two()
    judgements = (vote(A), vote(B, weight=3.0), vote(A))
    group = Group(prompt="p", candidates=(candidate(first), candidate(second)), judgements=judgements)
    (found,), _ = annotated([group], ["VQ"], reads=LABELS)
    assert found.labels == (B_BETTER,)


def test_ratings_alone_give_labels_and_three_samples_three_pairs():
    clips = [panned(picture) for _, picture in drawings(3)]
    rated = Judgement(kind="score", dimension="VQ", values=(1.0, 4.0, 4.0), source="simulated:test")
    group = Group(prompt="p", candidates=tuple(map(candidate, clips)), judgements=(rated,))
    found, _ = annotated([group], ["VQ"], reads=frozenset({"ratings"}))
    assert [p.labels for p in found] == [(B_BETTER,), (B_BETTER,), (TIE,)]
    assert [(p.first_ratings, p.second_ratings) for p in found[:2]] == [((1.0,), (4.0,)), ((1.0,), (4.0,))]


def test_prompts_of_validation_are_in_no_training_pair():
    groups = [pair(f"prompt {i // 2}", *two(), {"VQ": A}) for i in range(40)]
    found, _ = annotated(groups, ["VQ"], reads=LABELS)
    made = splits(found, share=0.2, seed=0)
    train, held = ({p.prompt for p in made[name]} for name in ("train", "validation"))
    assert len(held) == 4
    assert not train & held
    assert splits(found, share=0.2, seed=0) == made


# What is refused.


@pytest.mark.parametrize(
    ("groups", "options", "word"),
    [
        ("pairs", {"dimensions": (VQ, MQ)}, "no judgement is about 'MQ'"),
        ("pairs", {"loss": Regression()}, "never rated"),
        ("texts", {"dimensions": (VQ,)}, "texts"),
        ("single", {"dimensions": (VQ,)}, "two samples"),
    ],
)
def test_feedback_that_cannot_train_is_refused(groups, options, word, tmp_path, feedback):
    label = Judgement(kind="pair", dimension="VQ", values=A, source="simulated:test")
    texts = Group(prompt="p", candidates=(Candidate(text="a"), Candidate(text="b")), judgements=(label,))
    rated = Judgement(kind="binary", dimension="VQ", values=(1.0,), source="simulated:test")
    single = Group(prompt="p", candidates=(candidate(two()[0]),), judgements=(rated,))
    path = feedback
    if groups != "pairs":
        path = written([{"texts": texts, "single": single}[groups]], tmp_path / "feedback.parquet")
    with pytest.raises(FeedbackError, match=word):
        train_reward(recipe(path, tmp_path / "run", steps=1, **options), say=silent)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"dimensions": ()}, "nothing is judged"), ({"dimensions": (VQ, VQ)}, "two dimensions")],
)
def test_recipes_that_make_no_sense_are_refused(options, word, tmp_path):
    with pytest.raises(RecipeError, match=word):
        recipe("pairs.parquet", tmp_path, steps=1, **options)


# The recipes and the verb.


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_recipes_survive_toml(name, tmp_path):
    made = REWARDS[name]()
    assert made.name == name
    (tmp_path / "reward.toml").write_text(to_toml(made))
    assert from_toml(tmp_path / "reward.toml", RewardRecipe) == made


@pytest.mark.parametrize("name", [name for name in REWARDS if "videoreward" in name])
def test_the_paper_s_placement_and_loss(name):
    made = REWARDS[name]()
    assert [(d.name, d.sees_prompt) for d in made.dimensions] == [("VQ", False), ("MQ", False), ("TA", True)]
    assert made.loss == BradleyTerryTies(theta=5.0)


def test_the_verb(feedback, tmp_path, capsys):
    spec = recipe(feedback, tmp_path / "run", steps=2, dimensions=(VQ, TA))
    (tmp_path / "reward.toml").write_text(to_toml(spec))
    words = ["train-reward", str(tmp_path / "reward.toml"), "loss:bradley-terry", "--lr", "1e-3"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "weights train" in shown
    assert "| validation | VQ |" in shown
    ran = from_toml(tmp_path / "run" / "reward.toml", RewardRecipe)
    assert (type(ran.loss).__name__, ran.train.lr) == ("BradleyTerry", 1e-3)
    assert main(["cite", "videoreward"]) == 0
    assert "Rao, Kupper" in capsys.readouterr().out
    assert main(["train-reward", "videoreward", "loss:none"]) == 2
    assert main(["align", "videoreward"]) == 2
    assert "penchant train-reward videoreward" in capsys.readouterr().err
