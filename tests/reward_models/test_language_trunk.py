"""Reward models of texts on a language model's trunk: features, what sees the prompt, training, judging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reward_model_fixtures import TINY, drawings, png
from safetensors.torch import load_file
from torch.testing import assert_close

import penchant
from penchant.errors import FeedbackError, ModelError, RecipeError
from penchant.feedback import export_groups
from penchant.feedback.groups import Candidate, Group, Judgement, Media
from penchant.judges import load
from penchant.models.completion import Completion
from penchant.recipe import Training
from penchant.recipe_file import from_toml, to_toml
from penchant.recipes import REWARDS
from penchant.reward_models.excerpts import COUNT, Windows, excerpts
from penchant.reward_models.folders import built, read_config, scores
from penchant.reward_models.language_features import Excerpt, features, rows_of
from penchant.reward_models.language_trunk import LanguageTrunk
from penchant.reward_models.losses import A_BETTER, B_BETTER, SAME, BradleyTerry, Comparisons, Logistic, Regression
from penchant.reward_models.network import Dimension, RewardNetwork
from penchant.reward_training import Annotations, RewardRecipe
from penchant.reward_training.run import train_reward
from penchant.testing import build

ADHERENCE, QUALITY = Dimension(name="adherence", sees_prompt=True), Dimension(name="quality")
LOW, HIGH = "N0_12 N2_12 |", "N7_6 N9_6 N12_12 |"


def silent(text: str) -> None:
    """Tests need no progress."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build("llama", tmp_path_factory.mktemp("generator") / "llama"))


def network(spec: LanguageTrunk, dimensions: Sequence[Dimension], pooling: str = "special") -> RewardNetwork:
    torch.manual_seed(0)
    return built(spec, dimensions, pooling, prompts=["a low tune", "a high tune"])  # type: ignore[arg-type]


# Excerpts.


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ("whole", ["a | b | c | d |"]),
        ("thirds", ["a |", "b |", "c | d |"]),
        ("two_thirds", ["a | b | c |", "b | c | d |"]),
        ("first_third", ["a | b |"]),
    ],
)
def test_a_tune_is_cut_between_bars(windows: Windows, expected: list[str]) -> None:
    notes = {"a": "N0_12", "b": "N2_6 N4_6", "c": "R_12", "d": "N5_12"}

    def spelt(text: str) -> str:
        return " ".join(notes.get(word, word) for word in text.split())

    assert excerpts(spelt("a | b | c | d |"), windows) == [spelt(text) for text in expected]


def test_any_other_text_is_cut_between_words_and_nothing_is_ever_lost() -> None:
    assert excerpts("one two three four five six", "thirds") == ["one two", "three four", "five six"]
    assert excerpts("N0_12 | N2_12 | what", "thirds") == ["N0_12", "| N2_12", "| what"]
    assert excerpts("N0_12 | N2_12 | N4_12", "thirds") == ["N0_12 |", "N2_12 |", "N4_12"], "a bar without its line"
    for text in ("", "one", "one two", "N0_12 |"):
        for windows, count in COUNT.items():
            parts = excerpts(text, windows)
            assert len(parts) == count
            assert windows == "first_third" or set(" ".join(parts).split()) == set(text.split())


# Features.


def test_features_are_the_mean_and_last_state_and_the_moments_of_surprise(llama: str) -> None:
    """Against a row by itself, with the softmax written out."""
    model = penchant.load(llama)
    before, tokens, end = (0, 7), (20, 31, 42, 9), 3
    rows = rows_of(
        [
            Excerpt(before=(0,), tokens=tuple(range(10, 30)), ends=False),
            Excerpt(before=before, tokens=tokens, ends=True),
        ]
    )
    with torch.no_grad():
        found = features(model.bare, rows, end=end, layer=1)[1]
        out = model.bare(torch.tensor([[*before, *tokens]]), output_hidden_states=True)
    states = out.hidden_states[1][0, 2:]
    p_TV = out.logits[0].softmax(-1)
    nats = [-float(p_TV[t, token].log()) for t, token in zip(range(1, 6), [*tokens, end], strict=True)]
    W = states.shape[1]
    assert_close(found[:W], states.mean(0), rtol=1e-4, atol=1e-5)
    assert_close(found[W : 2 * W], states[-1], rtol=1e-4, atol=1e-5)
    expected = [
        np.mean(nats),
        np.std(nats),
        np.mean(np.array(nats) > 2.5),
        np.mean(np.array(nats) > 4),
        min(nats[-1], 10),
    ]
    assert_close(found[2 * W :], torch.tensor(expected, dtype=torch.float32), rtol=1e-3, atol=1e-4)


