"""`synthesize`, `score` and `rank`: prompts or groups in, a store of ranked groups out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from penchant.errors import FeedbackError, RecipeError
from penchant.feedback.groups import Group
from penchant.synthesis import dataset
from penchant.synthesis.driver import Driver, Lane, Tally
from penchant.synthesis.executors import Executor
from penchant.synthesis.ledger import Failed, Ledger
from penchant.synthesis.progress import Progress, account, troubles
from penchant.synthesis.rewards import Reward
from penchant.synthesis.spec import Synthesis, Work
from penchant.synthesis.stages import Row, Stage
from penchant.synthesis.votes import Aggregation

Say = Callable[[str], None]
LEDGER, DATA = "ledger.sqlite", "data"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A data set that was made: where it lies, what it holds, and what it took.

    `fingerprint` is equal for equal data sets, whoever made them in however many goes.
    """

    data: Path
    groups: int
    fingerprint: str
    tally: Tally
    failures: tuple[Failed, ...]
    left_out: dict[str, list[str]]

    def summary(self) -> str:
        """Some lines for people."""
        lines = [*account(self.tally), *troubles(self.failures)]
        lines += [f"left out: {len(what)} x {why}, e.g. {what[0]}" for why, what in self.left_out.items()]
        return "\n".join([*lines, f"{self.groups} groups, fingerprint {self.fingerprint[:16]}: {self.data}"])


def synthesize(recipe: Synthesis, *, say: Say = print, executor: Executor | None = None) -> Made:
    """Makes a recipe's data set, or whatever of it is not made yet.

    Every unit is done once: run again after a kill, after a failure, or with one more reward or generator, only what is
    missing is computed, and the data set is replaced in one moment.

    Args:
        recipe: what to make.
        say: where progress goes.
        executor: where batches run, instead of what `recipe.work` says; it is left open.

    Raises:
        RecipeError: no generator or prompt, or the folder is held by another run.
    """
    # Workers import this module too, and not all of them need torch.
    from penchant.recipe_file import to_toml

    if not recipe.generators:
        raise RecipeError("nobody draws.", field="generators", remedy="name one or more generators.")
    prompts = read_prompts(recipe.prompts, recipe.limit)
    folder = Path(recipe.out or f"runs/{recipe.name}")
    planned: dict[str, list[tuple[Stage, Row]]] = {prompt: [] for prompt in prompts}
    lanes = []
    for stage in recipe.generators:
        for index in range(recipe.seeds):
            rows = [Row(prompt=p, seed=_seed(recipe.seed, index, stage.name, p)) for p in prompts]
            for row in rows:
                planned[row.prompt].append((stage, row))
            lanes += [Lane(generator=stage, rows=some) for some in _batches(rows, stage.batch_size)]
    per_stage = len(prompts) * recipe.seeds
    total = {g.name: per_stage for g in recipe.generators}
    total |= {r.name: per_stage * len(recipe.generators) for r in recipe.rewards}

    def groups(ledger: Ledger, left: dataset.Left) -> list[Group]:
        found = dataset.drawn(planned, ledger, folder / DATA, left)
        return [replace(g, licence=recipe.licence, provenance={"synthesis": recipe.name}) for g in found]

    return _make(folder, lanes, total, recipe, groups, say, executor, written=to_toml(recipe))


def score(
    groups: Sequence[Group],
    rewards: Sequence[Reward],
    folder: Path,
    *,
    aggregation: Aggregation = "strict-votes",
    work: Work | None = None,
    say: Say = print,
    executor: Executor | None = None,
) -> Made:
    """Lets rewards score the samples of groups that are there, and ranks them by the votes of these rewards.

    Args:
        groups: any preference data.
        rewards: who votes.
        folder: where ledger and data set go; run again with one more reward, only its scores are computed.
        aggregation: how votes become one score.
        work: where batches run.
        say: where progress goes.
        executor: where batches run, instead of what `work` says; it is left open.

    Raises:
        RecipeError: the folder is held by another run.
    """
    from penchant.feedback.objects import write_media

    (folder / DATA).mkdir(parents=True, exist_ok=True)
    rows = [Row(prompt=g.prompt, candidate=c) for g in groups for c in g.candidates]
    for row in rows:
        if row.candidate is not None and row.candidate.media is not None:
            write_media(folder / DATA, row.candidate.media)
    size = min(reward.batch_size for reward in rewards)
    lanes = [Lane(generator=None, rows=some) for some in _batches(rows, size)]
    recipe = Synthesis(
        name="score",
        prompts="feedback",
        generators=(),
        rewards=tuple(rewards),
        aggregation=aggregation,
        work=work or Work(),
    )
    total = {reward.name: len(rows) for reward in rewards}
    return _make(folder, lanes, total, recipe, lambda ledger, left: list(groups), say, executor)


