"""`align`: a recipe from feedback to evidence. The order of the house in one screen; the rooms do the work."""

from __future__ import annotations

import datetime
import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penchant.errors import RecipeError
from penchant.recipe import Recipe
from penchant.recipe_file import to_toml

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished (or stopped) run: its folder holds the recipe, metrics, checkpoints, model and report."""

    recipe: Recipe
    folder: Path
    outcome: Any
    report_path: Path | None

    @property
    def model_path(self) -> Path:
        """The aligned model: an ordinary folder of diffusers or transformers, or a LoRA folder."""
        return self.folder / "model"

    def report(self) -> Path:
        """The report's path.

        Raises:
            RecipeError: the recipe had no evaluation, or the run was stopped before it.
        """
        if self.report_path is None:
            raise RecipeError("there is no report.", file=self.folder, field="evaluation", remedy="resume the run.")
        return self.report_path


def align(recipe: Recipe, *, resume: bool = False, say: Say = print) -> Run:
    """Aligns the recipe's policy with its feedback, saves it, and finds out whether it is better.

    Args:
        recipe: the run.
        resume: continue from the newest checkpoint of the recipe's folder, exactly; of a finished run only the report
            is made, if it has none.
        say: where progress goes.

    Raises:
        PenchantError: bad feedback, recipe, model or checkpoint; the message names place and remedy.
    """
    from penchant.train.guards import locked

    folder = Path(recipe.out or f"runs/{datetime.date.today():%Y-%m-%d}-{recipe.name}")
    # Processes of one launch share the folder: the first one holds it for all.
    first = os.environ.get("RANK", "0") == "0"
    with locked(folder) if first else nullcontext():
        if resume and (folder / "outcome.json").exists():
            return _finished(recipe, folder, say)
        if first:
            _prepare_folder(recipe, folder, resume)
        return _align(recipe, folder, resume, say)


def _prepare_folder(recipe: Recipe, folder: Path, resume: bool) -> None:
    finished = (folder / "outcome.json").exists()
    if not resume and (folder / "checkpoints").exists() and not finished:
        raise RecipeError(
            "holds an unfinished run.", file=folder, field="out", remedy="add --resume, or name another folder."
        )
    if not resume:
        # The outcome goes last: while it is there the folder holds a finished run.
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        for name in ("metrics.jsonl", "report.html", "evaluation.json", "scores.json", "movement.json", "outcome.json"):
            (folder / name).unlink(missing_ok=True)
    _write(folder / "recipe.toml", to_toml(recipe) + "\n[versions]\n" + _versions())


def _write(path: Path, text: str) -> None:
    """The whole file or none of it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def _finished(recipe: Recipe, folder: Path, say: Say) -> Run:
    from penchant.train.loop import Outcome

    say(f"{folder} holds a finished run; to train anew, leave --resume out or name another folder")
    outcome = Outcome(**json.loads((folder / "outcome.json").read_text()))
    report = None
    if recipe.evaluation is not None:
        report = folder / "report.html"
        report = report if report.exists() else evaluate(recipe, folder, say)
    return Run(recipe=recipe, folder=folder, outcome=outcome, report_path=report)


def _versions() -> str:
    from importlib.metadata import version

    names = ("penchant", "torch", "diffusers", "transformers", "peft", "accelerate")
    return "".join(f'{name} = "{version(name)}"\n' for name in names)


def _align(recipe: Recipe, folder: Path, resume: bool, say: Say) -> Run:
    from penchant.judging import Judging
    from penchant.models import load
    from penchant.sources import source_of
    from penchant.train.guards import StopRequest
    from penchant.train.loop import Loop
    from penchant.train.scoring import Scorer

    watch = Watch()
    accelerator = _accelerator(recipe, folder)
    quiet: Say = say if accelerator.is_main_process else _silent
    source = source_of(recipe, folder, quiet)
    model = load(recipe.policy).to(accelerator.device)
    watch.lap("load")
    # Before a checkpoint or a step changes the policy.
    needs = recipe.objective.needs
    if needs.value:
        model.add_value()
    reference = recipe.reference.build(model) if needs.reference or needs.mismatched else None
    quiet(reference.describe() if reference is not None else "reference: none needed")
    cache = Path(recipe.cache or folder.parent / "cache")
    data = source.data(model, reference, cache, accelerator, quiet)
    for note in model.notes():
        quiet(note)
    accelerator.wait_for_everyone()
    watch.lap("encode")
    judging = Judging.of(recipe, source.asked(), cache) if recipe.evaluation and accelerator.is_main_process else None
    base = judging.sample(model, quiet) if judging else None
    watch.lap("sample the base")
    scorer = Scorer(recipe=recipe, model=model, reference=reference, accelerator=accelerator)
    loop = Loop(recipe, model, scorer, data, folder, accelerator)
    if resume and not loop.resume(quiet):
        quiet("no checkpoint yet: starting from the beginning")
    with StopRequest().listening() as stop:
        outcome = loop.run(stop, quiet)
    watch.lap("train")
    if outcome.stopped_by is not None:
        quiet(f"stopped at step {outcome.step}; go on with: penchant align {folder}/recipe.toml --resume")
        return Run(recipe=recipe, folder=folder, outcome=outcome, report_path=None)
    report = _finish(recipe, folder, loop, model, accelerator, judging, base, source.reading, watch, outcome, quiet)
    return Run(recipe=recipe, folder=folder, outcome=outcome, report_path=report)


