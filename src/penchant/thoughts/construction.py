"""Problems to feedback: the policy thinks, its traces are made better, and each pair of the two is stored.

    make(problems, rollouts, ...)     with a generator and a verifier of your own
    construct(construction)           a frozen object with everything by name: load, think, optimise, write

Every completion is cached by the policy's weights, prompt, seed and decoding, so a construction that was killed goes
on, and another method on the same traces pays only for what is new.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from penchant.errors import FeedbackError
from penchant.feedback.groups import Group, Prompt
from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.thoughts.budget import saving
from penchant.thoughts.optimisation import Method, Optimised, optimise
from penchant.thoughts.pairs import ALL_WRONG, optimised_pairs
from penchant.thoughts.rollouts import Rollouts
from penchant.thoughts.segmentation import Count
from penchant.thoughts.traces import ThoughtFormat, Trace

Say = Callable[[str], None]
CACHE, DATA = "completions.sqlite", "data"


@dataclass(frozen=True, kw_only=True)
class Construction:
    """Feedback to be made of thoughts, as one frozen object.

    Attributes:
        name: name of the data set.
        policy: who thinks, and is to be trained.
        problems: JSON lines of `prompt`, its `answer` (or reasoning-gym `entry`) and, for a chat, its `messages`.
        verifier: says what is right.
        marker: what an answer follows, for the verifiers that know it.
        format: how traces are written.
        method: how they are made better.
        each: traces a problem. 8 is ours.
        decoding: how traces are drawn. Length and sampling are ours, the sampling as the R1 models' cards advise.
        limit: only so many problems.
        seed: key of every draw.
        licence: what the data set says of itself.
        out: folder; None means `runs/NAME`.
    """

    cite: ClassVar[tuple[str, ...]] = ("an2025dto",)

    name: str
    policy: Policy
    problems: str
    format: ThoughtFormat
    verifier: Literal["exact-match", "math-verify", "reasoning-gym"] = "exact-match"
    marker: str | None = None
    method: Method = field(default_factory=Method)
    each: int = 8
    decoding: Decoding = field(default_factory=lambda: Decoding(max_tokens=16_384, temperature=0.6, top_p=0.95))
    limit: int | None = None
    seed: int = 0
    licence: str | None = None
    out: str | None = None


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of every trace: `traces` = `pairs` + the sum of `refused`; `lines` for people."""

    problems: int
    traces: int
    right: int
    pairs: int
    refused: Mapping[str, int]
    tokens: tuple[float, float]
    exits: str

    def summary(self) -> str:
        """A few lines."""
        share = self.right / max(self.traces, 1)
        lines = [f"{self.problems} problems, {self.traces} traces, {share:.1%} right; {self.pairs} pairs"]
        lines += [f"  refused {count} x {reason}" for reason, count in self.refused.items()]
        lines.append(f"  mean tokens: chosen {self.tokens[0]:.1f}, rejected {self.tokens[1]:.1f}")
        return "\n".join([*lines, f"  exits: {self.exits}"])


@dataclass(frozen=True, kw_only=True)
class Made:
    """The pairs, what each trace of each problem became, and the account."""

    groups: tuple[Group, ...]
    results: tuple[tuple[Optimised | str, ...], ...]
    account: Account


def make(
    traces: Sequence[Sequence[Trace]], rollouts: Rollouts, method: Method, *, settings: Mapping[str, Any] | None = None
) -> Made:
    """Pairs of traces and their better versions.

    Problems of which every trace is wrong are left out: nothing of them was verified to be right.

    Args:
        traces: for every problem the policy's traces (`Rollouts.traces`).
        rollouts: the policy, its verifier and format.
        method: how a trace is made better.
        settings: recorded with every chosen candidate.
    """
    keep = [i for i, some in enumerate(traces) if any(trace.right for trace in some)]
    found = iter(optimise(rollouts, [trace for i in keep for trace in traces[i]], method))
    kept = set(keep)
    results = tuple(tuple(next(found) if i in kept else ALL_WRONG for _ in some) for i, some in enumerate(traces))
    how = {"made": "optimised", **(settings or {})}
    groups, refused = optimised_pairs(results, verifier=rollouts.verifier.name, settings=how)
    return Made(
        groups=tuple(groups), results=results, account=_account(traces, rollouts, results, groups, refused, method)
    )