def test_an_end_is_asked_about_where_the_excerpt_reaches_it(llama: str) -> None:
    model = penchant.load(llama)
    both = [Excerpt(before=(0,), tokens=(20, 31), ends=ends) for ends in (True, False)]
    with torch.no_grad():
        ended, open_ = features(model.bare, rows_of(both), end=3, layer=None)
    assert ended[-1] > 0
    assert open_[-1] == 0
    assert_close(ended[:-5], open_[:-5])


def test_an_empty_text_has_features(llama: str) -> None:
    net = network(LanguageTrunk(generator=llama, windows="thirds"), (QUALITY,))
    assert scores(net.eval(), ["a low tune"], [""]).isfinite().all()


# What sees the prompt.


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("prompt", ["read", "compared"])
def test_a_dimension_sees_the_prompt_if_it_says_so(llama: str, frozen: bool, prompt: str) -> None:
    spec = LanguageTrunk(generator=llama, frozen=frozen, prompt=prompt, windows="two_thirds")  # type: ignore[arg-type]
    net = network(spec, (ADHERENCE, QUALITY)).eval()
    low, high = scores(net, ["a low tune", "a high tune"], [LOW * 3] * 2)
    assert low[0] != high[0]
    assert low[1] == high[1]


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_other_poolings_see_the_prompt_in_every_dimension(llama: str, pooling: str) -> None:
    net = network(LanguageTrunk(generator=llama, windows="thirds"), (ADHERENCE, QUALITY), pooling).eval()
    low, high = scores(net, ["a low tune", "a high tune"], [LOW * 3] * 2)
    assert (low != high).all()


def test_a_comparison_is_the_mean_cosine_of_the_excerpts_before_it_is_scaled(llama: str) -> None:
    """10 cos - 5 at the start; an excerpt by itself has its own cosine, whatever place it is told to have."""
    spec = LanguageTrunk(generator=llama, prompt="compared", windows="thirds")
    net = network(spec, (ADHERENCE,)).eval()
    (score,) = scores(net, ["a low tune"], [LOW * 3])[0]
    rows = net.backbone.collate(["a low tune"], [net.backbone.prepare(LOW * 3)])
    with torch.no_grad():
        cosine = net.backbone(rows).state_NLW[0, 0, 0]
    assert -1 <= cosine <= 1
    assert score == pytest.approx(float(10 * cosine - 5), abs=1e-5)
    shift, scale = net.backbone.natural(net.head)
    assert (score - shift[0]) / scale[0] == pytest.approx(float(cosine), abs=1e-5)


def test_what_a_frozen_trunk_says_is_the_same_bits_in_any_company_and_of_a_completion(
    llama: str,
) -> None:
    spec = LanguageTrunk(generator=llama, windows="two_thirds")
    samples = [LOW * 2, HIGH * 9, Completion(text=LOW * 2, finished=True)]

    def seen(chosen: Sequence[object]) -> torch.Tensor:
        backbone = network(spec, (ADHERENCE,)).backbone
        (row,) = backbone.collate(["a low tune"] * len(chosen), [backbone.prepare(s) for s in chosen]).values()
        return row

    together, alone = seen(samples), seen(samples[:1])
    assert torch.equal(together[0], alone[0])
    assert torch.equal(together[0], together[2])


