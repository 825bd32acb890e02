"""What the parts of DTO's reproduction share: problems, the thinker and its traces, how a model is judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

RUNS = Path(__file__).resolve().parent.parent / "runs" / "reproduce-dto"
THINKER = "zoo:thinker"
SAMPLES = 4  # traces a problem of an evaluation
# Kind -> (how many problems, terms, key, split of the zoo). Validation is apart from training by text. The thinker
# knows 3 to 7 terms; feedback has up to 6, so that 7 are more than a method was trained on, and 8 more than anybody.
PROBLEMS = {
    "train": (200, (3, 6), 11, "train"),
    "validation": (120, (3, 6), 12, "train"),
    "held-out": (160, (3, 6), 13, "test"),
    "longer": (100, 7, 14, "test"),
    "longest": (60, 8, 15, "test"),
}
# Models are judged with seeds that no feedback was drawn with.
_JUDGED = 1


@cache
def problems(kind: str) -> list[Any]:
    """The zoo's problems of a kind."""
    from penchant.zoo.thinker.problems import problems as made

    count, terms, seed, split = PROBLEMS[kind]
    if kind != "validation":
        return made(count, terms, seed, split=split)
    seen = {p.prompt for p in problems("train")}
    return [p for p in made(count + len(seen), terms, seed, split=split) if p.prompt not in seen][:count]


def asked(kind: str) -> list[Any]:
    """The prompts of a kind."""
    from penchant.feedback.groups import Prompt

    return [Prompt(text=p.prompt) for p in problems(kind)]


def loaded(path: str, seed: int = 0) -> Any:
    """Rollouts of a model, its answers kept on disk, and the verifier of every problem here."""
    import torch

    from penchant.models import load
    from penchant.thoughts import Rollouts
    from penchant.thoughts.cache import CachedGenerator
    from penchant.thoughts.construction import counter
    from penchant.zoo.thinker.teacher import ANSWER
    from penchant.zoo.thinker.thoughts import FORMAT

    torch.set_num_threads(1)
    model = load(path)
    generator = CachedGenerator(model, RUNS / "completions.sqlite", name=model.fingerprint())
    return Rollouts(generator=generator, verifier=verifier(ANSWER), format=FORMAT, count=counter(model), seed=seed)


@cache
def rollouts() -> Any:
    """The thinker's."""
    return loaded(THINKER)


@cache
def verifier(marker: str) -> Any:
    """reasoning-gym's scorer on every problem here."""
    from penchant.judges.verifiers import ReasoningGym

    return ReasoningGym({p.prompt: dict(p.entry) for kind in PROBLEMS for p in problems(kind)}, marker=marker)


@cache
def shape() -> Any:
    """What decides the thinker's attention FLOPs."""
    from penchant.thoughts import ModelShape

    config = rollouts().generator.inner.bare.config
    return ModelShape(layers=config.num_hidden_layers, width=config.hidden_size)


def flops(prompt: str, tokens: int) -> float:
    """Attention FLOPs of a trace; a token begins the prompt."""
    from penchant.thoughts import attention_flops

    return attention_flops(shape(), prompt=rollouts().count(prompt) + 1, generated=tokens)


def decoding() -> Any:
    """How traces are drawn: the recipe's way."""
    from penchant.zoo.thinker.thoughts import thinker_thoughts

    return thinker_thoughts().decoding


@cache
def traces() -> list[list[Any]]:
    """The thinker's traces of the training problems."""
    from penchant.zoo.thinker.thoughts import thinker_thoughts

    return rollouts().traces(asked("train"), each=thinker_thoughts().each, decoding=decoding())


def score(kind: str, found: Sequence[tuple[str, bool]]) -> dict[str, list[list[float]]]:
    """Right, tokens and attention FLOPs [P][S] of (trace, right) in the order of the problems."""
    count = rollouts().count
    rows = [
        (float(right), float(count(text)), flops(problem.prompt, count(text)))
        for problem, (text, right) in zip([p for p in problems(kind) for _ in range(SAMPLES)], found, strict=True)
    ]
    named = zip(("right", "tokens", "flops"), np.array(rows).T, strict=True)
    return {name: column.reshape(-1, SAMPLES).tolist() for name, column in named}


def evaluated(kind: str, model: str) -> dict[str, list[list[float]]]:
    """A model's own traces of problems of a kind, with seeds that all models share; kept beside the model."""
    done = RUNS / "base" if model == THINKER else Path(model).parent
    file = done / f"{kind}.json"
    if not file.exists():
        done.mkdir(exist_ok=True)
        drawn = loaded(model, _JUDGED).traces(asked(kind), each=SAMPLES, decoding=decoding())
        file.write_text(json.dumps(score(kind, [(t.text, t.right) for some in drawn for t in some])))
    return json.loads(file.read_text())


def forced(kind: str) -> dict[str, list[list[float]]]:
    """The thinker made to answer where its second pattern would begin: what a prompt or a stop word can do."""
    from penchant.thoughts.rollouts import Cut
    from penchant.thoughts.segmentation import joined, segment
    from penchant.zoo.thinker.thoughts import thinker_thoughts

    made, method = loaded(THINKER, _JUDGED), thinker_thoughts().method
    drawn = [t for some in made.traces(asked(kind), each=SAMPLES, decoding=decoding()) for t in some]
    first = [segment((made.format.split(t.text) or (t.text, ""))[0], method.segmenter, made.count)[:1] for t in drawn]
    cuts = [Cut(problem=t.problem, thought=joined(some)) for t, some in zip(drawn, first, strict=True)]
    answers = made.exits(cuts, [0] * len(cuts), method.exits.decoding(()))
    return score(kind, [(cut.thought + text, right) for cut, (text, right) in zip(cuts, answers, strict=True)])


def ratio(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Sum over sum, both by problem, with the 95 % interval of a bootstrap over problems."""
    from penchant.evaluate.winrate import resampled_means

    a, b = np.array([over], dtype=float), np.array([under], dtype=float)
    drawn = resampled_means(a, seed=0) / np.maximum(resampled_means(b, seed=0), 1e-12)
    return [float(a.sum() / b.sum()), *map(float, np.quantile(drawn, [0.025, 0.975]))]
