"""A policy beside its base: sampled at the same prompts and seeds, scored by every judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from penchant.evaluate.clips import Clips
from penchant.evaluate.diversity import Diversity
from penchant.evaluate.drift import Drift
from penchant.evaluate.evidence import Evidence, Role, measure
from penchant.evaluate.exhibits import Exhibit
from penchant.evaluate.medium import Medium, Shown
from penchant.evaluate.medium_form import Form
from penchant.evaluate.pictures import Pictures
from penchant.evaluate.sheet import Sheet
from penchant.evaluate.sounds import Sounds
from penchant.evaluate.texts import Texts
from penchant.evaluate.tunes import Tunes
from penchant.likelihoods.randomness import generator
from penchant.models.spec import Policy
from penchant.sampling.samplers import Modality

MEDIA: dict[Modality, Medium] = {
    "picture": Pictures(),
    "text": Texts(),
    "clip": Clips(),
    "tune": Tunes(),
    "sound": Sounds(),
}

# Far from the seeds that made any feedback.
FIRST_SEED = 1_000_000


def choose(prompts: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` different prompts, drawn by count and not by place; the same ones whatever seed a policy trained with."""
    unique = sorted(set(prompts))
    order = generator(0, 0, "prompts", "evaluation").permutation(len(unique))
    return tuple(unique[i] for i in order[:count])


def requests(prompts: Sequence[str], seeds: int) -> tuple[list[str], list[int]]:
    """The (prompt, seed) of every sample of a sheet; a prompt's seeds do not depend on the other prompts."""
    rows = [p for p in prompts for _ in range(seeds)]
    keys = [FIRST_SEED + int(generator(0, i, p, "sample").integers(2**31)) for p in prompts for i in range(seeds)]
    return rows, keys


def eye_of(judges: Mapping[str, tuple[Any, Role]]) -> Any:
    """The first judge that can say where a sample lies; None if none can."""
    return next((judge for judge, _ in judges.values() if hasattr(judge, "features")), None)


def scored(sheet: Sheet, judges: Mapping[str, tuple[Any, Role]]) -> Sheet:
    """The sheet with every judge's scores; judges that were asked already are not asked again."""
    given = MEDIA[sheet.modality].judged(sheet)
    todo = {address: judge for address, (judge, _) in judges.items() if address not in sheet.scores}
    scores = {address: judge.score(sheet.rows(), given) for address, judge in todo.items()}
    return replace(sheet, scores={**sheet.scores, **scores})


def judged(
    name: str, policy: Sheet, base: Sheet, judges: Mapping[str, tuple[Any, Role]], *, seed: int = 0
) -> list[Evidence]:
    """One row of evidence a judge and dimension, from scored sheets."""
    found = []
    lengths = MEDIA[base.modality].lengths(policy, base)
    for address, (judge, role) in judges.items():
        after, before = policy.scores[address], base.scores[address]
        for column in range(len(judge.dimensions)):
            title, dimension = column_of(judge, column)
            found.append(
                measure(
                    after[:, column].reshape(base.shape),
                    before[:, column].reshape(base.shape),
                    policy=name,
                    judge=title,
                    dimension=dimension,
                    role=role,
                    captions=base.captions,
                    modality=base.modality,
                    lengths=None if judge.verifies else lengths,
                    seed=seed,
                )
            )
    return found


def column_of(judge: Any, column: int) -> tuple[str, str]:
    """What a judge's column is called in reports, and its dimension; none where the judge has a single one.

    A judge that is one dimension of another (`ADDRESS#DIM`) is called NAME:DIM and counts as that dimension.
    """
    dimension = judge.dimensions[column]
    if len(judge.dimensions) > 1:
        return f"{judge.name}:{dimension}", dimension
    return judge.name, dimension if judge.name.endswith(f":{dimension}") else ""


def spread(sheet: Sheet, eye: Any) -> Diversity | None:
    """Diversity among the seeds of a prompt; None with one seed, or where nothing measures it."""
    return MEDIA[sheet.modality].diversity(sheet, eye)


def moved(policy: Sheet, base: Sheet, eye: Any, *, model: Any = None, spec: Policy | None = None) -> Drift:
    """Distance between the two models' samples at equal prompts and seeds; with the policy's `model` and the `spec` of
    its base also the distance of the models, where the modality has one."""
    medium = MEDIA[base.modality]
    drift = medium.drift(policy, base, eye)
    return drift if model is None or spec is None else medium.divergence(drift, policy, model, spec)


def formed(policy: Sheet, base: Sheet) -> Form | None:
    """Length, repetition and unfinished texts, the motion of clips, or the form of music, beside the base's; None for
    other samples."""
    return MEDIA[base.modality].form(policy, base)


def exhibited(name: str, policy: Sheet, base: Sheet, judge: str, *, sheets: int) -> list[Exhibit]:
    """Before and after for the first seed of the first prompts: not the best ones, the first ones.

    The judge is named by address, of several dimensions the mean counts; `sheets` of a report share the number of
    exhibits.
    """
    medium, after, before = MEDIA[base.modality], policy.scores[judge].mean(1), base.scores[judge].mean(1)
    return [
        medium.exhibit(
            prompt,
            Shown(sample=base.samples[row], label="base", score=float(before[row])),
            Shown(sample=policy.samples[row], label=name, score=float(after[row])),
        )
        for row, prompt in zip(range(0, len(base.samples), base.seeds), base.prompts, strict=True)
    ][: medium.exhibits // sheets]
