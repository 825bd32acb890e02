"""The runs of the iREPO reproduction: what is drawn and voted on, what trains on it, and what it then answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent
RUNS = ROOT.parent / "runs" / "reproduce-irepo"
PROMPTS = ROOT.parent / "src" / "penchant" / "zoo" / "shipped" / "openers"
A, B = "vader", "tone"
METHODS = ("iREPO", "DPO", "IPO", "robust DPO", "SimPO")
AGREEMENTS = (0.60, 0.75, 0.90)
SEEDS = (0, 1, 2)
ORDER = (0.60, 0.90, 0.75)  # the ends first
SWEEP, SWEPT, RATES = 1000, ("iREPO", "DPO"), (1e-3, 2e-3)
AT, SECOND, AGAIN = 0.75, ("iREPO", "DPO"), 0.60  # agreement of the sweep; of the second round
ANNOTATORS, PROMPTS_A_ROUND, TOKENS = 5, 48, 24
HELD_OUT, VALIDATION, MEASURED = 60, 32, 30  # prompts; on the last so many KL is measured


def spec(agreement: float, seed: int) -> Any:
    """The iterations that every method shares; only the stages before training are run of it for the first round."""
    from penchant.iterations import Draws, Iterations, SimulatedPanel
    from penchant.likelihoods import Autoregressive
    from penchant.models import Policy
    from penchant.models.completion import Decoding
    from penchant.objectives import IREPO
    from penchant.recipe import Training

    return Iterations(
        name="irepo",
        policy=Policy(path="zoo:smollm2", lora=16, chat="plain"),
        likelihood=Autoregressive(),
        objective=IREPO(beta=0.1),
        prompts=str(PROMPTS / "prompts.txt"),
        annotators=(SimulatedPanel(judge=A, agreement=agreement, annotators=ANNOTATORS),),
        train=Training(batch_size=6, lr=1e-3, weight_decay=0.0),
        rounds=2,
        prompts_a_round=PROMPTS_A_ROUND,
        draws=Draws(decoding=Decoding(max_tokens=TOKENS, top_p=0.95), batch_size=128),
        stop_at=None,
        seed=seed,
        out=str(RUNS / f"data-{percent(agreement)}-{seed}"),
        cache=str(RUNS / "cache"),
        threads=1,
    )


def objective(method: str, wrong: float) -> Any:
    """A method's loss; `wrong` is the share of labels that contradict judge A."""
    from penchant.objectives import DPO, IPO, IREPO, RobustDPO, SimPO

    return {
        "iREPO": IREPO(beta=0.1),
        "DPO": DPO(beta=0.1),
        "IPO": IPO(beta=0.1),
        "robust DPO": RobustDPO(beta=0.1, label_smoothing=min(wrong, 0.45)),
        "SimPO": SimPO(),
    }[method]


def percent(share: float) -> int:
    """For names of folders."""
    return round(100 * share)


# --- data: drawn once a seed, voted on once an agreement --------------------------------------------------------------


def pairs(agreement: float, seed: int) -> tuple[Path, float, int]:
    """The store of pairs of the first round, the share of them that judge A would turn round, and their number."""
    from penchant.feedback import open_store
    from penchant.iterations.rounds import label

    shared = spec(agreement, seed)
    folder = shared.folder / "round-000"
    folder.mkdir(parents=True, exist_ok=True)
    label(shared, 0, replace(shared.policy, lora=0), folder, print)
    return extremes(folder), wrong_share(folder), len(open_store(extremes(folder)))


def extremes(folder: Path) -> Path:
    """The groups of a round with their strongest and weakest candidate alone: `best_worst` at half the cost."""
    from penchant.feedback import open_store, scores, write

    store = folder / "pairs"
    if not store.exists():
        kept = []
        for group in open_store(folder / "groups"):
            strengths = scores(group, "logit")
            best, worst = int(np.argmax(strengths)), int(np.argmin(strengths))
            if strengths[best] > strengths[worst]:
                soft = [j for j in group.judgements if j.dimension == "logit"]
                kept.append(replace(group, judgements=tuple(soft)).only([best, worst]))
        partial = store.with_name(".pairs.partial")
        shutil.rmtree(partial, ignore_errors=True)
        write(kept, partial)
        partial.rename(store)
    return store


def wrong_share(folder: Path) -> float:
    """The share of pairs whose stronger candidate judge A finds worse; an equal score counts half."""
    from penchant.feedback import open_store

    groups = list(open_store(extremes(folder)))
    judge = judges()[A]
    flat = judge.score([g.prompt for g in groups for _ in range(2)], [c.text for g in groups for c in g.candidates])
    first, second = flat[:, 0].reshape(-1, 2).T
    return float(np.mean((first < second) + 0.5 * (first == second)))


