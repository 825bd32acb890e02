"""The reference is the policy before training: exactly, without gradient, and from disk when it was asked before."""

from __future__ import annotations

import copy
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import penchant
from penchant.errors import RecipeError
from penchant.likelihoods import Autoregressive, Diffusion, FlowMatching
from penchant.references import AdapterOff, Cached, Frozen, Reference, adapters_off
from penchant.testing import build
from penchant.types import CandidateBatch

FAMILIES = {"stable-diffusion": Diffusion(steps=2), "flux": FlowMatching(steps=2)}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("tiny")
    return {name: str(build(name, root / name)) for name in FAMILIES}


@pytest.fixture(scope="session")
def load(tiny):
    """Load a tiny policy; one that was loaded before is copied, which is much faster."""
    loaded = {}

    def inner(name="stable-diffusion", **options):
        key = (name, *sorted(options.items()))
        if key not in loaded:
            loaded[key] = penchant.load(tiny[name], resolution=32, **options)
        return copy.deepcopy(loaded[key])

    return inner


@pytest.fixture(params=[*FAMILIES])
def family(request) -> str:
    return request.param


def make_batch(model, groups: int = 3, candidates: int = 2) -> CandidateBatch:
    generator = torch.Generator().manual_seed(0)
    prompts = tuple(f"prompt {b}" for b in range(groups))
    return CandidateBatch(
        group_ids=tuple(f"g{b}" for b in range(groups)),
        sample_ids=tuple(tuple(f"s{b}{k}" for k in range(candidates)) for b in range(groups)),
        prompts=prompts,
        candidates={"latents": torch.randn(groups, candidates, 4, 16, 16, generator=generator)},
        condition=model.encode_prompts(prompts),
        scores_BK=torch.zeros(groups, candidates),
        mask_BK=torch.ones(groups, candidates, dtype=torch.bool),
    )


def groups_of(batch: CandidateBatch, index: list[int]) -> CandidateBatch:
    return replace(
        batch,
        group_ids=tuple(batch.group_ids[b] for b in index),
        sample_ids=tuple(batch.sample_ids[b] for b in index),
        prompts=tuple(batch.prompts[b] for b in index),
        candidates={k: v[index] for k, v in batch.candidates.items()},
        condition={k: v[index] for k, v in batch.condition.items()},
        scores_BK=batch.scores_BK[index],
        mask_BK=batch.mask_BK[index],
    )


def train_a_little(model) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


class Counting:
    """A likelihood that notes how many groups it was asked to score."""

    def __init__(self, likelihood) -> None:
        self.likelihood, self.density, self.groups = likelihood, likelihood.density, []

    def __repr__(self) -> str:
        return repr(self.likelihood)

    def log_prob(self, model, batch, draw, *, keep_output=False):
        self.groups.append(batch.group_ids)
        return self.likelihood.log_prob(model, batch, draw, keep_output=keep_output)


@pytest.mark.parametrize(("lora", "kind"), [(4, "auto"), (0, "auto"), (4, "frozen")])
def test_at_step_zero_policy_and_reference_are_one_and_later_the_reference_stays(load, family, lora, kind):
    likelihood = FAMILIES[family]
    policy = load(family, lora=lora)
    reference = Reference(kind=kind).build(policy)
    assert isinstance(reference, AdapterOff if (lora and kind == "auto") else Frozen)
    batch = make_batch(policy)
    draw = likelihood.draw(batch, seed=0, epoch=0)

    def both():
        ours = likelihood.log_prob(policy, batch, draw)
        theirs = reference.log_prob(likelihood, policy, batch, draw)
        assert ours.step_BKT.requires_grad
        assert not theirs.step_BKT.requires_grad
        return ours.step_BKT.detach(), theirs.step_BKT

    ours, theirs = both()
    assert torch.equal(ours, theirs)
    train_a_little(policy)
    after, still = both()
    assert torch.equal(still, theirs)
    assert not torch.equal(after, ours)


def test_adapters_off_is_the_base_exactly(load, family):
    base, policy = load(family), load(family, lora=4)
    train_a_little(policy)
    batch, likelihood = make_batch(base), FAMILIES[family]
    draw = likelihood.draw(batch, seed=0, epoch=0)
    with torch.no_grad():
        expected = likelihood.log_prob(base, batch, draw).step_BKT
    assert torch.equal(AdapterOff().log_prob(likelihood, policy, batch, draw).step_BKT, expected)