def test_a_trunk_that_trains_begins_as_the_frozen_one_and_apart_from_the_generator(llama: str) -> None:
    frozen = network(LanguageTrunk(generator=llama), (QUALITY,)).eval()
    trained = network(LanguageTrunk(generator=llama, frozen=False), (QUALITY,)).eval()
    assert_close(scores(frozen, ["-"], [LOW * 4]), scores(trained, ["-"], [LOW * 4]))
    before = frozen.backbone.model.fingerprint()
    rows = trained.backbone.collate(["-"], [trained.backbone.prepare(LOW)])
    trained(rows).sum().backward()
    slopes = [p.grad.norm() for p in trained.parameters() if p.grad is not None]
    assert len(slopes) == len([p for p in trained.parameters() if p.requires_grad])
    torch.optim.SGD(trained.parameters(), lr=1.0).step()
    assert frozen.backbone.model.fingerprint() == before


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "mamba", "gemma2"])
def test_any_causal_model_of_transformers_is_a_trunk(tmp_path: Path, family: str) -> None:
    folder = str(build(family, tmp_path / family))
    for frozen in (True, False):
        net = network(LanguageTrunk(generator=folder, layer=1, frozen=frozen, windows="thirds"), (ADHERENCE,)).eval()
        short, alone = scores(net, ["a low tune"] * 2, [LOW, HIGH * 3])[:1], scores(net, ["a low tune"], [LOW])
        assert_close(short, alone, rtol=1e-4, atol=1e-5)


# Training and judging.


def pairs(folder: Path, count: int = 48) -> str:
    """The tune that is as its prompt says is better and rated 5, the other 1; where it stands is drawn."""
    rng, groups = np.random.default_rng(0), []
    for i in range(count):
        right, wrong = (LOW, HIGH) if i % 2 else (HIGH, LOW)
        sides = [Candidate(text=text * int(rng.integers(3, 7))) for text in (right, wrong)]
        turn = slice(None, None, 1 if rng.random() < 0.5 else -1)
        won, rated = (1.0, 0.0)[turn], (5.0, 1.0)[turn]
        judgements = (
            Judgement(kind="pair", values=won, dimension="adherence", source="simulated:test"),
            Judgement(kind="score", values=rated, dimension="quality", source="simulated:test"),
        )
        prompt = f"a {'low' if i % 2 else 'high'} tune"
        split = "validation" if i >= count - 10 else "train"
        groups.append(Group(prompt=prompt, candidates=tuple(sides[turn]), judgements=judgements, split=split))
    export_groups(groups, folder / "pairs.parquet")
    return str(folder / "pairs.parquet")


def recipe(path: str, out: Path, backbone: LanguageTrunk, **options: object) -> RewardRecipe:
    train = Training(steps=60, batch_size=16, lr=3e-3)
    settings = {"dimensions": (ADHERENCE,), "loss": Logistic(), "units": "natural", "threads": 1, **options}
    return RewardRecipe(
        name="test",
        feedback=Annotations(path=path),
        backbone=backbone,
        out=str(out),
        train=train,
        **settings,  # type: ignore[arg-type]
    )


def test_a_comparison_learns_which_tune_has_which_caption_and_judges_in_cosines(llama: str, tmp_path: Path) -> None:
    spec = recipe(
        pairs(tmp_path), tmp_path / "run", LanguageTrunk(generator=llama, prompt="compared", windows="thirds")
    )
    run = train_reward(spec, say=silent)
    assert next(r for r in run.agreement if r.split == "validation").without_ties == 1
    judge = load(str(run.model_path))
    asked = [("a low tune", LOW * 4), ("a low tune", HIGH * 4), ("a high tune", LOW * 4), ("a high tune", HIGH * 4)]
    score = judge.score([prompt for prompt, _ in asked], [text for _, text in asked])[:, 0]
    assert np.abs(score).max() <= 1
    assert min(score[0], score[3]) > max(score[1], score[2])
    assert from_toml(run.folder / "reward.toml", RewardRecipe) == spec


def test_a_regression_judges_in_the_units_of_the_ratings(llama: str, tmp_path: Path) -> None:
    only = [g for g in penchant.read(pairs(tmp_path)) if g.prompt == "a low tune"]
    export_groups(only, tmp_path / "low.parquet")
    backbone = LanguageTrunk(generator=llama, windows="two_thirds")
    spec = recipe(str(tmp_path / "low.parquet"), tmp_path / "run", backbone, dimensions=(QUALITY,), loss=Regression())
    judge = load(str(train_reward(spec, say=silent).model_path))
    good, bad = judge.score(["a low tune"] * 2, [LOW * 5, HIGH * 5])[:, 0]
    assert good == pytest.approx(5, abs=0.7)
    assert bad == pytest.approx(1, abs=0.7)


