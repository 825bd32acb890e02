"""Text goes through the unchanged loop: every objective, resumed exactly, in any layout, with or without the cache."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from test_loop import align_until, metrics, quiet, same

import penchant
from penchant.compatible import reasons
from penchant.errors import FeedbackError
from penchant.feedback import Candidate, Group, Judgement, export_groups, select
from penchant.feedback.rankings import LOGIT
from penchant.likelihoods import Autoregressive
from penchant.models import Policy
from penchant.objectives import DPO, KTO, OBJECTIVES, RankDPO
from penchant.recipe import Preferences, Recipe, Training
from penchant.references import Reference
from penchant.run import align
from penchant.sources import FixedFeedback
from penchant.testing import build
from penchant.train.encoding import Encoder
from penchant.train.loop import Loop
from penchant.train.meters import Averages
from penchant.train.scoring import Scorer


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return build("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "pairs.jsonl"
    words = ["rain", "a long train", "tea", "the sea at night", "bread", "snow", "wool"]
    rows = [{"prompt": f"About {w}.", "chosen": f"I like {w}.", "rejected": f"{w}? No, not at all."} for w in words]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def recipe(llama: Path, texts: Path, out: Path, *, lora: int = 2, **train) -> Recipe:
    return Recipe(
        name="text",
        policy=Policy(path=str(llama), lora=lora),
        likelihood=Autoregressive(),
        objective=DPO(beta=0.1),
        feedback=Preferences(path=str(texts)),
        train=Training(**{"steps": 4, "batch_size": 3, "lr": 1e-3} | train),
        out=str(out),
        threads=1,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (file,) = (folder / "model").glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("lora", [0, 2])
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(lora, llama, texts, tmp_path, monkeypatch):
    whole = recipe(llama, texts, tmp_path / "whole", lora=lora, micro_batch=2)
    align(whole, say=quiet)
    cut = replace(whole, out=str(tmp_path / "cut"))
    assert align_until(cut, 2, monkeypatch) == 2
    align(cut, resume=True, say=quiet)
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
    assert abs(metrics(tmp_path / "whole")[0]["loss"] - torch.log(torch.tensor(2.0)).item()) < 1e-6


@pytest.mark.parametrize("kind", ["auto", "frozen", "start"])
def test_every_reference_is_the_policy_at_the_start_and_the_cache_changes_nothing(kind, llama, texts, tmp_path):
    run = recipe(llama, texts, tmp_path / "live")
    run = replace(run, reference=Reference(kind=kind))
    align(run, say=quiet)
    cached = replace(run, out=str(tmp_path / "a"), reference=Reference(kind=kind, cache=str(tmp_path / "r.sqlite")))
    align(cached, say=quiet)
    align(replace(cached, out=str(tmp_path / "b")), say=quiet)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    for live, kept in zip(metrics(tmp_path / "live"), metrics(tmp_path / "a"), strict=True):
        assert live["loss"] == pytest.approx(kept["loss"], abs=1e-6)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory) -> Path:
    """Groups of three, ranked: enough for every objective."""
    path = tmp_path_factory.mktemp("texts") / "ranked.parquet"
    export_groups([_group(i, 3) for i in range(5)], path)
    return path


def _group(i: int, width: int) -> Group:
    return Group(
        prompt=f"question {i}",
        candidates=tuple(Candidate(text="ab" * (1 + (3 * i + k) % 5) + str(k)) for k in range(width)),
        judgements=(
            Judgement(kind="rank", values=tuple(k / (width - 1) for k in range(width)), source="judge:order"),
            Judgement(kind="score", dimension=LOGIT, values=tuple(k / 2 for k in range(width)), source="judge:order"),
        ),
    )


@pytest.mark.parametrize("name", [n for n, o in OBJECTIVES.items() if not reasons(o, "exact")])
def test_every_objective_of_an_exact_density_trains_on_texts(name, llama, ranked, tmp_path):
    run = recipe(llama, ranked, tmp_path / "run", lora=0, steps=2)
    before = penchant.load(llama).trainable_parameters()
    objective = OBJECTIVES[name]()
    if objective.needs.scores == "logit":
        with pytest.raises(FeedbackError, match="takes log strengths"):
            align(replace(run, objective=objective), say=quiet)
        run = replace(run, feedback=replace(run.feedback, dimension=LOGIT), out=str(tmp_path / "logit"))
    trained = align(replace(run, objective=objective), say=quiet)
    assert all(torch.tensor(line["loss"]).isfinite() for line in metrics(trained.folder))
    after = penchant.load(trained.model_path).trainable_parameters()
    # At their usual betas a few start where the gradient vanishes in float32; at least one step must move the rest.
    moved = max(float((a - b).detach().abs().max()) for a, b in zip(after, before, strict=True))
    assert moved > 0


def _loop(llama: Path, tmp_path: Path, objective, **train) -> tuple[Loop, FixedFeedback]:
    groups = [_group(i, 2 + i % 2) for i in range(4)]
    run = replace(recipe(llama, Path("unused"), tmp_path / "run", lora=0, **train), objective=objective)
    model = penchant.load(llama)
    selection = select(penchant.feedback.Feedback(groups=tuple(groups)))
    encoder = Encoder(model, tmp_path / "encodings.sqlite", seed=0, flip=False)
    encoder.prepare(selection.groups)
    data = FixedFeedback(groups=selection.groups, encoder=encoder)
    (tmp_path / "run").mkdir(exist_ok=True)
    accelerator = Accelerator()
    scorer = Scorer(recipe=run, model=model, reference=Reference().build(model), accelerator=accelerator)
    return Loop(run, model, scorer, data, tmp_path / "run", accelerator), data


def _gradient(loop: Loop, data: FixedFeedback, *portions: list[int]) -> torch.Tensor:
    for parameter in loop.parameters:
        parameter.grad = None
    total = sum(map(len, portions))
    for portion in portions:
        loop.scorer.backward([(0, data.batch(portion))], share=len(portion) / total, averages=Averages())
    return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in loop.parameters])


@pytest.mark.parametrize("objective", [DPO(beta=0.5), RankDPO(beta=0.5)])
def test_layouts_of_a_batch_give_one_gradient(objective, llama, tmp_path):
    loop, data = _loop(llama, tmp_path, objective)
    with torch.no_grad():
        for i, parameter in enumerate(loop.parameters):
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    whole = _gradient(loop, data, [0, 1, 2, 3])
    scale = float(whole.abs().max())
    parts = _gradient(loop, data, [2], [0, 3], [1])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5 * scale)
    one, again = _loop(llama, tmp_path, objective, by_candidate=True)
    with torch.no_grad():
        for mine, other in zip(one.parameters, loop.parameters, strict=True):
            mine.copy_(other)
    torch.testing.assert_close(_gradient(one, again, [0, 1, 2, 3]), whole, rtol=1e-4, atol=1e-5 * scale)


def test_kto_s_baseline_is_taken_on_another_prompts_answer(llama, tmp_path):
    loop, data = _loop(llama, tmp_path, KTO())
    batch = data.batch([0, 1])
    other = batch.mismatched()
    assert torch.equal(other.condition["prompt"], batch.condition["prompt"])
    assert torch.equal(other.candidates["tokens"][0], batch.candidates["tokens"][1])
    _gradient(loop, data, [0, 1])
