"""The evaluation of a run: which prompts, which judges, and the report that they make."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from penchant.evaluate.compare import Sheet, choose, judged, moved, pictures, requests, spread
from penchant.evaluate.evidence import Captions, Evidence, Role
from penchant.recipe import Recipe, to_toml

Say = Callable[[str], None]
_SHOWN = 24


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Prompts and judges of one run; `seen` prompts are among the training prompts, `held_out` are not."""

    recipe: Recipe
    seen: tuple[str, ...]
    held_out: tuple[str, ...]
    judges: dict[str, tuple[Any, Role]]
    cache: Path

    @classmethod
    def of(cls, recipe: Recipe, selection: Any, cache: Path) -> Judging:
        """Chooses prompts and loads judges.

        Raises:
            RecipeError: no judge is named, or the prompts' file is not readable.
        """
        from penchant.judges import load

        spec = recipe.evaluation
        assert spec is not None
        trained = {group.group.prompt for group in selection}
        roles: list[tuple[str, Role]] = [(j, "held out") for j in spec.judges]
        roles += [(j, "trained against") for j in spec.trained_against]
        if not roles:
            raise RecipeError("nobody judges.", field="evaluation.judges", remedy="name a judge, or drop evaluation.")
        return cls(
            recipe=recipe,
            seen=choose(list(trained), spec.count),
            held_out=choose([p for p in _lines(spec.prompts) if p not in trained], spec.count),
            judges={address: (load(address), role) for address, role in roles},
            cache=cache,
        )

    @property
    def first(self) -> Any:
        """The judge that marks pictures and measures spread: the first held-out one."""
        return next(iter(self.judges.values()))[0]

    def sample(self, model: Any, say: Say) -> list[Sheet]:
        """A sheet of the model's samples for each kind of prompts that there is."""
        from penchant.sampling.samples import SampleCache

        spec, sheets = self.recipe.evaluation, []
        assert spec is not None
        cache = SampleCache(self.cache / "samples")
        kinds: tuple[tuple[Captions, tuple[str, ...]], ...] = (("seen", self.seen), ("held-out", self.held_out))
        for kind, prompts in ((k, p) for k, p in kinds if p):
            rows, seeds = requests(prompts, spec.seeds)
            say(f"sampling {len(rows)} pictures of {len(prompts)} {kind} prompts")
            images = cache.sample(
                model, rows, seeds, steps=spec.steps, guidance=spec.guidance, batch_size=spec.batch_size
            )
            sheets.append(Sheet(captions=kind, prompts=prompts, seeds=spec.seeds, images=tuple(images)))
        return sheets

    def result(self, base: list[Sheet], policy: list[Sheet], folder: Path, timing: Any) -> PolicyResult:
        """Evidence, diversity, drift and alarms of the run in `folder`."""
        name = self.recipe.name
        evidence = [row for b, p in zip(base, policy, strict=True) for row in judged(name, p, b, self.judges)]
        after, before = spread(policy[-1], self.first), spread(base[-1], self.first)
        curves = read_metrics(folder / "metrics.jsonl")
        return PolicyResult(
            name=name,
            evidence=tuple(evidence),
            alarms=find_alarms(
                evidence,
                diversity=(after, before) if after and before else None,
                winner=winner_change(curves),
                fidelity=self._fidelity(evidence),
            ),
            diversity=after,
            drift=moved(policy[-1], base[-1], self.first),
            curves=curves,
            timing=timing,
            recipe_toml=to_toml(self.recipe),
        )

    def _fidelity(self, evidence: Sequence[Evidence]) -> dict[str, MeanGain]:
        """What held-out judges say of held-out captions; beside a judge trained against, hacking says it already."""
        if any(role == "trained against" for _, role in self.judges.values()):
            return {}
        return {row.judge: row.gain for row in evidence if row.independent}

    def _scores(self, base: list[Sheet], policy: list[Sheet]) -> dict[str, Any]:
        """Every score [P][S] by captions, judge and side: what any other statistic can be made from."""
        return {
            b.captions: {
                judge.name: {
                    side: judge.score(sheet.rows(), sheet.images)[:, 0].reshape(len(b.prompts), b.seeds).tolist()
                    for side, sheet in (("base", b), ("policy", p))
                }
                for judge, _ in self.judges.values()
            }
            for b, p in zip(base, policy, strict=True)
        }

    def report(
        self, base: list[Sheet], policy: list[Sheet], reading: Any, watch: Any, outcome: Any, folder: Path, say: Say
    ) -> Path:
        """Writes `evaluation.json` and `report.html` into `folder`; returns the latter."""
        from penchant.recipes import bibliography

        watch.lap("judge")
        result = self.result(base, policy, folder, watch.timing(outcome.pairs_per_second))
        rows = [asdict(row) for row in result.evidence]
        (folder / "evaluation.json").write_text(json.dumps(rows, indent=1))
        (folder / "scores.json").write_text(json.dumps(self._scores(base, policy)))
        for row in rows:
            say(sentence(row))
        exhibits = [
            pair
            for b, p in zip(base, policy, strict=True)
            for pair in pictures(self.recipe.name, p, b, self.first, count=_SHOWN // len(base))
        ]
        data = ReportData(
            title=f"penchant: {self.recipe.name}",
            base=self.recipe.policy.path,
            policies=(result,),
            base_diversity=spread(base[-1], self.first),
            exhibits=tuple(exhibits),
            exhibits_note=f"Marked: the picture that {self.first.name} prefers. The first prompts, not the best ones.",
            reading=_reading(*reading),
            rerun=(f"penchant align {folder / 'recipe.toml'}",),
            citations=tuple(bibliography(self.recipe)),
        )
        return write_report(folder, data)


def sentence(row: Mapping[str, Any]) -> str:
    """A row of `evaluation.json` in one line."""
    win, gain = row["win"], row["gain"]
    return (
        f"{row['captions']:8s} captions, {row['judge']} ({row['role']}): wins {100 * win['rate']:.1f} % "
        f"[{100 * win['low']:.1f}, {100 * win['high']:.1f}] over {win['prompts']} prompts x {win['seeds']} seeds, "
        f"mean {gain['before']:.4g} -> {gain['after']:.4g}"
    )


def _lines(address: str) -> list[str]:
    from penchant.assets import resolve

    if address == "feedback":
        return []
    path = Path(resolve(address))
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"cannot be read ({error}).", file=path, field="evaluation.prompts", remedy="one prompt a line, UTF-8."
        ) from error


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