def test_asking_the_reference_between_forward_and_backward_leaves_the_gradient_alone(load):
    likelihood, gradients = Diffusion(), []
    for ask in (False, True):
        policy = load(lora=4)
        train_a_little(policy)
        batch = make_batch(policy)
        draw = likelihood.draw(batch, seed=0, epoch=0)
        loss = likelihood.log_prob(policy, batch, draw).total().sum()
        if ask:
            AdapterOff().log_prob(likelihood, policy, batch, draw)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in policy.trainable_parameters()]))
    assert torch.equal(*gradients)


def test_adapters_come_back_as_they_were_even_after_an_error(load):
    policy = load(lora=4)
    frozen = policy.trainable_parameters()[0].requires_grad_(False)
    count = len(policy.trainable_parameters())
    with pytest.raises(RuntimeError, match="on purpose"), adapters_off(policy.bare):
        raise RuntimeError("on purpose")
    assert not frozen.requires_grad
    assert len(policy.trainable_parameters()) == count
    assert policy.bare.active_adapters() == ["default"]


def test_a_kept_output_is_the_references_prediction(load):
    policy = load(lora=4)
    likelihood, batch = Diffusion(), make_batch(policy)
    draw = likelihood.draw(batch, seed=0, epoch=0)
    reference = AdapterOff()
    ours = likelihood.log_prob(policy, batch, draw, keep_output=True)
    theirs = reference.log_prob(likelihood, policy, batch, draw, keep_output=True)
    assert likelihood.divergence(ours, theirs).abs().max() == 0


def test_a_policy_without_adapter_has_none_to_switch_off(load):
    with pytest.raises(RecipeError, match="use kind='frozen'"):
        Reference(kind="adapter_off").build(load())
    with pytest.raises(RecipeError, match="did you mean 'frozen'"):
        Reference(kind="frozn")


def test_references_say_what_they_cost(load, tmp_path):
    assert "no second copy" in Reference().build(load(lora=2)).describe()
    assert "in memory twice" in Reference().build(load()).describe()
    cached = Reference(cache=str(tmp_path / "logps.sqlite")).build(load(lora=2)).describe()
    assert "adapter off" in cached
    assert "logps.sqlite" in cached
    assert "\n" not in cached