def _finish(
    recipe: Recipe,
    folder: Path,
    loop: Any,
    model: Any,
    accelerator: Any,
    judging: Any,
    base: Any,
    reading: Any,
    watch: Watch,
    outcome: Any,
    say: Say,
) -> Path | None:
    if loop.ema is not None:
        loop.ema.apply()
    report = None
    model.module = accelerator.unwrap_model(model.module)
    if accelerator.is_main_process:
        model.save(folder / "model")
        _write(folder / "outcome.json", json.dumps(asdict(outcome), indent=1))
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        if judging is not None:
            policy = judging.sample(model, say)
            watch.lap("sample the policy")
            report = judging.report(base, policy, reading, watch, outcome, folder, say, model=model)
        say(f"model: {folder / 'model'}" + (f"\nreport: {report}" if report else ""))
    accelerator.end_training()
    return report


def evaluate(recipe: Recipe, folder: Path, say: Say = print) -> Path:
    """Judges the model saved in a run folder again; returns the report's path.

    Raises:
        RecipeError: the recipe has no evaluation, or the run did not finish.
    """
    from dataclasses import replace

    from penchant.judging import Judging
    from penchant.models import load
    from penchant.sources import source_of
    from penchant.train.loop import Outcome

    if recipe.evaluation is None or not (folder / "outcome.json").exists():
        raise RecipeError("has nothing to judge.", file=folder, field="evaluation", remedy="finish a run that has one.")
    watch = Watch()
    source = source_of(recipe, folder, say)
    judging = Judging.of(recipe, source.asked(), Path(recipe.cache or folder.parent / "cache"))
    base = judging.sample(load(recipe.policy), say)
    saved = str(folder / "model")
    adapter = bool(recipe.policy.lora) or recipe.policy.adapter is not None
    spec = replace(recipe.policy, lora=0, adapter=saved) if adapter else replace(recipe.policy, path=saved)
    aligned = load(spec)
    policy = judging.sample(aligned, say)
    watch.lap("sample both")
    outcome = Outcome(**json.loads((folder / "outcome.json").read_text()))
    return judging.report(base, policy, source.reading, watch, outcome, folder, say, model=aligned)


def _accelerator(recipe: Recipe, folder: Path) -> Any:
    import torch
    from accelerate import Accelerator

    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    accelerator = Accelerator(
        mixed_precision=recipe.train.precision,
        log_with=recipe.tracker,
        project_dir=str(folder) if recipe.tracker else None,
    )
    if recipe.tracker:
        accelerator.init_trackers("penchant")
    return accelerator


def _silent(text: str) -> None:
    """Processes other than the first say nothing."""


class Watch:
    """Wall seconds of each stage, CPU seconds and peak memory of the process."""

    def __init__(self) -> None:
        self.laps: list[tuple[str, float]] = []
        self._last = self._first = time.monotonic()
        self._cpu = time.process_time()

    def lap(self, name: str) -> None:
        """Ends a stage."""
        now = time.monotonic()
        self.laps.append((name, now - self._last))
        self._last = now

    def timing(self, pairs_per_second: float) -> Any:
        """What the run cost so far."""
        from penchant.evaluate import Timing

        return Timing(
            seconds=time.monotonic() - self._first,
            cpu_seconds=time.process_time() - self._cpu,
            peak_bytes=float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
            pairs_per_second=pairs_per_second,
            stages=tuple(self.laps),
        )
