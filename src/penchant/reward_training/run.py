"""`train_reward`: a recipe from annotated pairs to a folder that `penchant.judges.load` loads, and what it is worth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from penchant.errors import RecipeError
from penchant.recipe_file import to_toml
from penchant.reward_models.folders import Normalisation
from penchant.reward_models.network import RewardNetwork
from penchant.reward_training.assessment import Agreement, ScoredPairs, agreements, score_pairs, table, write
from penchant.reward_training.data import TRAIN, VALIDATION, AnnotatedPair, Library, annotated, splits
from penchant.reward_training.spec import RewardRecipe
from penchant.reward_training.training import Lessons, PairScorer, Pupil
from penchant.train.loop import Loop, Outcome

Say = Callable[[str], None]

FILE = "reward.toml"


@dataclass(frozen=True, kw_only=True)
class RewardRun:
    """A finished (or stopped) training; `agreement` is empty when it was stopped."""

    recipe: RewardRecipe
    folder: Path
    outcome: Outcome
    agreement: tuple[Agreement, ...] = ()

    @property
    def model_path(self) -> Path:
        """What `penchant.judges.load` takes."""
        return self.folder / "model"


def train_reward(recipe: RewardRecipe, *, resume: bool = False, say: Say = print) -> RewardRun:
    """Trains, normalises, saves and assesses a reward model.

    Args:
        recipe: the run.
        resume: continue from the newest checkpoint of the recipe's folder, exactly.
        say: where progress goes.

    Raises:
        PenchantError: bad feedback, recipe, model or checkpoint; the message names place and remedy.
    """
    from penchant.train.guards import locked

    folder = recipe.folder()
    with locked(folder):
        if resume and (folder / "outcome.json").exists():
            return _finished(recipe, folder, say)
        _prepare(recipe, folder, resume)
        return _train(recipe, folder, resume, say)


def _prepare(recipe: RewardRecipe, folder: Path, resume: bool) -> None:
    if not resume and (folder / "checkpoints").exists() and not (folder / "outcome.json").exists():
        raise RecipeError(
            "holds an unfinished run.", file=folder, field="out", remedy="add --resume, or name another folder."
        )
    if not resume:
        # The outcome goes last: while it is there the folder holds a finished run.
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        for name in ("metrics.jsonl", "agreement.json", "agreement.md", "outcome.json"):
            (folder / name).unlink(missing_ok=True)
    (folder / FILE).write_text(to_toml(recipe))


def _finished(recipe: RewardRecipe, folder: Path, say: Say) -> RewardRun:
    say(f"{folder} holds a finished run; to train anew, leave --resume out or name another folder")
    rows = tuple(Agreement(**row) for row in json.loads((folder / "agreement.json").read_text()))
    outcome = Outcome(**json.loads((folder / "outcome.json").read_text()))
    return RewardRun(recipe=recipe, folder=folder, outcome=outcome, agreement=rows)


def pairs_of(recipe: RewardRecipe, say: Say) -> dict[str, list[AnnotatedPair]]:
    """The annotated pairs of a recipe by split; a split that nothing trains on ("test") is among them."""
    from penchant.assets import resolve
    from penchant.feedback import read

    spec = recipe.feedback
    feedback = read(resolve(spec.path), layout=spec.layout, limit=spec.limit, max_bad=spec.max_bad)
    assert feedback.report is not None
    say(feedback.report.summary())
    pairs, without = annotated(
        feedback, recipe.names, reads=recipe.loss.reads, source=spec.source, takes=recipe.backbone.reads
    )
    found = splits(pairs, share=spec.validation, seed=recipe.seed)
    say(", ".join(f"{len(rows)} pairs for {name}" for name, rows in found.items()) + f"; {without} not judged")
    return found


def _train(recipe: RewardRecipe, folder: Path, resume: bool, say: Say) -> RewardRun:
    import torch
    from accelerate import Accelerator

    from penchant.reward_models.folders import RewardModelFolder, built, save
    from penchant.train.guards import StopRequest

    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    accelerator = Accelerator(mixed_precision=recipe.train.precision)
    quiet: Say = say if accelerator.is_main_process else _silent
    found = pairs_of(recipe, quiet)
    torch.manual_seed(recipe.seed)
    prompts = [pair.prompt for pair in found[TRAIN]]
    network = built(recipe.backbone, recipe.dimensions, recipe.pooling, prompts=prompts)
    cache = Path(recipe.cache or folder.parent / "cache")
    library = Library(network.backbone, cache=cache / "encodings.sqlite")
    pupil, lessons = Pupil(network), Lessons(recipe, found[TRAIN])
    scorer = PairScorer(recipe=recipe, pupil=pupil, lessons=lessons, library=library, accelerator=accelerator)
    loop = Loop(recipe, pupil, scorer, lessons, folder, accelerator)
    quiet(f"{sum(p.numel() for p in loop.parameters):,} weights train")
    if resume and not loop.resume(quiet):
        quiet("no checkpoint yet: starting from the beginning")
    with StopRequest().listening() as stop:
        outcome = loop.run(stop, quiet)
    run = RewardRun(recipe=recipe, folder=folder, outcome=outcome)
    if outcome.stopped_by is not None:
        quiet(f"stopped at step {outcome.step}; go on with: penchant train-reward {folder / FILE} --resume")
        return run
    if loop.ema is not None:
        loop.ema.apply()
    if not accelerator.is_main_process:
        return run
    network.eval()
    scored = {name: score_pairs(network, rows, library) for name, rows in found.items()}
    about = RewardModelFolder(
        dimensions=recipe.dimensions,
        pooling=recipe.pooling,
        backbone=recipe.backbone,
        normalisation=_normalisation(recipe, network, scored[VALIDATION]),
    )
    save(folder / "model", network, about)
    rows = agreements(scored, recipe.names)
    write(rows, folder)
    (folder / "outcome.json").write_text(json.dumps(asdict(outcome), indent=1))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    quiet(f"{table(rows)}\nmodel: {folder / 'model'}")
    return replace(run, agreement=tuple(rows))


def _normalisation(recipe: RewardRecipe, network: RewardNetwork, validation: ScoredPairs) -> Normalisation:
    if recipe.units == "deviation":
        return Normalisation.of(validation.samples())
    shift, scale = network.backbone.natural(network.head)
    return Normalisation(mean=tuple(value - recipe.loss.zero for value in shift), std=tuple(scale))


def _silent(text: str) -> None:
    """Processes other than the first say nothing."""
