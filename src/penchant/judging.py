"""The evaluation of a run: which prompts, which judges, and the report that they make."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penchant.bibliography import bibliography
from penchant.errors import RecipeError
from penchant.evaluate import (
    MeanGain,
    PolicyResult,
    Reading,
    ReadingReason,
    ReportData,
    find_alarms,
    read_metrics,
    winner_change,
    write_report,
)
from penchant.evaluate.compare import (
    choose,
    column_of,
    exhibited,
    eye_of,
    formed,
    judged,
    moved,
    requests,
    scored,
    spread,
)
from penchant.evaluate.evidence import Captions, Evidence, Role, sentence
from penchant.evaluate.prompts import read_prompts
from penchant.evaluate.sheet import Sheet
from penchant.evaluate.words import WORDS
from penchant.feedback.groups import Prompt
from penchant.recipe import Recipe
from penchant.recipe_file import to_toml

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Prompts and judges of one run; `seen` prompts are among the training prompts, `held_out` are not."""

    recipe: Recipe
    seen: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...]
    judges: dict[str, tuple[Any, Role]]
    cache: Path

    @classmethod
    def of(cls, recipe: Recipe, asked: Sequence[Prompt], cache: Path) -> Judging:
        """Chooses among the prompts `asked` in training and those held out, and loads judges.

        Raises:
            RecipeError: no judge is named, or the prompts' file is not readable.
        """
        from penchant.judges import load

        spec = recipe.evaluation
        assert spec is not None
        trained = {prompt.text: prompt for prompt in asked}
        given = {prompt.text: prompt for prompt in read_prompts(spec.prompts)}
        judges: dict[str, tuple[Any, Role]] = {}
        for address in spec.judges:
            judge = load(address)
            judges[address] = (judge, "verifier" if judge.verifies else "held out")
        judges |= {address: (load(address), "trained against") for address in spec.trained_against}
        if not judges:
            raise RecipeError("nobody judges.", field="evaluation.judges", remedy="name a judge, or drop evaluation.")
        return cls(
            recipe=recipe,
            seen=tuple(trained[text] for text in choose(list(trained), spec.count)),
            held_out=tuple(given[text] for text in choose([t for t in given if t not in trained], spec.count)),
            judges=judges,
            cache=cache,
        )

    @property
    def first(self) -> str:
        """The address of the judge that marks samples: the first held-out one."""
        return next(iter(self.judges))

    def sample(self, model: Any, say: Say) -> list[Sheet]:
        """A sheet of the model's samples for each kind of prompts that there is."""
        from penchant.sampling.samplers import sampler_of
        from penchant.sampling.samples import SampleCache

        spec, sheets = self.recipe.evaluation, []
        assert spec is not None
        cache, sampler = SampleCache(self.cache / "samples"), sampler_of(model, spec)
        kinds: tuple[tuple[Captions, tuple[Prompt, ...]], ...] = (("seen", self.seen), ("held-out", self.held_out))
        for kind, prompts in ((k, p) for k, p in kinds if p):
            _, seeds = requests([prompt.text for prompt in prompts], spec.seeds)
            say(f"sampling {len(seeds)} {WORDS[sampler.modality].samples} of {len(prompts)} {kind} prompts")
            samples = cache.sample(sampler, [p for p in prompts for _ in range(spec.seeds)], seeds)
            sheets.append(
                Sheet(
                    captions=kind,
                    prompts=prompts,
                    seeds=spec.seeds,
                    samples=tuple(samples),
                    modality=sampler.modality,
                )
            )
        return sheets

    def result(
        self, base: list[Sheet], policy: list[Sheet], folder: Path, timing: Any, model: Any = None
    ) -> PolicyResult:
        """Evidence, form, diversity, drift and alarms of the run in `folder`; `model` as in `report`."""
        name, eye = self.recipe.name, eye_of(self.judges)
        base, policy = ([scored(sheet, self.judges) for sheet in side] for side in (base, policy))
        evidence = [row for b, p in zip(base, policy, strict=True) for row in judged(name, p, b, self.judges)]
        after, before = spread(policy[-1], eye), spread(base[-1], eye)
        form, curves = formed(policy[-1], base[-1]), read_metrics(folder / "metrics.jsonl")
        return PolicyResult(
            name=name,
            evidence=tuple(evidence),
            alarms=find_alarms(
                evidence,
                diversity=(after, before) if after and before and before.value else None,
                winner=winner_change(curves),
                fidelity=self._fidelity(evidence),
                form=form,
                curves=curves,
            ),
            diversity=after,
            drift=moved(policy[-1], base[-1], eye, model=model, spec=self.recipe.policy),
            form=form,
            curves=curves,
            timing=timing,
            recipe_toml=to_toml(self.recipe),
        )

    def _fidelity(self, evidence: Sequence[Evidence]) -> dict[str, MeanGain]:
        """What held-out judges say of held-out prompts; beside a judge trained against, hacking says it already."""
        if any(role == "trained against" for _, role in self.judges.values()):
            return {}
        return {row.judge: row.gain for row in evidence if row.independent}

    def _scores(self, base: list[Sheet], policy: list[Sheet]) -> dict[str, Any]:
        """Every score [P][S] by captions, judge (and dimension) and side: what any other statistic can be made from."""
        return {
            b.captions: {
                column_of(judge, column)[0]: {
                    side: sheet.scores[address][:, column].reshape(b.shape).tolist()
                    for side, sheet in (("base", b), ("policy", p))
                }
                for address, (judge, _) in self.judges.items()
                for column in range(len(judge.dimensions))
            }
            for b, p in zip(base, policy, strict=True)
        }

    def report(
        self,
        base: list[Sheet],
        policy: list[Sheet],
        reading: Any,
        watch: Any,
        outcome: Any,
        folder: Path,
        say: Say,
        model: Any = None,
    ) -> Path:
        """Writes `evaluation.json`, `scores.json`, `movement.json` and `report.html` into `folder`; returns the latter.

        `model` is the policy: with it the KL divergence of texts from the base is measured.
        """
        base, policy = ([scored(sheet, self.judges) for sheet in side] for side in (base, policy))
        watch.lap("judge")
        result = self.result(base, policy, folder, watch.timing(outcome.pairs_per_second), model)
        rows = [row.record() for row in result.evidence]
        (folder / "evaluation.json").write_text(json.dumps(rows, indent=1))
        (folder / "scores.json").write_text(json.dumps(self._scores(base, policy)))
        spread_before = spread(base[-1], eye_of(self.judges))
        (folder / "movement.json").write_text(json.dumps(_movement(result, spread_before), indent=1))
        for row in rows:
            say(sentence(row))
        sample, marker = WORDS[base[-1].modality].sample, self.judges[self.first][0]
        prefers = marker.name if len(marker.dimensions) == 1 else f"the mean of {marker.name}'s dimensions"
        data = ReportData(
            title=f"penchant: {self.recipe.name}",
            base=self.recipe.policy.path,
            policies=(result,),
            base_diversity=spread_before,
            exhibits=tuple(
                pair
                for b, p in zip(base, policy, strict=True)
                for pair in exhibited(self.recipe.name, p, b, self.first, sheets=len(base))
            ),
            exhibits_note=f"Marked: the {sample} that {prefers} prefers. The first prompts, not the best ones.",
            reading=None if reading is None else _reading(*reading),
            rerun=(f"penchant align {folder / 'recipe.toml'}",),
            citations=tuple(bibliography(self.recipe)),
        )
        return write_report(folder, data)


