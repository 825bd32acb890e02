"""Groups as the loop meets them: mirrored, padded, accumulated, across epochs; and numbers that are not finite."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from loop_fixtures import recipe
from PIL import Image, ImageOps

import penchant
from penchant.errors import CheckpointError, DivergedError, RecipeError
from penchant.feedback import Candidate, Group, Judgement, select
from penchant.feedback.groups import Media
from penchant.objectives import DPO, KTO, MaPO
from penchant.recipe import Recipe
from penchant.references import Cached, Reference
from penchant.sources import FixedFeedback
from penchant.train.checkpoint import load_latest
from penchant.train.encoding import Encoder
from penchant.train.guards import StopRequest
from penchant.train.loop import Loop
from penchant.train.meters import Averages
from penchant.train.scoring import Scorer
from penchant.types import CandidateBatch

SIDE = 32


def quiet(text: str) -> None:
    pass


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))


def png(image: Image.Image) -> Media:
    out = BytesIO()
    image.save(out, "PNG")
    return Media.of(out.getvalue())


def group(number: int, width: int) -> Group:
    """A group of `width` random pictures, the later ones better."""
    return Group(
        prompt=f"prompt {number}",
        candidates=tuple(Candidate(media=png(picture(100 * number + k))) for k in range(width)),
        judgements=(Judgement(kind="score", values=tuple(float(k) for k in range(width)), source="judge:order"),),
    )


@pytest.fixture(scope="module")
def loaded(sd15: Path) -> dict[int, Any]:
    return {lora: penchant.load(str(sd15), resolution=SIDE, lora=lora) for lora in (0, 2)}


@pytest.fixture(scope="module")
def policy(loaded) -> Callable[..., Any]:
    """A fresh policy: all weights, or an adapter that already differs from zero."""

    def inner(lora: int = 0, *, moved: bool = False) -> Any:
        model = copy.deepcopy(loaded[lora])
        if moved:
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(0)
                for parameter in model.trainable_parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter))
        return model

    return inner


@pytest.fixture(scope="module")
def data(loaded, tmp_path_factory) -> Callable[..., FixedFeedback]:
    """Groups of the asked widths, encoded."""
    cache = tmp_path_factory.mktemp("cache") / "encodings.sqlite"

    def inner(*widths: int) -> FixedFeedback:
        groups = select([group(number, width) for number, width in enumerate(widths)], min_candidates=1).groups
        encoder = Encoder(loaded[0], cache, seed=0, flip=False)
        encoder.prepare(groups)
        return FixedFeedback(groups=groups, encoder=encoder)

    return inner


def loop_of(run: Recipe, model: Any, data: Any, reference: Any = None) -> Loop:
    folder = Path(str(run.out))
    folder.mkdir(parents=True, exist_ok=True)
    if reference is None and run.objective.needs.reference:
        reference = run.reference.build(model)
    accelerator = Accelerator(cpu=True)
    scorer = Scorer(recipe=run, model=model, reference=reference, accelerator=accelerator)
    return Loop(run, model, scorer, data, folder, accelerator)


def gradient(loop: Loop, *portions: Sequence[tuple[int, CandidateBatch]]) -> torch.Tensor:
    """The gradient of the mean over all groups, taken in portions of (epoch, batch)es."""
    count = sum(batch.shape[0] for portion in portions for _, batch in portion)
    for parameter in loop.parameters:
        parameter.grad = None
    for portion in portions:
        share = sum(batch.shape[0] for _, batch in portion) / count
        loop.scorer.backward(portion, share=share, averages=Averages())
    return torch.cat([p.grad.flatten() for p in loop.parameters if p.grad is not None])


def assert_close(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.abs().max() > 0
    assert (a - b).norm() <= 2e-5 * a.norm()


@pytest.fixture
def scored(policy, data, tmp_path):
    """A loop whose policy has left its reference, and its groups."""

    def inner(*widths: int, objective: Any = None, **train: Any) -> tuple[Loop, FixedFeedback]:
        run = recipe(Path("unused"), Path("unused"), tmp_path / "run", **train)
        run = replace(run, objective=objective or DPO(beta=20.0))
        reference = run.reference.build(policy(2)) if run.objective.needs.reference else None
        found = data(*widths)
        return loop_of(run, policy(2, moved=True), found, reference), found

    return inner


@pytest.mark.parametrize("layout", [[1, 1, 1, 1, 1, 1], [2, 2, 2], [4, 2], [1, 5]])
def test_the_gradient_of_micro_batches_is_that_of_the_whole_batch(layout, scored):
    loop, groups = scored(2, 2, 2, 2, 2, 2)
    starts = np.cumsum([0, *layout])
    portions = [[(0, groups.batch(range(a, b)))] for a, b in pairwise(starts)]
    assert_close(gradient(loop, [(0, groups.batch(range(6)))]), gradient(loop, *portions))


@pytest.mark.parametrize(
    ("objective", "widths"),
    [(DPO(beta=20.0), (2, 2, 2)), (DPO(beta=20.0), (2, 3, 3)), (MaPO.code(), (3, 2, 2)), (KTO(beta=20.0), (3, 2, 1))],
)
def test_the_gradient_by_candidate_is_that_of_all_at_once(widths, objective, scored):
    loop, groups = scored(*widths, objective=objective)
    single = replace(loop.scorer, recipe=replace(loop.recipe, train=replace(loop.recipe.train, by_candidate=True)))
    batch = [(0, groups.batch(range(3)))]
    joint = gradient(loop, batch)
    loop.scorer = single
    assert_close(joint, gradient(loop, batch))


@pytest.mark.parametrize("by_candidate", [False, True])
def test_groups_of_two_and_three_in_one_batch_give_the_mean_of_their_own_gradients(by_candidate, scored):
    loop, groups = scored(2, 3, 2, 3, by_candidate=by_candidate)
    batch = groups.batch(range(4))
    assert batch.shape == (4, 3)
    assert batch.mask_BK.tolist() == [[True, True, False], [True] * 3, [True, True, False], [True] * 3]
    alone = [[(0, groups.batch([b]))] for b in range(4)]
    assert [portion[0][1].shape for portion in alone] == [(1, 2), (1, 3), (1, 2), (1, 3)]
    assert_close(gradient(loop, [(0, batch)]), gradient(loop, *alone))


@pytest.mark.parametrize("by_candidate", [False, True])
def test_what_stands_in_the_padding_changes_no_bit_of_the_gradient(by_candidate, scored):
    loop, groups = scored(2, 3, by_candidate=by_candidate)
    batch = groups.batch(range(2))
    filled = batch.candidates["latents"].clone()
    filled[0, 2] = float("nan")
    dirty = replace(batch, candidates={**batch.candidates, "latents": filled})
    assert torch.equal(gradient(loop, [(0, batch)]), gradient(loop, [(0, dirty)]))


def test_a_step_that_crosses_into_the_next_epoch_draws_by_each_group_s_own_epoch(scored):
    loop, groups = scored(2, 2, 2, batch_size=5)
    batch = groups.batch(range(2))
    both = gradient(loop, [(0, batch), (1, batch)])
    first, second = gradient(loop, [(0, batch)]), gradient(loop, [(1, batch)])
    assert (first - second).norm() > 0.1 * first.norm()
    assert_close(both, (first + second) / 2)
    loop.take_step()
    values = loop.take_step()
    # Steps 0 and 1 take ten turns of three groups, so that both cross an epoch.
    assert np.isfinite(values["loss"])
    assert loop.step == 2


def test_a_mirrored_group_is_mirrored_whole(loaded, tmp_path):
    groups = select([group(number, 3) for number in range(12)]).groups
    encoder = Encoder(loaded[0], tmp_path / "a.sqlite", seed=0, flip=True)
    plain = Encoder(loaded[0], tmp_path / "a.sqlite", seed=0, flip=False)
    encoder.prepare(groups)
    plain.prepare(groups)
    flipped = [encoder.flipped(g) for g in groups]
    assert 2 < sum(flipped) < 10
    found, straight = encoder.batch(groups), plain.batch(groups)
    for b, one in enumerate(groups):
        assert torch.equal(found.candidates["latents"][b], straight.candidates["latents"][b]) is not flipped[b]
        assert (found.sample_ids[b] == straight.sample_ids[b]) is not flipped[b]
        if flipped[b]:
            mirrored = [ImageOps.mirror(picture(100 * b + k)) for k in range(3)]
            expected = loaded[0].encode_images(mirrored, ids=[c.id for c in one.group.candidates])["latents"]
            assert torch.equal(found.candidates["latents"][b], expected)


def test_only_what_is_new_is_encoded_and_a_damaged_encoding_is_made_again(loaded, tmp_path):
    groups = select([group(number, 2) for number in range(3)]).groups
    encoder = Encoder(loaded[0], tmp_path / "a.sqlite", seed=0, flip=False)
    assert encoder.prepare(groups[:2]) == 4 + 2
    assert encoder.prepare(groups) == 2 + 1
    before = encoder.batch(groups)
    encoder.cache._database.execute("UPDATE tensors SET value = substr(value, 1, 40) WHERE rowid = 2")
    with pytest.raises(RecipeError, match="missing from the cache"):
        encoder.batch(groups)
    again = Encoder(loaded[0], tmp_path / "a.sqlite", seed=0, flip=False)
    assert again.prepare(groups) == 1
    assert torch.equal(again.batch(groups).candidates["latents"], before.candidates["latents"])


def test_another_seed_or_encoder_never_meets_an_old_latent(loaded, tmp_path):
    groups = select([group(0, 2)]).groups
    other = copy.deepcopy(loaded[0])
    next(other.pipeline.vae.parameters()).data.add_(0.1)
    for model, seed in ((loaded[0], 0), (loaded[0], 1), (other, 0)):
        assert Encoder(model, tmp_path / "a.sqlite", seed=seed, flip=False).prepare(groups) >= 2


# Numbers that are not finite (R7).


@dataclass
class Poisoned:
    """Feedback that goes bad at some steps, in a place of choice: `Data` of the loop as anybody may write it."""

    data: FixedFeedback
    steps: tuple[int, ...]
    place: str
    value: float
    seen: list[torch.Tensor]
    bad: bool = False

    def __len__(self) -> int:
        return len(self.data)

    def before_step(self, step: int, model: Any) -> None:
        self.bad = step in self.steps
        self.seen.append(torch.cat([p.detach().flatten().clone() for p in model.trainable_parameters()]))

    def metrics(self) -> dict[str, float]:
        return {}

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}

    def restore(self, tensors: Any, state: Any) -> None:
        pass

    def batch(self, indices: Sequence[int]) -> CandidateBatch:
        batch = self.data.batch(indices)
        if not self.bad:
            return batch
        if self.place == "score":
            return replace(batch, scores_BK=batch.scores_BK * self.value)
        part = {"latent": "candidates", "prompt": "condition"}[self.place]
        first, *others = getattr(batch, part)
        tensors = {name: getattr(batch, part)[name].clone() for name in (first, *others)}
        # One number of one group is enough.
        tensors[first].view(-1)[0] = self.value
        return replace(batch, **{part: tensors})


PLACES = [(place, value) for place in ("latent", "prompt") for value in (float("nan"), float("inf"), -float("inf"))]


@pytest.mark.parametrize(("place", "value"), [*PLACES, ("gradient", float("inf")), ("gradient", float("nan"))])
def test_a_number_that_is_not_finite_never_reaches_a_weight_an_average_or_a_checkpoint(
    place, value, policy, data, tmp_path
):
    run = recipe(Path("x"), Path("x"), tmp_path / "run", steps=5, save_every=1, keep=9, ema=0.5, bad_steps=3)
    model = policy(2)
    poisoned = Poisoned(data(2, 2, 2, 2), (1, 2), place if place != "gradient" else "score", value, [])
    if place == "gradient":
        poisoned = replace(poisoned, steps=())
        parameter = model.trainable_parameters()[0]
        parameter.register_hook(lambda g: g * value if len(poisoned.seen) in (2, 3) else g)
    loop = loop_of(run, model, poisoned)
    outcome = loop.run(StopRequest(), quiet)
    assert outcome.skipped == 2
    before = poisoned.seen
    assert torch.equal(before[1], before[2])
    assert torch.equal(before[2], before[3])
    assert not torch.equal(before[3], before[4])
    for step in range(1, 5):
        saved = load_latest(tmp_path / "run" / "checkpoints")
        assert saved is not None
        assert saved[0].step == 5 - step
        assert all(bool(torch.isfinite(t).all()) for t in saved[0].tensors.values())
        (tmp_path / "run" / "checkpoints" / f"step-{5 - step:08d}").rename(tmp_path / f"{step}")
    assert all(bool(torch.isfinite(p).all()) for p in [*loop.parameters, *loop.ema.shadow])


def test_a_run_whose_steps_stay_broken_stops_and_names_the_groups(policy, data, tmp_path):
    run = recipe(Path("x"), Path("x"), tmp_path / "run", steps=9, bad_steps=3)
    poisoned = Poisoned(data(2, 2, 2, 2), tuple(range(2, 9)), "latent", float("nan"), [])
    loop = loop_of(run, policy(2), poisoned)
    with pytest.raises(DivergedError, match=r"3 steps in a row .*step 4"):
        loop.run(StopRequest(), quiet)
    told = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert set(told["groups"]) <= {g.group.id for g in poisoned.data.groups}
    assert len(told["groups"]) == run.train.batch_size
    assert all(bool(torch.isfinite(p).all()) for p in loop.parameters)


# Resuming (R5).


@pytest.mark.parametrize(
    "case",
    [
        {"lora": 2, "ema": 0.9, "micro_batch": 2, "warmup": 2, "schedule": "cosine"},
        {"lora": 2, "ema": 0.9, "by_candidate": True, "clip": None},
        {"lora": 0, "optimizer": "adafactor", "lr": 1e-4},
        {"lora": 2, "broken": (2, 3), "bad_steps": 3},
    ],
    ids="-".join,
)
def test_resuming_after_any_step_ends_with_the_same_bits(case, policy, data, tmp_path):
    options = dict(case)
    lora, broken = options.pop("lora"), options.pop("broken", ())
    run = recipe(Path("x"), Path("x"), tmp_path / "whole", lora=lora, steps=6, save_every=1, keep=9, **options)
    groups = data(2, 2, 3, 2)

    def start(out: Path) -> Loop:
        poisoned = Poisoned(groups, broken, "latent", float("nan"), [])
        return loop_of(replace(run, out=str(out)), policy(lora), poisoned)

    whole = start(tmp_path / "whole")
    whole.run(StopRequest(), quiet)
    for step in range(1, 6):
        folder = tmp_path / f"from-{step}"
        (folder / "checkpoints").mkdir(parents=True)
        name = f"step-{step:08d}"
        (tmp_path / "whole" / "checkpoints" / name).rename(folder / "checkpoints" / name)
        # The metrics of a run that was killed later than it saved.
        (folder / "metrics.jsonl").write_text((tmp_path / "whole" / "metrics.jsonl").read_text())
        parts = start(folder)
        assert parts.resume(quiet)
        assert parts.step == step
        parts.run(StopRequest(), quiet)
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters, parts.parameters, strict=True))
        if whole.ema is not None:
            assert all(torch.equal(a, b) for a, b in zip(whole.ema.shadow, parts.ema.shadow, strict=True))
        for a, b in zip(whole.parameters, parts.parameters, strict=True):
            for key, value in whole.optimiser.state[a].items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(parts.optimiser.state[b][key]))
        assert metrics(tmp_path / "whole") == metrics(folder)
        assert parts.guard.skipped == whole.guard.skipped == len(broken)


def metrics(folder: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "groups_per_second"} for line in found]


def test_a_checkpoint_of_another_policy_is_refused(policy, data, tmp_path):
    run = recipe(Path("x"), Path("x"), tmp_path / "run", steps=3, save_every=1)
    loop_of(run, policy(2), data(2, 2, 2)).run(StopRequest(), quiet)
    with pytest.raises(CheckpointError, match="resume with the recipe"):
        loop_of(run, policy(0), data(2, 2, 2)).resume(quiet)


# The cached reference.


@pytest.mark.parametrize("lora", [0, 2])
def test_a_cached_reference_gives_the_losses_of_a_live_one_and_a_second_run_asks_nothing(lora, policy, data, tmp_path):
    live = recipe(Path("x"), Path("x"), tmp_path / "live", lora=lora, steps=4)
    loop_of(live, policy(lora), data(2, 3, 2, 2)).run(StopRequest(), quiet)
    counts = []
    for name in ("first", "second"):
        spec = Reference(cache=str(tmp_path / "scores.sqlite"))
        cached = replace(live, out=str(tmp_path / name), reference=spec)
        model = policy(lora)
        reference = spec.build(model)
        assert isinstance(reference, Cached)
        loop_of(cached, model, data(2, 3, 2, 2), reference).run(StopRequest(), quiet)
        assert metrics(tmp_path / "live") == metrics(tmp_path / name)
        counts.append((reference.hits, reference.misses))
    asked = sum(counts[0])
    assert counts == [(0, asked), (asked, 0)]