def construct(recipe: Construction, *, say: Say = print) -> Made:
    """Makes a recipe's feedback into the store `OUT/data`; run again after a kill, it asks for what is missing alone.

    Raises:
        FeedbackError: the problems cannot be read.
        ModelError: the policy or a package of the verifier is missing.
    """
    from penchant.feedback.store import replace_groups
    from penchant.models.loading import load_policy
    from penchant.recipe_file import to_toml
    from penchant.thoughts.cache import CachedGenerator
    from penchant.train.guards import locked

    folder = Path(recipe.out or f"runs/{recipe.name}")
    with locked(folder):
        (folder / "construction.toml").write_text(to_toml(recipe))
        problems = read_problems(recipe.problems, recipe.limit)
        model: Any = load_policy(recipe.policy)
        generator = CachedGenerator(model, folder / CACHE, name=model.fingerprint())
        verifier = _verifier(recipe)
        rollouts = Rollouts(
            generator=generator, verifier=verifier, format=recipe.format, count=counter(model), seed=recipe.seed
        )
        try:
            traces = rollouts.traces(problems, each=recipe.each, decoding=recipe.decoding)
            say(f"{sum(map(len, traces))} traces of {len(problems)} problems are there")
            made = make(traces, rollouts, recipe.method, settings={"method": recipe.name})
        finally:
            verifier.close()
            generator.close()
        say(made.account.summary())
        replace_groups(_stamped(made.groups, recipe), folder / DATA)
        (folder / "account.json").write_text(json.dumps(asdict(made.account), indent=1) + "\n")
    return made


def read_problems(address: str, limit: int | None = None) -> list[Prompt]:
    """The problems of a JSON-lines file or `zoo:NAME`.

    Raises:
        FeedbackError: a line has no prompt.
    """
    from penchant.assets import resolve

    path, found = Path(resolve(address)), []
    try:
        lines = path.read_text().splitlines()[:limit]
    except (OSError, UnicodeDecodeError) as error:
        raise FeedbackError(f"cannot be read: {error}", file=path, remedy="give JSON lines of problems.") from error
    for row, line in enumerate(lines):
        try:
            cells = json.loads(line)
            found.append(Prompt(text=str(cells["prompt"]), messages=tuple(cells.get("messages", ()))))
        except (ValueError, KeyError, TypeError) as error:
            raise FeedbackError(
                "is no problem.", file=path, row=row, field="prompt", remedy="give one a line."
            ) from error
    return found


def counter(model: Any) -> Count:
    """Counts tokens as the model's own tokenizer does, without the marks that begin and end a text."""
    from functools import cache

    tokenizer = model.tokenizer

    @cache
    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count


def _verifier(recipe: Construction) -> Any:
    from penchant.assets import resolve
    from penchant.judges import verifiers

    path = resolve(recipe.problems)
    if recipe.verifier == "math-verify":
        return verifiers.MathVerify(path)
    kind = verifiers.ExactMatch if recipe.verifier == "exact-match" else verifiers.ReasoningGym
    return kind(path, marker=recipe.marker)


def _stamped(groups: Iterable[Group], recipe: Construction) -> Iterable[Group]:
    from dataclasses import replace

    return (replace(group, licence=recipe.licence, provenance={"construction": recipe.name}) for group in groups)


def _account(
    traces: Sequence[Sequence[Trace]],
    rollouts: Rollouts,
    results: Sequence[Sequence[Optimised | str]],
    groups: Sequence[Group],
    refused: Mapping[str, int],
    method: Method,
) -> Account:
    everything = [trace for some in traces for trace in some]
    better = [result for some in results for result in some if isinstance(result, Optimised)]
    count = max(len(better), 1)
    return Account(
        problems=len(traces),
        traces=len(everything),
        right=sum(trace.right for trace in everything),
        pairs=len(groups),
        refused=dict(Counter(refused)),
        tokens=(sum(r.tokens for r in better) / count, sum(r.trace.tokens for r in better) / count),
        exits=str(saving(rollouts.spent, samples=method.exits.samples)),
    )