class TestCached:
    @pytest.fixture
    def path(self, tmp_path) -> Path:
        return tmp_path / "cache" / "reference.sqlite"

    @pytest.fixture
    def policy(self, load):
        return load(lora=2)

    def ask(self, cache, policy, batch, *, likelihood=FAMILIES["stable-diffusion"], epoch=0, **options):
        counting = Counting(likelihood)
        draw = likelihood.draw(batch, seed=0, epoch=epoch)
        return cache.log_prob(counting, policy, batch, draw, **options), counting.groups

    def test_the_second_time_nothing_is_computed_and_every_bit_is_the_same(self, path, policy, load):
        batch = make_batch(policy)
        cache = Cached(AdapterOff(), path)
        first, _ = self.ask(cache, policy, batch)
        live, _ = self.ask(AdapterOff(), policy, batch)
        assert torch.equal(first.step_BKT, live.step_BKT)
        assert torch.equal(first.mask_BKT, live.mask_BKT)
        assert (cache.hits, cache.misses) == (0, 6)
        second, asked = self.ask(cache, policy, batch)
        assert (cache.hits, cache.misses, asked) == (6, 6, [])
        assert torch.equal(first.step_BKT, second.step_BKT)
        assert first.density == second.density == live.density

        # Another run: another object, another rank, adapters already trained, another layout.
        other_policy = load(lora=8)
        train_a_little(other_policy)
        other = Cached(AdapterOff(), path)
        order = [2, 0]
        third, asked = self.ask(other, other_policy, groups_of(batch, order))
        assert (other.hits, other.misses, asked) == (4, 0, [])
        assert torch.equal(third.step_BKT, first.step_BKT[order])

    def test_a_frozen_copy_and_adapters_off_share_their_rows(self, path, policy, load):
        batch = make_batch(policy)
        first, _ = self.ask(Cached(AdapterOff(), path), policy, batch)
        full = load()
        cache = Cached(Frozen(full), path)
        train_a_little(full)
        second, asked = self.ask(cache, full, batch)
        assert asked == []
        assert torch.equal(first.step_BKT, second.step_BKT)

    def test_only_groups_with_a_missing_row_are_computed(self, path, policy):
        batch = make_batch(policy)
        cache = Cached(AdapterOff(), path)
        self.ask(cache, policy, groups_of(batch, [1]))
        _, asked = self.ask(cache, policy, batch)
        assert asked == [("g0", "g2")]
        assert (cache.hits, cache.misses) == (2, 6)

    def test_whatever_decides_a_log_prob_is_in_its_key(self, path, policy, load, tmp_path):
        batch = make_batch(policy, groups=1)
        cache = Cached(AdapterOff(), path)
        self.ask(cache, policy, batch)

        def misses(reference=cache, model=policy, given=batch, **options):
            before = reference.misses
            self.ask(reference, model, given, **options)
            return reference.misses - before

        assert misses() == 0
        assert misses(epoch=1) == 2
        assert misses(likelihood=Diffusion(steps=2, timestep_range=(0, 500))) == 2
        assert misses(given=replace(batch, prompts=("another",))) == 2
        assert misses(given=replace(batch, sample_ids=(("s00", "new"),))) == 1
        likelihood = FAMILIES["stable-diffusion"]
        draw = likelihood.draw(batch, seed=0, epoch=0)
        for changed in ({"key_B": ("another",)}, {"dropped_B": torch.tensor([True])}):
            before = cache.misses
            cache.log_prob(likelihood, policy, batch, replace(draw, **changed))
            assert cache.misses - before == 2
        other = build("stable-diffusion", tmp_path / "other", seed=1)
        assert misses(Cached(AdapterOff(), path), penchant.load(str(other), lora=2)) == 2
        assert misses(Cached(AdapterOff(), path), load(lora=2, dtype="bfloat16")) == 2

    def test_candidates_that_draw_for_themselves_keep_rows_of_their_own(self, path, policy):
        likelihood = Diffusion(share_noise=False, share_timestep=False)
        batch = make_batch(policy, groups=1)
        batch = replace(batch, sample_ids=(("same", "same"),))
        draw = likelihood.draw(replace(batch, sample_ids=(("x", "y"),)), seed=0, epoch=0)
        cache = Cached(AdapterOff(), path)
        cache.log_prob(likelihood, policy, batch, draw)
        assert cache.misses == 2
        count = sqlite3.connect(path).execute("SELECT count(*) FROM reference").fetchone()[0]
        assert count == 2

    @pytest.mark.parametrize("value", [b"", b"abc", np.array([1.0, np.nan], "<f4").tobytes(), "text"])
    def test_a_corrupt_row_is_computed_again_and_counted(self, path, policy, value):
        batch = make_batch(policy)
        cache = Cached(AdapterOff(), path)
        first, _ = self.ask(cache, policy, batch)
        with sqlite3.connect(path) as database:
            key = database.execute("SELECT key FROM reference").fetchone()[0]
            database.execute("UPDATE reference SET value = ? WHERE key = ?", (value, key))
        again = Cached(AdapterOff(), path)
        second, _ = self.ask(again, policy, batch)
        assert (again.hits, again.misses, again.corrupt) == (5, 1, 1)
        torch.testing.assert_close(first.step_BKT, second.step_BKT, rtol=1e-5, atol=1e-7)
        self.ask(again, policy, batch)
        assert (again.hits, again.misses, again.corrupt) == (11, 1, 1)

    def test_a_missing_candidate_is_neither_asked_nor_stored(self, path, policy):
        batch = make_batch(policy, groups=2)
        batch.mask_BK[0, 1] = False
        batch.candidates["latents"][0, 1] = float("nan")
        cache = Cached(AdapterOff(), path)
        for _ in range(2):
            found, _ = self.ask(cache, policy, batch)
            assert not found.mask_BKT[0, 1].any()
            assert found.total().isfinite().all()
        assert (cache.hits, cache.misses) == (3, 3)

    def test_a_kept_output_comes_from_the_live_model(self, path, policy):
        batch = make_batch(policy)
        cache = Cached(AdapterOff(), path)
        self.ask(cache, policy, batch)
        found, asked = self.ask(cache, policy, batch, keep_output=True)
        assert found.output is not None
        assert len(asked) == 1

    def test_a_log_prob_that_is_not_finite_is_not_stored(self, path, policy):
        batch = make_batch(policy, groups=1)
        batch.candidates["latents"][0, 0] = float("inf")
        cache = Cached(AdapterOff(), path)
        self.ask(cache, policy, batch)
        self.ask(cache, policy, batch)
        assert (cache.hits, cache.misses, cache.corrupt) == (1, 3, 0)

    def test_another_file_is_not_overwritten(self, tmp_path):
        (tmp_path / "notes.txt").write_text("not a database, but long enough to be looked at " * 40)
        with pytest.raises(RecipeError, match="is no reference cache"):
            Cached(AdapterOff(), tmp_path / "notes.txt")
        assert (tmp_path / "notes.txt").read_text().startswith("not a database")

    def test_a_likelihood_without_draws_is_refused(self, path, policy):
        batch = make_batch(policy)
        draw = replace(Diffusion().draw(batch, seed=0, epoch=0), time_BKT=None, noise_BKT=None)
        with pytest.raises(RecipeError, match="leave the cache off"):
            Cached(AdapterOff(), path).log_prob(Diffusion(), policy, batch, draw)

    def test_two_processes_may_write_at_once(self, path, policy):
        batch = make_batch(policy)
        one, two = Cached(AdapterOff(), path), Cached(AdapterOff(), path)
        self.ask(one, policy, batch, epoch=0)
        self.ask(two, policy, batch, epoch=1)
        _, asked = self.ask(one, policy, batch, epoch=1)
        assert asked == []