@cache
def judges() -> dict[str, Any]:
    """Both judges."""
    from penchant.judges.tone import Tone
    from penchant.judges.vader import Vader

    return {A: Vader(), B: Tone()}


# --- runs -------------------------------------------------------------------------------------------------------------


def train(method: str, agreement: float, seed: int, rate: float, out: Path) -> None:
    """One method on the pairs of one seed and agreement."""
    from penchant.run import align

    if (out / "outcome.json").exists():
        return
    store, wrong, count = pairs(agreement, seed)
    shared = spec(agreement, seed)
    shared = replace(shared, objective=objective(method, wrong), train=replace(shared.train, lr=rate))
    recipe = shared.recipe(0, shared.policy, groups=count, store=store, out=out)
    recipe = replace(recipe, feedback=replace(recipe.feedback, dimension="logit"))
    align(on_base(recipe), resume=(out / "checkpoints").exists(), say=quiet)


def on_base(recipe: Any) -> Any:
    """In the first round the last iterate is the base: its log-probs are kept for all methods."""
    from penchant.references.spec import Reference

    kept = RUNS / "cache" / "reference.sqlite"
    return replace(recipe, reference=Reference(kind="adapter_off", cache=str(kept)))


def quiet(text: str) -> None:
    """Of a run's lines only the last of each stage."""
    if text.startswith(("step", "diverged")) and "ETA 0m00s" in text:
        print("   ", text, flush=True)


def again(method: str, seed: int, rate: float) -> Path:
    """A second round from the method's own first one: its own draws, its own votes."""
    from penchant.feedback import open_store
    from penchant.iterations.rounds import after, label
    from penchant.run import align

    folder = RUNS / f"second-{slug(method)}-{seed}"
    out = folder / "run"
    if (out / "outcome.json").exists():
        return out
    shared = spec(AGAIN, seed)
    policy = after(shared.policy, str(folder_of(method, AGAIN, seed) / "model"))
    folder.mkdir(parents=True, exist_ok=True)
    label(shared, 1, policy, folder, print)
    store = extremes(folder)
    shared = replace(shared, objective=objective(method, 0.0), train=replace(shared.train, lr=rate))
    recipe = shared.recipe(1, policy, groups=len(open_store(store)), store=store, out=out)
    recipe = replace(recipe, feedback=replace(recipe.feedback, dimension="logit"))
    align(recipe, resume=(out / "checkpoints").exists(), say=quiet)
    return out


def folder_of(method: str, agreement: float, seed: int) -> Path:
    """Where a run of the first round lies."""
    return RUNS / f"{slug(method)}-{percent(agreement)}-{seed}"


def slug(method: str) -> str:
    """For names of folders."""
    return method.lower().replace(" ", "-")


# --- answers ----------------------------------------------------------------------------------------------------------


def answers(out: Path, kind: str) -> dict[str, Any]:
    """A run's answers to held-out (or validation) prompts and their log-probs, its own and the base's; kept beside it.

    `out` without a model stands for the base.
    """
    path = out / f"{kind}.json"
    if path.exists():
        return json.loads(path.read_text())
    from penchant.feedback.groups import Prompt
    from penchant.models import load

    asked = [Prompt(text=text) for text in asked_of(kind)]
    shared = spec(AT, 0)
    adapter = str(out / "model") if (out / "model").exists() else None
    model = load(replace(shared.policy, lora=0, adapter=adapter))
    found = model.complete(asked, seeds=[0] * len(asked), decoding=shared.draws.decoding)
    record = {
        "texts": [c.text for c in found],
        "tokens": [len(c.tokens) for c in found],
        "kl": 0.0 if adapter is None or kind != "held-out" else drift(model, asked[-MEASURED:], found[-MEASURED:]),
    }
    out.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.rename(path)
    return record


def asked_of(kind: str) -> list[str]:
    """Prompts: held-out ones share no event with those of training; validation ones were not drawn for the sweep."""
    if kind == "held-out":
        return (PROMPTS / "held_out.txt").read_text().splitlines()[:HELD_OUT]
    from penchant.iterations.drawing import round_prompts

    return [prompt.text for prompt in round_prompts(spec(AT, SWEEP), 1)[:VALIDATION]]


def drift(model: Any, asked: Sequence[Any], found: Sequence[Any]) -> float:
    """KL from the base in nats a text."""
    from penchant.evaluate.sequence_kl import log_probs
    from penchant.evaluate.sheet import Sheet
    from penchant.references.adapter_off import adapters_off

    sheet = Sheet(captions="held-out", prompts=tuple(asked), seeds=1, samples=tuple(found), modality="text")
    own = log_probs(sheet, model)
    with adapters_off(model.bare):
        return float((own - log_probs(sheet, model)).mean())


@cache
def scored(out: Path, kind: str, judge: str) -> np.ndarray:
    """Scores [P, 1]."""
    return judges()[judge].score(asked_of(kind), answers(out, kind)["texts"])
