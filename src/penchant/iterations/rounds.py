"""One round, stage by stage. A stage is a folder that is there whole or not at all, so a killed round goes on.

round-000/samples/    store: prompts with K samples of the policy
round-000/votes/      the same with the annotators' verdicts
round-000/groups/     the same with two labels made of them: log strengths, and the order by majority
round-000/run/        an ordinary run folder: recipe.toml, metrics, model, report
round-000/round.json  what came of it; written last
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from penchant.errors import FeedbackError
from penchant.feedback.groups import Group
from penchant.iterations.drawing import draw, round_prompts
from penchant.iterations.spec import Iterations
from penchant.models.spec import Policy

Say = Callable[[str], None]
RECORD = "round.json"


@dataclass(frozen=True, kw_only=True)
class Round:
    """What came of a round.

    Attributes:
        number: counted from 0.
        model: folder of the policy after it.
        groups: groups that stated a preference; `left_out` did not.
        annotators: who spoke, at most, about a group; `votes` comparisons in all.
        steps: optimiser steps.
        wins: win rate and 95 % interval against the round's start, by the first held-out judge on held-out prompts;
            None without an evaluation.
    """

    number: int
    model: str
    groups: int
    left_out: int
    annotators: int
    votes: float
    steps: int
    wins: tuple[float, float, float] | None = None

    def line(self) -> str:
        """The round in one line."""
        head = f"round {self.number}: {self.groups} groups, {self.votes:g} votes, {self.steps} steps"
        if self.wins is None:
            return head
        rate, low, high = (100 * value for value in self.wins)
        return f"{head}, wins {rate:.1f} % [{low:.1f}, {high:.1f}] against its start"


def finished(folder: Path) -> Round | None:
    """The record of a round that is done."""
    path = folder / RECORD
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    return Round(**{**record, "wins": tuple(record["wins"]) if record["wins"] else None})


def take(spec: Iterations, number: int, policy: Policy, folder: Path, say: Say) -> Round | int:
    """Does whatever of a round is not done; the signal's number if one stopped it."""
    from penchant.run import align

    store = label(spec, number, policy, folder, say)
    groups = _read(store)
    usable = _preferring(groups, spec.dimension, spec.seed)
    if not usable:
        raise FeedbackError("no group states a preference.", file=store, remedy="ask more prompts or annotators.")
    out = folder / "run"
    recipe = spec.recipe(number, policy, groups=usable, store=store, out=out)
    run = align(recipe, resume=(out / "outcome.json").exists() or (out / "checkpoints").exists(), say=say)
    if run.outcome.stopped_by is not None:
        return int(run.outcome.stopped_by)
    soft = [j for g in groups for j in g.judgements if j.dimension == "logit"]
    found = Round(
        number=number,
        model=str(run.model_path),
        groups=usable,
        left_out=len(groups) - usable,
        annotators=max(int(j.extra["annotators"]) for j in soft),
        votes=sum(float(j.extra["votes"]) for j in soft),
        steps=run.outcome.step,
        wins=_wins(out),
    )
    partial = folder / f".{RECORD}.partial"
    partial.write_text(json.dumps(asdict(found), indent=1))
    partial.rename(folder / RECORD)
    say(found.line())
    return found


def label(spec: Iterations, number: int, policy: Policy, folder: Path, say: Say) -> Path:
    """The stages before training: draws, votes, labels; returns the store of labelled groups."""
    from penchant.feedback.rankings import labelled

    def samples() -> list[Group]:
        prompts = round_prompts(spec, number)
        return draw(policy, prompts, spec.draws, cache=spec.cached / "samples", number=number, seed=spec.seed, say=say)

    def votes() -> list[Group]:
        groups = _read(folder / "samples")
        for panel in spec.annotators:
            groups = panel.vote(groups, number=number, seed=spec.seed)
        return groups

    def groups() -> list[Group]:
        voted = [g for g in _read(folder / "votes") if g.judgements]
        return [labelled(g, prior=spec.prior) for g in voted]

    _stage(folder / "samples", samples)
    _stage(folder / "votes", votes)
    return _stage(folder / "groups", groups)


def _stage(folder: Path, make: Callable[[], Sequence[Group]]) -> Path:
    """The store at `folder`, made if it is not there, and published by renaming."""
    from penchant.feedback.store import write

    if not folder.exists():
        made = make()
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(made, partial)
        partial.rename(folder)
    return folder


def _read(store: Path) -> list[Group]:
    from penchant.feedback.store import open_store

    return list(open_store(store))


def _preferring(groups: Sequence[Group], dimension: str, seed: int) -> int:
    """How many groups training will keep."""
    from penchant.feedback.views import select

    return len(select(groups, dimension=dimension, seed=seed)) if groups else 0


def _wins(run: Path) -> tuple[float, float, float] | None:
    path = run / "evaluation.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    for row in rows:
        if row["role"] != "trained against" and row["captions"] == "held-out":
            return tuple(row["win"][k] for k in ("rate", "low", "high"))  # type: ignore[return-value]
    return None


def after(policy: Policy, model: str) -> Policy:
    """The policy that a round ended with: an adapter on the same base, or a whole model."""
    if policy.lora or policy.adapter is not None:
        return replace(policy, lora=0, adapter=model)
    return replace(policy, path=model)