# --- text: nothing is drawn, rows have lengths ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build("llama", tmp_path_factory.mktemp("tiny") / "llama"))


def text_batch(model, texts: tuple[tuple[str, ...], ...] = (("yes", "no, never"), ("perhaps",), ("a", "b", "c"))):
    from penchant.feedback.groups import Candidate, Group
    from penchant.feedback.views import ScoredGroup
    from penchant.train.encoding import Encoder

    groups = [
        ScoredGroup(
            group=Group(prompt=f"question {i}", candidates=tuple(Candidate(text=t) for t in row)),
            scores=tuple(float(k) for k in range(len(row))),
        )
        for i, row in enumerate(texts)
    ]
    encoder = Encoder(model, Path(":memory:"), seed=0, flip=False)
    encoder.prepare(groups)
    return encoder.batch(groups)


def test_cached_text_rows_have_their_own_lengths_and_survive_another_padding(llama, tmp_path):
    policy = penchant.load(llama)
    likelihood = Autoregressive()
    reference = Reference(cache=str(tmp_path / "reference.sqlite")).build(policy)
    assert isinstance(reference, Cached)
    batch = text_batch(policy)
    draw = likelihood.draw(batch, seed=0, epoch=0)
    live = reference.log_prob(likelihood, policy, batch, draw)
    assert (reference.hits, reference.misses) == (0, 6)
    again = reference.log_prob(likelihood, policy, batch, draw)
    assert (reference.hits, reference.misses) == (6, 6)
    assert torch.equal(again.per_step(), live.per_step())
    assert torch.equal(again.mask_BKT, likelihood.log_prob(policy, batch, draw).mask_BKT)
    # The first group alone is padded to fewer candidates and tokens; its rows are the same rows.
    alone = text_batch(policy, (("yes", "no, never"),))
    row = reference.log_prob(likelihood, policy, alone, likelihood.draw(alone, seed=5, epoch=3))
    assert reference.hits == 8
    assert torch.equal(row.total(), live.total()[:1, :2])
    # The same answers to another question are other rows.
    other = replace(alone, condition=text_batch(policy, (("x",), ("yes", "no, never"))).condition)
    other = groups_of(replace(other, condition={k: v[1:] for k, v in other.condition.items()}), [0])
    reference.log_prob(likelihood, policy, other, draw)
    assert reference.misses == 8


@pytest.mark.parametrize("lora", [0, 2])
def test_the_start_is_the_policy_as_the_run_began_adapter_and_all(llama, tmp_path, lora):
    policy = penchant.load(llama, lora=lora)
    train_a_little(policy)
    batch, likelihood = text_batch(policy), Autoregressive()
    draw = likelihood.draw(batch, seed=0, epoch=0)
    with torch.no_grad():
        began = likelihood.log_prob(policy, batch, draw).step_BKT
    reference = Reference(kind="start").build(policy)
    name = reference.fingerprint(policy)
    train_a_little(policy)
    now = likelihood.log_prob(policy, batch, draw)
    assert torch.equal(reference.log_prob(likelihood, policy, batch, draw).step_BKT, began)
    assert not torch.equal(now.step_BKT, began)
    assert torch.equal(likelihood.log_prob(policy, batch, draw).step_BKT, now.step_BKT), "the policy is put back"
    assert reference.fingerprint(policy) == name


def test_asking_the_start_between_forward_and_backward_leaves_the_gradient_alone(llama):
    likelihood, gradients = Autoregressive(), []
    for ask in (False, True):
        policy = penchant.load(llama)
        reference = Reference(kind="start").build(policy)
        train_a_little(policy)
        batch = text_batch(policy)
        draw = likelihood.draw(batch, seed=0, epoch=0)
        total = likelihood.log_prob(policy, batch, draw).total().sum()
        if ask:
            reference.log_prob(likelihood, policy, batch, draw)
        total.backward()
        gradients.append([p.grad for p in policy.trainable_parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