def test_a_folder_holds_what_trains_and_no_frozen_trunk(llama: str, tmp_path: Path) -> None:
    path = pairs(tmp_path)
    for frozen in (True, False):
        out = tmp_path / str(frozen)
        spec = recipe(
            path, out, LanguageTrunk(generator=llama, frozen=frozen), dimensions=(QUALITY,), loss=BradleyTerry()
        )
        run = train_reward(replace(spec, train=replace(spec.train, steps=2)), say=silent)
        names = load_file(run.model_path / "model.safetensors")
        assert any("trunk" in name for name in names) != frozen
        first = load(str(run.model_path)).score(["-"] * 2, [LOW, HIGH])
        assert read_config(run.model_path).backbone == spec.backbone
        assert np.isfinite(first).all()


def test_a_judge_is_refused_on_another_trunk_than_it_learnt_from(llama: str, tmp_path: Path) -> None:
    spec = recipe(pairs(tmp_path), tmp_path / "run", LanguageTrunk(generator=llama), dimensions=(QUALITY,))
    run = train_reward(replace(spec, loss=BradleyTerry(), train=replace(spec.train, steps=1)), say=silent)
    other = str(build("llama", tmp_path / "other", seed=1))
    config = run.model_path / "config.json"
    config.write_text(config.read_text().replace(llama, other))
    with pytest.raises(ModelError, match="learnt from another model"):
        load(str(run.model_path))


def test_the_logistic_loss_asks_about_each_sample_by_itself() -> None:
    reward_A, reward_B = torch.tensor([[2.0], [1.0], [5.0]]), torch.tensor([[-1.0], [0.5], [5.0]])
    zero = torch.zeros(3, 1)
    label = torch.tensor([[A_BETTER], [B_BETTER], [SAME]])
    pairs_ = Comparisons(reward_A_BD=reward_A, reward_B_BD=reward_B, label_BD=label, rating_A_BD=zero, rating_B_BD=zero)
    softplus = torch.nn.functional.softplus
    by_hand = (softplus(torch.tensor([-2.0, -1.0])).sum() + softplus(torch.tensor([-0.5, 1.0])).sum()) / 4
    assert_close(Logistic()(pairs_), by_hand)


# Refusals.


def test_pictures_and_texts_go_to_backbones_that_take_them(llama: str, tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match="looks at pictures"):
        train_reward(recipe(pairs(tmp_path), tmp_path / "a", TINY), say=silent)  # type: ignore[arg-type]
    (name, picture), (_, other) = drawings(2)
    sides = tuple(Candidate(media=Media.of(png(p))) for p in (picture, other))
    label = Judgement(kind="pair", dimension="adherence", values=(1.0, 0.0), source="simulated:test")
    export_groups([Group(prompt=name, candidates=sides, judgements=(label,))], tmp_path / "p.parquet")
    spec = recipe(str(tmp_path / "p.parquet"), tmp_path / "b", LanguageTrunk(generator=llama))
    with pytest.raises(FeedbackError, match="reads texts"):
        train_reward(spec, say=silent)
    with pytest.raises(ModelError, match="reads text"):
        network(LanguageTrunk(generator=llama), (QUALITY,)).backbone.prepare(picture)


def test_what_a_trunk_cannot_do_is_refused(llama: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no layer 9"):
        network(LanguageTrunk(generator=llama, layer=9), (QUALITY,))
    with pytest.raises(RecipeError, match="no dimension is there to compare"):
        network(LanguageTrunk(generator=llama, prompt="compared"), (QUALITY,))
    with pytest.raises(ModelError, match="no language model"):
        network(LanguageTrunk(generator=str(build("stable-diffusion-3", tmp_path / "sd3"))), (QUALITY,))


@pytest.mark.parametrize(
    "name", ["tune-adherence", "tune-quality", "tune-preference", "tune-preference-full", "tune-judge"]
)
def test_recipes_of_tunes_survive_toml(name: str, tmp_path: Path) -> None:
    (tmp_path / "reward.toml").write_text(to_toml(REWARDS[name]()))
    assert from_toml(tmp_path / "reward.toml", RewardRecipe) == REWARDS[name]()
