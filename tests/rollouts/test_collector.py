"""Rollouts in the unchanged loop: what is drawn, what it earns, what a checkpoint keeps, and what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from online_fixtures import WORDS, feedback, metrics, quiet, recipe, same, weights
from torch.testing import assert_close

import penchant
from penchant.errors import CheckpointError, RecipeError
from penchant.evaluate.curves import Curve
from penchant.evaluate.reward_curves import reward_names
from penchant.feedback.groups import Prompt
from penchant.likelihoods import Autoregressive, Diffusion
from penchant.models.completion import Decoding
from penchant.objectives import GRPO, IREPO, PPO, REINFORCE, RWR, SoftmaxWeight
from penchant.recipe import Recipe, RewardTerm, Server, Training
from penchant.recipe_file import from_toml, to_toml
from penchant.references import Reference
from penchant.rollouts import Collector
from penchant.rollouts.actors import actor_of
from penchant.rollouts.prompts import turns
from penchant.rollouts.rewards import Purse
from penchant.run import align
from penchant.types import CandidateBatch, Draw


def collector(run: Recipe, model: Any, reference: Any = None) -> Collector:
    asked = [Prompt(text=word) for word in WORDS]
    return Collector(run, asked, actor_of(run, model, Accelerator()), Purse(run.feedback), Accelerator(), reference)


@pytest.fixture(scope="module")
def model(llama: Path) -> Any:
    return penchant.load(llama)


def first_round(run: Recipe, model: Any) -> CandidateBatch:
    data = collector(run, model)
    data.before_step(0, model)
    return data.batch(range(4))


# --- what is drawn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_behavior_is_what_the_likelihood_says_of_the_same_tokens(temperature, model, llama, prompts, tmp_path):
    decoding, likelihood = Decoding(max_tokens=6, temperature=temperature), Autoregressive(temperature=temperature)
    run = recipe(llama, prompts, tmp_path, rollouts={"decoding": decoding}, likelihood=likelihood)
    batch = first_round(run, model)
    scored = likelihood.log_prob(model, batch, Draw(key_B=batch.group_ids))
    assert batch.behavior is not None
    assert torch.equal(batch.behavior.mask_BKT, scored.mask_BKT)
    assert_close(batch.behavior.per_step(), scored.per_step().detach(), rtol=1e-5, atol=1e-5)
    other = Autoregressive().log_prob(model, batch, Draw(key_B=batch.group_ids)).per_step()
    assert torch.allclose(other, batch.behavior.per_step(), atol=1e-5) == (temperature == 1.0)


def test_every_prompt_has_its_turn_before_one_comes_again():
    asked = [Prompt(text=word) for word in WORDS]
    order = turns(asked, first=0, count=15, seed=0)
    for epoch in range(3):
        assert {p.text for p in order[5 * epoch : 5 * epoch + 5]} == set(WORDS)
    assert order[:5] != order[5:10]
    assert turns(asked, first=4, count=7, seed=0) == order[4:11]
    assert turns(asked, first=0, count=15, seed=1) != order


def test_samples_depend_on_round_prompt_and_seed_and_not_on_how_many_are_drawn_at_once(model, llama, prompts, tmp_path):
    run = recipe(llama, prompts, tmp_path)
    whole = first_round(run, model)
    parts = first_round(replace(run, feedback=feedback(prompts, batch_size=3)), model)
    assert torch.equal(whole.candidates["tokens"], parts.candidates["tokens"])
    assert len({tuple(row.tolist()) for group in whole.candidates["tokens"] for row in group}) == 16
    other = first_round(replace(run, seed=1), model)
    assert whole.candidates["tokens"].shape != other.candidates["tokens"].shape or not torch.equal(
        whole.candidates["tokens"], other.candidates["tokens"]
    )
    data = collector(run, model)
    data.before_step(0, model)
    data.before_step(1, model)
    assert data.batch([0]).group_ids == ("0-0",), "two steps of two groups use a round of four"
    data.before_step(2, model)
    assert data.batch([0]).group_ids == ("1-0",)


def test_kept_rounds_are_trained_on_beside_the_newest(model, llama, prompts, tmp_path):
    run = recipe(llama, prompts, tmp_path, rollouts={"keep": 3})
    data, seen = collector(run, model), []
    for step in (0, 2, 4, 6):
        data.before_step(step, model)
        seen.append([data.batch([index]).group_ids[0] for index in (0, 4, 8)])
    assert len(data) == 12
    # At first there are fewer rounds than are kept.
    assert seen == [["0-0"] * 3, ["1-0", "0-0", "1-0"], ["2-0", "1-0", "0-0"], ["3-0", "2-0", "1-0"]]
    mixed = data.batch([0, 4, 8])
    means = [r.statistics.mean for r in data.rounds]
    assert mixed.statistics is not None
    assert mixed.statistics.mean == pytest.approx(np.mean(means))
    every = torch.cat([r.score_PK.flatten() for r in data.rounds]).double()
    assert mixed.statistics.std == pytest.approx(float(every.std()), rel=0.05)


# --- what it earns ----------------------------------------------------------------------------------------------------


def earned(prompts: Path, terms: Any, finished: Any = None, **changes: Any) -> np.ndarray:
    terms_NR = np.asarray(terms, dtype=float)
    ended = np.ones(len(terms_NR), dtype=bool) if finished is None else np.asarray(finished)
    return Purse(feedback(prompts, **changes)).earned(terms_NR, ended).total_N


def test_rewards_are_rescaled_weighed_held_and_added(prompts):
    two = (RewardTerm(judge="late", low=1, high=5, weight=2.0), RewardTerm(judge="lengthy#bytes", high=10.0, clip=True))
    assert_close(earned(prompts, [[3, 5], [5, 30], [1, -4]], rewards=two), np.array([1.5, 3.0, 0.0]))


def test_a_cut_sample_earns_the_least_of_its_round_unless_that_is_not_wanted(prompts):
    scores = [[256.0], [128.0], [64.0]]
    assert earned(prompts, scores, [False, True, True], unfinished="lowest").tolist() == [0.25, 0.5, 0.25]
    assert earned(prompts, scores, [False, True, True]).tolist() == [1.0, 0.5, 0.25]


def test_whitened_rewards_count_alike_whatever_their_scale(prompts):
    two = (RewardTerm(judge="late"), RewardTerm(judge="lengthy#bytes"))
    total = earned(prompts, [[1, 3000], [2, 2000], [3, 1000]], rewards=two, whiten=True)
    assert_close(total, np.zeros(3), atol=1e-12, rtol=0)
    flat = earned(prompts, [[7, 1], [7, 2], [7, 3]], rewards=two, whiten=True)
    assert np.isfinite(flat).all()
    assert flat[0] < flat[1] < flat[2]


def test_a_judge_of_several_dimensions_must_be_told_which_and_no_reward_is_not_a_number(prompts):
    with pytest.raises(RecipeError, match=r"scores bytes, squared.*'lengthy#bytes'"):
        Purse(feedback(prompts, rewards=(RewardTerm(judge="lengthy"),)))
    with pytest.raises(RecipeError, match="broken gave nan"):
        Purse(feedback(prompts, rewards=(RewardTerm(judge="broken"),))).scores(["a"], ["b"])


def test_the_metrics_of_a_round_are_those_of_its_samples(model, llama, prompts, tmp_path):
    run = recipe(llama, prompts, tmp_path)
    data = collector(run, model)
    data.before_step(0, model)
    batch, told = data.batch(range(4)), data.metrics()
    assert told["rewards/mean"] == pytest.approx(float(batch.scores_BK.mean()), rel=1e-6)
    assert told["rollouts/steps"] == pytest.approx(float(batch.candidates["length"].float().mean()))
    assert batch.behavior is not None
    assert batch.statistics is not None
    assert batch.statistics.steps == pytest.approx(4 * told["rollouts/steps"])
    steps = batch.behavior.mask_BKT.sum()
    assert told["rollouts/surprise"] == pytest.approx(-float(batch.behavior.per_step().sum() / steps), rel=1e-5)
    ends = [row[n - 1] in model.end_ids for row, n in _samples(batch)]
    assert told["rollouts/unfinished"] == pytest.approx(1 - np.mean(ends))
    # A report takes the judges' rewards for rewards, and no moment of them.
    assert reward_names({name: Curve(steps=(1,), values=(value,)) for name, value in told.items()}) == ["late"]


def _samples(batch: CandidateBatch) -> list[tuple[list[int], int]]:
    tokens, length = batch.candidates["tokens"].flatten(0, 1), batch.candidates["length"].flatten()
    return [(row.tolist(), int(n)) for row, n in zip(tokens, length, strict=True)]


# --- learning, and going on -------------------------------------------------------------------------------------------


def test_the_policy_earns_more_than_it_did(llama, prompts, tmp_path):
    train = Training(steps=20, batch_size=4, lr=1e-2, weight_decay=0.0)
    objective = RWR(weight=SoftmaxWeight(temperature=0.05))
    run = recipe(llama, prompts, tmp_path, lora=0, rollouts={"batch_size": 16}, train=train, objective=objective)
    align(run, say=quiet)
    reward = [line["rewards/mean"] for line in metrics(tmp_path)]
    assert np.mean(reward[-5:]) > np.mean(reward[:5]) + 0.05


RESUMED = {
    "an adapter": {},
    "kept rounds": {"lora": 0, "rollouts": {"keep": 2}},
    "two passes": {"rollouts": {"passes": 2}, "objective": GRPO()},
    "a value network": {"lora": 0, "objective": REINFORCE()},
    "old values": {"lora": 0, "objective": PPO(value_clip=0.2), "rollouts": {"passes": 2}},
    "a lagging reference": {"objective": GRPO(beta=0.1), "reference": Reference(kind="round", lag=0.5)},
}


@pytest.mark.parametrize("changes", RESUMED.values(), ids=RESUMED)
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(changes, llama, prompts, tmp_path, monkeypatch):
    import penchant.train.guards as guards

    whole = recipe(llama, prompts, tmp_path / "whole", **changes)
    align(whole, say=quiet)
    for step in (1, 2, 3):
        cut = replace(whole, out=str(tmp_path / f"cut-{step}"))
        with monkeypatch.context() as patch:
            patch.setattr(guards, "StopRequest", lambda step=step: StopAfter(step))
            assert align(cut, say=quiet).outcome.stopped_by == 15
        align(cut, resume=True, say=quiet)
        assert same(weights(tmp_path / f"cut-{step}"), weights(tmp_path / "whole"))
        assert metrics(tmp_path / f"cut-{step}") == metrics(tmp_path / "whole")


class StopAfter:
    def __init__(self, step: int) -> None:
        self._left = itertools.count(step, -1)

    def listening(self) -> Any:
        import contextlib

        return contextlib.nullcontext(self)

    @property
    def signal(self) -> int | None:
        return 15 if next(self._left) <= 0 else None


def test_rollouts_of_another_recipe_are_not_taken_up(model, llama, prompts, tmp_path):
    run = recipe(llama, prompts, tmp_path)
    data = collector(run, model)
    data.before_step(0, model)
    tensors, state = data.state()
    again = collector(run, model)
    again.restore(tensors, state)
    assert again.state()[1] == state
    assert torch.equal(again.batch([1, 3]).candidates["tokens"], data.batch([1, 3]).candidates["tokens"])
    other = collector(replace(run, feedback=feedback(prompts, candidates=3)), model)
    with pytest.raises(CheckpointError, match="another recipe"):
        other.restore(tensors, state)


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_the_recipe_survives_its_file(llama, prompts, tmp_path):
    made = recipe(llama, prompts, tmp_path)
    (tmp_path / "recipe.toml").write_text(to_toml(made))
    assert from_toml(tmp_path / "recipe.toml") == made


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rollouts": {"prompts_a_round": 3}}, "no whole number of steps"),
        ({"likelihood": Autoregressive(temperature=0.7)}, "drawn at temperature 1 and scored at 0.7"),
        ({"objective": IREPO()}, "reads logits of votes"),
        ({"rollouts": {"rewards": ()}}, "nothing is rewarded"),
        ({"rollouts": {"decoding": Decoding(top_p=0.9)}}, "every token"),
        ({"rollouts": {"candidates": 0}}, "count from 1"),
        ({"train": Training(batch_size=2, flip=True)}, "not mirrored"),
        ({"rollouts": {"share_start": True}}, "noise that is shared"),
        ({"rollouts": {"server": Server(url="http://x/v1", folder="y")}, "likelihood": Diffusion()}, "draws texts"),
    ],
)
def test_a_recipe_that_cannot_mean_anything_is_refused_when_it_is_built(changes, problem, llama, prompts, tmp_path):
    with pytest.raises(RecipeError, match=problem):
        recipe(llama, prompts, tmp_path, **changes)


def test_online_dpo_is_one_more_choice_of_objective(llama, prompts, tmp_path):
    run = recipe(llama, prompts, tmp_path / "run", objective=penchant.DPO(beta=0.1, pairing="best_worst"))
    align(run, say=quiet)
    assert all(np.isfinite(line["loss"]) for line in metrics(tmp_path / "run"))
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)


@pytest.mark.parametrize("lag", [0.0, 0.5])
def test_the_old_policy_is_the_one_that_drew_the_round(lag, llama, prompts, tmp_path):
    run = recipe(llama, prompts, tmp_path, lora=0, objective=GRPO(beta=0.1), reference=Reference(kind="round", lag=lag))
    model = penchant.load(llama)
    reference = run.reference.build(model)
    data = collector(run, model, reference)

    def scores(who: Any) -> torch.Tensor:
        return who(run.likelihood, model, batch, Draw(key_B=batch.group_ids)).per_step().detach()

    def policy(likelihood: Any, *rest: Any) -> Any:
        return likelihood.log_prob(*rest)

    begun = [p.detach().clone() for p in model.trainable_parameters()]
    for step in (0, 2):
        data.before_step(step, model)
        batch = data.batch(range(4))
        assert batch.behavior is not None
        same_as_drawn = torch.allclose(scores(reference.log_prob), batch.behavior.per_step(), atol=1e-5)
        assert same_as_drawn == (step == 0 or lag == 0)
        with torch.no_grad():
            for parameter in model.trainable_parameters():
                parameter.add_(0.01)
        # What the policy becomes within a round changes nothing.
        assert not torch.allclose(scores(policy), scores(reference.log_prob), atol=1e-4)
    expected = [b + (1 - lag) * 0.01 for b in begun]
    assert all(torch.allclose(w, e, atol=1e-6) for w, e in zip(reference.state().values(), expected, strict=True))
    with pytest.raises(RecipeError, match="another one"):
        Reference(kind="round", cache="kept.sqlite")
    with pytest.raises(RecipeError, match="of rounds alone"):
        Reference(kind="start", lag=0.5)


def test_what_the_value_network_said_at_the_rollout_is_kept_where_there_are_several_updates(llama, prompts, tmp_path):
    run = recipe(llama, prompts, tmp_path, lora=0, objective=PPO(value_clip=0.2))
    model = penchant.load(llama)
    model.add_value()
    data = collector(run, model)
    data.before_step(0, model)
    batch = data.batch([1, 3])
    assert batch.behavior_value_BKT is not None
    with torch.no_grad():
        torch.nn.init.normal_(model.value.head.weight, std=0.1)
        now = run.likelihood.value(model, batch)
    mask = batch.behavior.mask_BKT
    # It began at the mean reward.
    assert_close(batch.behavior_value_BKT[mask], torch.full((int(mask.sum()),), batch.statistics.mean))
    assert not torch.allclose(now[mask], batch.behavior_value_BKT[mask], atol=1e-3)
    once = replace(run, objective=REINFORCE(), train=replace(run.train, batch_size=4))
    data = collector(once, model)
    data.before_step(0, model)
    assert data.batch([0]).behavior_value_BKT is None


def test_more_processes_than_prompts_are_refused_before_one_waits_for_nothing(model, llama, prompts, tmp_path):
    class Many:
        num_processes, process_index = 5, 4

    run = recipe(llama, prompts, tmp_path)
    with pytest.raises(RecipeError, match="4 prompts a round are too few for 5 processes"):
        Collector(run, [Prompt(text="a")], actor_of(run, model, Many()), Purse(run.feedback), Many())
