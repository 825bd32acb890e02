"""`listen`: several finished runs on music, sampled at the same prompts and seeds, and the page to listen to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penchant.errors import RecipeError
from penchant.evaluate import read_metrics
from penchant.evaluate.compare import choose, eye_of, moved, requests, scored
from penchant.evaluate.listening import Contestant, Showing, listening_data
from penchant.evaluate.prompts import read_prompts
from penchant.evaluate.report import write_page
from penchant.evaluate.sheet import Sheet
from penchant.evaluate.words import WORDS
from penchant.feedback.groups import Prompt
from penchant.models.spec import Policy
from penchant.recipe import Evaluation, Recipe, Rollouts
from penchant.recipe_file import from_toml, to_toml

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Listening:
    """What to listen to; None takes the first run's own.

    Attributes:
        base: what the policies are compared with: a model's folder or `zoo:NAME`. None is where the first run began.
        prompts: a file of prompts, or `zoo:NAME`.
        count: how many prompts.
        seeds: samples a prompt.
        exhibits: prompts with players.
        seconds: of a piece that are played.
        tie_margin: score differences up to this are ties.
    """

    base: str | None = None
    prompts: str | None = None
    count: int | None = None
    seeds: int | None = None
    exhibits: int = 4
    seconds: float | None = None
    tie_margin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A finished run under the name that it has on the page."""

    name: str
    recipe: Recipe
    folder: Path

    @property
    def evaluation(self) -> Evaluation:
        assert self.recipe.evaluation is not None
        return self.recipe.evaluation

    @property
    def aligned(self) -> Policy:
        """The model that the run saved."""
        policy, saved = self.recipe.policy, str(self.folder / "model")
        adapter = bool(policy.lora) or policy.adapter is not None
        return replace(policy, lora=0, adapter=saved) if adapter else replace(policy, path=saved)

    @property
    def trained_against(self) -> frozenset[str]:
        """The judges that its training saw: those that its recipe names, and those that rewarded its samples."""
        feedback = self.recipe.feedback
        rewards = (reward.judge for reward in feedback.rewards) if isinstance(feedback, Rollouts) else ()
        return frozenset([*self.evaluation.trained_against, *rewards])

    def asked(self) -> list[Prompt]:
        """The prompts that it trained on."""
        from penchant.sources import source_of

        return source_of(self.recipe, self.folder, lambda line: None).asked()


def listen(runs: Sequence[str | Path], out: str | Path, listening: Listening = Listening(), say: Say = print) -> Path:
    """Samples the base and every run's policy at the same prompts and seeds and writes the page.

    Samples are kept in the first run's cache, so only what is missing is drawn. Prompts that a run trained on are left
    out, unless all are.

    Args:
        runs: folders of finished runs (recipe.toml, metrics.jsonl, model), in the order of the page.
        out: the page, an HTML file.
        listening: what to listen to.
        say: where progress goes.

    Returns:
        the path of the page.

    Raises:
        RecipeError: a run is not finished, names no judge, or its samples are no music; there is no prompt.
    """
    entries = _entries([Path(run) for run in runs])
    first = entries[0]
    spec = _evaluation(first.evaluation, listening)
    prompts, captions = _prompts(entries, spec)
    judges = _judges(entries)
    cache = Path(first.recipe.cache or first.folder.parent / "cache")
    began = replace(first.recipe.policy, lora=0)
    if listening.base is not None:
        began = replace(began, path=listening.base, adapter=None)

    def sheet(model: Any) -> Sheet:
        samples, modality = _draw(model, prompts, spec, cache, say)
        drawn = Sheet(captions=captions, prompts=prompts, seeds=spec.seeds, samples=tuple(samples), modality=modality)
        return scored(drawn, {address: (judge, "held out") for address, judge in judges.items()})

    base = sheet(_load(began))
    contestants = [_contestant(entry, base, sheet, began, judges) for entry in entries]
    data = listening_data(
        base,
        contestants,
        judges,
        title=f"penchant: {', '.join(entry.name for entry in entries)}",
        showing=Showing(exhibits=listening.exhibits, seconds=listening.seconds, tie_margin=listening.tie_margin),
        facts=[("base", _where(began)), *((e.name, f"from {_where(e.recipe.policy)}") for e in entries)],
        rerun=[f"penchant listen {' '.join(str(e.folder) for e in entries)} --out {out}"],
    )
    path = write_page(out, data)
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return path


