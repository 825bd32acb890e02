"""`iterate`: round after round, until there are no more or one brought nothing.

The folder holds `iterations.toml` and a folder for each round (`rounds`); a killed process goes on where it was, with
the same bits, because every stage is published whole and everything random is counted by (seed, round, prompt).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from penchant.errors import RecipeError
from penchant.iterations.rounds import Round, after, finished, take
from penchant.iterations.spec import Iterations
from penchant.models.spec import Policy
from penchant.recipe_file import from_toml, to_toml

Say = Callable[[str], None]
FILE = "iterations.toml"
# What may change when iterations go on: nothing of what is already done depends on it.
_FREE = frozenset({"rounds", "stop_at", "out", "cache", "threads"})


@dataclass(frozen=True, kw_only=True)
class Iterated:
    """What came of all rounds.

    Attributes:
        spec: what was asked.
        rounds: those that are done.
        policy: after the last of them; the policy of the beginning if there is none.
        why: why it ended: "all rounds are done", or what the stop rule saw.
        stopped_by: the signal that stopped it; None if it ended by itself.
    """

    spec: Iterations
    rounds: tuple[Round, ...]
    policy: Policy
    why: str
    stopped_by: int | None = None

    def summary(self) -> str:
        """A line a round and why it ended."""
        where = f"policy: {self.policy.adapter or self.policy.path}"
        return "\n".join([*(r.line() for r in self.rounds), self.why, where])


def iterate(spec: Iterations, *, resume: bool = False, say: Say = print) -> Iterated:
    """Runs the rounds of `spec`, or whatever of them is not done.

    Args:
        spec: the iterations.
        resume: go on in a folder that holds rounds already; `rounds`, `stop_at` and `threads` may then differ.
        say: where progress goes.

    Raises:
        PenchantError: bad recipe, feedback or model; the folder holds rounds and `resume` was not asked, or rounds of
            another recipe.
    """
    from penchant.train.guards import locked

    with locked(spec.folder):
        _prepare(spec, resume)
        return _rounds(spec, say)


def _prepare(spec: Iterations, resume: bool) -> None:
    path = spec.folder / FILE
    if path.exists():
        if not resume:
            raise RecipeError(
                "holds rounds already.", file=spec.folder, field="out", remedy="add --resume, or name another folder."
            )
        before = from_toml(path, Iterations)
        names = [f.name for f in fields(Iterations) if f.name not in _FREE]
        if changed := [name for name in names if getattr(before, name) != getattr(spec, name)]:
            raise RecipeError(
                f"holds rounds of another {changed[0]}.",
                file=path,
                field=changed[0],
                remedy="resume with the recipe that is there, or name another folder.",
            )
    partial = path.with_name(f".{FILE}.partial")
    partial.write_text(to_toml(spec))
    partial.rename(path)


def _rounds(spec: Iterations, say: Say) -> Iterated:
    done: list[Round] = []
    policy, why = spec.policy, "all rounds are done"
    for number in range(spec.rounds):
        folder = spec.folder / f"round-{number:03d}"
        folder.mkdir(exist_ok=True)
        found = finished(folder) or take(spec, number, policy, folder, say)
        if isinstance(found, int):
            say(f"stopped in round {number}; go on with: penchant iterate {spec.folder} --resume")
            return Iterated(spec=spec, rounds=tuple(done), policy=policy, why="stopped", stopped_by=found)
        policy = after(policy, found.model)
        done.append(found)
        if spec.stop_at is not None and found.wins is not None and found.wins[1] <= spec.stop_at:
            why = f"stopped: round {number} is not shown to win more than {100 * spec.stop_at:g} % against its start"
            break
    result = Iterated(spec=spec, rounds=tuple(done), policy=policy, why=why)
    _record(result, spec.folder / "iterations.json")
    say(result.summary())
    return result


def _record(result: Iterated, path: Path) -> None:
    record = {"why": result.why, "policy": asdict(result.policy), "rounds": [asdict(r) for r in result.rounds]}
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(record, indent=1))
    partial.rename(path)