def _movement(result: PolicyResult, base: Any) -> dict[str, Any]:
    """Drift from the base, diversity of both and outward form, of the last kind of prompts."""
    drift = None if result.drift is None else asdict(result.drift)
    form = None if result.form is None else asdict(result.form)
    sides = {"base": base, "policy": result.diversity}
    return {"drift": drift, "form": form, "diversity": {side: found and asdict(found) for side, found in sides.items()}}


def _reading(report: Any, selection: Any) -> Reading:
    reasons = [
        ReadingReason(fate="repaired", reason=reason, count=found.count, example=", ".join(found.examples[:3]))
        for reason, found in report.repaired.items()
    ]
    reasons += [
        ReadingReason(fate="refused", reason=reason, count=found.count, example=", ".join(found.examples[:3]))
        for reason, found in report.refused.items()
    ]
    reasons += [
        ReadingReason(fate="refused", reason=f"left out of training: {reason}", count=len(ids), example=ids[0][:12])
        for reason, ids in selection.dropped.items()
    ]
    left_out = sum(len(ids) for ids in selection.dropped.values())
    return Reading(
        kept=report.kept - left_out,
        repaired=sum(found.count for found in report.repaired.values()),
        refused=report.bad + left_out,
        reasons=tuple(reasons),
        source=report.file,
    )