def _entries(folders: Sequence[Path]) -> list[_Entry]:
    if not folders:
        raise RecipeError("no run is named.", field="runs", remedy="penchant listen RUN [RUN ...].")
    recipes = [_recipe(folder) for folder in folders]
    own = [recipe.name for recipe in recipes]
    # Two runs of one recipe are told apart by their folders.
    names = [folder.name if own.count(name) > 1 else name for name, folder in zip(own, folders, strict=True)]
    if len(set(names)) < len(names):
        raise RecipeError(f"the runs are called {', '.join(names)}.", field="runs", remedy="name each run once.")
    return [_Entry(name=n, recipe=r, folder=f) for n, r, f in zip(names, recipes, folders, strict=True)]


def _recipe(folder: Path) -> Recipe:
    if not (folder / "outcome.json").exists() or not (folder / "model").exists():
        raise RecipeError("is no finished run.", file=folder, remedy=f"penchant align {folder}/recipe.toml --resume")
    recipe: Recipe = from_toml(folder / "recipe.toml")
    if recipe.evaluation is None:
        raise RecipeError("has no evaluation.", file=folder, field="evaluation", remedy="add one to its recipe.toml.")
    return recipe


def _evaluation(spec: Evaluation, listening: Listening) -> Evaluation:
    chosen = {name: getattr(listening, name) for name in ("prompts", "count", "seeds")}
    return replace(spec, **{name: value for name, value in chosen.items() if value is not None})


def _prompts(entries: Sequence[_Entry], spec: Evaluation) -> tuple[tuple[Prompt, ...], Any]:
    trained = {prompt.text: prompt for entry in entries for prompt in entry.asked()}
    given = {prompt.text: prompt for prompt in read_prompts(spec.prompts)}
    fresh = [text for text in given if text not in trained]
    kind, table = ("held-out", given) if fresh else ("seen", given or trained)
    chosen = choose(fresh or list(table), spec.count)
    if not chosen:
        raise RecipeError("there is no prompt.", field="prompts", remedy="add --prompts FILE.")
    return tuple(table[text] for text in chosen), kind


def _judges(entries: Sequence[_Entry]) -> dict[str, Any]:
    """Every judge of any run; those that no run trained against first."""
    from penchant.judges import load

    named: Iterable[str] = (address for entry in entries for address in entry.evaluation.judges)
    trained = {address: None for entry in entries for address in sorted(entry.trained_against)}
    addresses = dict.fromkeys(address for address in named if address not in trained) | trained
    if not addresses:
        raise RecipeError("nobody judges.", field="evaluation.judges", remedy="name a judge in the recipe of a run.")
    return {address: load(address) for address in addresses}


def _contestant(
    entry: _Entry, base: Sheet, sheet: Callable[[Any], Sheet], began: Policy, judges: dict[str, Any]
) -> Contestant:
    model = _load(entry.aligned)
    drawn, metrics = sheet(model), entry.folder / "metrics.jsonl"
    eye = eye_of({address: (judge, "held out") for address, judge in judges.items()})
    return Contestant(
        name=entry.name,
        sheet=drawn,
        trained_against=entry.trained_against,
        drift=moved(drawn, base, eye, model=model, spec=began),
        curves=read_metrics(metrics) if metrics.exists() else {},
        recipe_toml=to_toml(entry.recipe),
    )


def _draw(model: Any, prompts: Sequence[Prompt], spec: Evaluation, cache: Path, say: Say) -> tuple[list[Any], Any]:
    from penchant.sampling.samplers import sampler_of
    from penchant.sampling.samples import SampleCache

    sampler = sampler_of(model, spec)
    _, seeds = requests([prompt.text for prompt in prompts], spec.seeds)
    say(f"sampling {len(seeds)} {WORDS[sampler.modality].samples} of {len(prompts)} prompts")
    rows = [prompt for prompt in prompts for _ in range(spec.seeds)]
    return SampleCache(cache / "samples").sample(sampler, rows, seeds), sampler.modality


def _load(policy: Policy) -> Any:
    import torch

    from penchant.models import load

    model = load(policy)
    return model.to("cuda") if torch.cuda.is_available() else model


def _where(policy: Policy) -> str:
    return policy.path if policy.adapter is None else f"{policy.path} with {policy.adapter}"