def rank(groups: Sequence[Group], aggregation: Aggregation = "strict-votes") -> tuple[list[Group], dict[str, Any]]:
    """Groups ranked anew by the votes of the rewards whose scores they carry, and what was left out.

    Raises:
        FeedbackError: no group carries a reward's scores.
    """
    left, names = dataset.Left(), dataset.voters(groups)
    if not names:
        raise FeedbackError(
            "no group carries a reward's scores.", field="judgements", remedy="penchant score DATA --judges NAME first."
        )
    return dataset.ranked(groups, aggregation, names, left), left.reasons


def _make(
    folder: Path,
    lanes: Sequence[Lane],
    total: dict[str, int],
    recipe: Synthesis,
    groups: Callable[[Ledger, dataset.Left], list[Group]],
    say: Say,
    executor: Executor | None,
    *,
    written: str | None = None,
) -> Made:
    """One pass and its data set; `written` is the recipe that is kept beside it."""
    from penchant.feedback.store import replace_groups
    from penchant.train.guards import locked

    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if written is not None:
            (folder / "synthesis.toml").write_text(written)
        ledger, left = Ledger(folder / LEDGER), dataset.Left()
        with closing(ledger):
            tally = _pass(lanes, total, recipe, ledger, folder / DATA, say, executor)
            names = [reward.name for reward in recipe.rewards]
            scored = dataset.scored(groups(ledger, left), recipe.rewards, ledger, left)
            found = dataset.ranked(scored, recipe.aggregation, names, left)
            wanted = set(total)
            failures = tuple(f for f in ledger.failures() if f.stage in wanted)
        replace_groups(found, folder / DATA)
        made = Made(
            data=folder / DATA,
            groups=len(found),
            fingerprint=dataset.fingerprint(found),
            tally=tally,
            failures=failures,
            left_out=left.reasons,
        )
        (folder / "made.json").write_text(_account(made))
    say(made.summary())
    return made


def _pass(
    lanes: Sequence[Lane],
    total: dict[str, int],
    recipe: Synthesis,
    ledger: Ledger,
    data: Path,
    say: Say,
    executor: Executor | None,
) -> Tally:
    data.mkdir(parents=True, exist_ok=True)
    chosen = executor or _executor(recipe.work, data)
    try:
        expected = {stage.name: stage.seconds for stage in (*recipe.generators, *recipe.rewards)}
        progress = Progress(total, expected, say)
        driver = Driver(lanes, recipe.rewards, ledger, chosen, data, attempts=recipe.work.attempts, tell=progress)
        return driver.run()
    finally:
        if executor is None:
            chosen.close()


def _executor(work: Work, data: Path) -> Executor:
    if work.executor == "ray":
        from penchant.synthesis.ray_executor import RayExecutor

        return RayExecutor(data, workers=work.workers, threads=work.threads, gpus=work.gpus, address=work.address)
    from penchant.synthesis.local import LocalExecutor

    return LocalExecutor(data, workers=work.workers, threads=work.threads, gpus=int(work.gpus))


def read_prompts(address: str, limit: int | None = None) -> list[str]:
    """Distinct prompts of a text file (one a line), of `zoo:NAME`, or of preference data, in their order.

    Raises:
        RecipeError: the file cannot be read, or holds none.
    """
    from penchant.assets import resolve
    from penchant.feedback import read

    path = Path(resolve(address))
    try:
        text = path.suffix == ".txt"
        found: Iterable[str] = path.read_text().splitlines() if text else (g.prompt for g in read(path))
        prompts = list(dict.fromkeys(line.strip() for line in found if line.strip()))[:limit]
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"cannot be read ({error}).", file=path, field="prompts", remedy="one prompt a line, UTF-8, in a .txt file."
        ) from error
    if not prompts:
        raise RecipeError("holds no prompt.", file=path, field="prompts", remedy="one prompt a line.")
    return prompts


def _seed(seed: int, index: int, name: str, prompt: str) -> int:
    from penchant.likelihoods.randomness import generator

    return int(generator(seed, index, prompt, f"sample of {name}").integers(2**31))


def _batches(rows: Sequence[Row], size: int) -> list[tuple[Row, ...]]:
    return [tuple(rows[start : start + size]) for start in range(0, len(rows), size)]


def _account(made: Made) -> str:
    tally = {k: dict(v) if isinstance(v, Counter) else v for k, v in vars(made.tally).items()}
    record = {
        "groups": made.groups,
        "fingerprint": made.fingerprint,
        "tally": tally,
        "failures": [asdict(f) for f in made.failures],
        "left_out": {reason: len(what) for reason, what in made.left_out.items()},
    }
    return json.dumps(record, indent=1)
