"""Several policies on one page, to be listened to: the same prompts and seeds, one loudness, one scale of time.

Beside the players stands what the ear does not hear: who wins against whom by each judge, what each reward cost in KL,
the form of the music and every alarm. One policy may have been trained against a judge that is held out for another:
roles are those of each policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from penchant.errors import RecipeError
from penchant.evaluate.alarms import find_alarms
from penchant.evaluate.compare import MEDIA, eye_of, formed, judged, spread
from penchant.evaluate.contents import PolicyResult, ReportData
from penchant.evaluate.curves import Curve
from penchant.evaluate.drift import Drift
from penchant.evaluate.evidence import Role
from penchant.evaluate.medium import Shown
from penchant.evaluate.players import PlayerRow
from penchant.evaluate.sheet import Sheet
from penchant.evaluate.sounds import Sounds
from penchant.evaluate.tournament import Tournament, tournament
from penchant.evaluate.tunes import Tunes
from penchant.evaluate.words import WORDS

BASE = "base"
"""What the base is called in players and tables."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contestant:
    """One policy of the page.

    Attributes:
        name: what it is called.
        sheet: its samples, scored by every judge.
        trained_against: addresses of the judges that its training saw.
        drift: its distance from the base.
        curves: what its training logged.
        recipe_toml: its recipe.
    """

    name: str
    sheet: Sheet
    trained_against: frozenset[str] = frozenset()
    drift: Drift | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    recipe_toml: str = ""

    def roles(self, judges: Mapping[str, Any]) -> dict[str, tuple[Any, Role]]:
        """The judges with their roles for this policy, held-out ones first."""

        def role(address: str) -> Role:
            if address in self.trained_against:
                return "trained against"
            return "verifier" if judges[address].verifies else "held out"

        found: dict[str, tuple[Any, Role]] = {address: (judge, role(address)) for address, judge in judges.items()}
        return dict(sorted(found.items(), key=lambda item: item[1][1] == "trained against"))


@dataclass(frozen=True, kw_only=True)
class Showing:
    """What is shown of the samples.

    Attributes:
        exhibits: prompts with players, the first seed of each.
        seconds: of a piece that are played; None for what a page has room for.
        tie_margin: score differences up to this are ties, in the tables of win, tie and loss.
    """

    exhibits: int = 4
    seconds: float | None = None
    tie_margin: float = 0.0


def listening_data(
    base: Sheet,
    contestants: Sequence[Contestant],
    judges: Mapping[str, Any],
    *,
    title: str,
    showing: Showing = Showing(),
    facts: Sequence[tuple[str, str]] = (),
    rerun: Sequence[str] = (),
) -> ReportData:
    """The page's content.

    Args:
        base: the base's samples, scored by every judge.
        contestants: the policies at the same prompts and seeds.
        judges: by address, the one that marks the players first.
        title: of the page.
        showing: how much of the samples is shown.
        facts: (name, value) lines at the foot.
        rerun: commands.

    Raises:
        RecipeError: the samples are no music.
        PenchantError: as the measures.
    """
    eye = eye_of({address: (judge, "held out") for address, judge in judges.items()})
    marker = next(iter(judges))
    name = judges[marker].name if len(judges[marker].dimensions) == 1 else f"the mean of {marker}'s dimensions"
    sample = WORDS[base.modality].sample
    return ReportData(
        title=title,
        base=BASE,
        policies=tuple(_result(one, base, judges, eye) for one in contestants),
        facts=tuple(facts),
        base_diversity=spread(base, eye),
        exhibits=tuple(player_rows(base, contestants, marker, showing)),
        exhibits_note=f"Marked: the {sample} with the highest score by {name}. The first prompts, not the best ones.",
        tournaments=tuple(_tournament(address, judge, base, contestants, showing) for address, judge in judges.items()),
        rerun=tuple(rerun),
    )


def player_rows(base: Sheet, contestants: Sequence[Contestant], judge: str, showing: Showing) -> list[PlayerRow]:
    """For each of the first prompts the first seed's music of the base and of every policy, marked by `judge`.

    Raises:
        RecipeError: the samples are no music.
    """
    medium = MEDIA[base.modality]
    if not isinstance(medium, Tunes | Sounds):
        raise RecipeError(
            f"these are {WORDS[base.modality].samples}, and nobody can listen to them.",
            field="policy.notation",
            remedy="use `penchant evaluate RUN`, or set policy.notation if the completions are tunes.",
        )
    sides = [(BASE, base), *((one.name, one.sheet) for one in contestants)]
    rows = []
    for place, prompt in enumerate(base.prompts[: showing.exhibits]):
        index = place * base.seeds
        players = [
            medium.player(
                prompt,
                Shown(sample=sheet.samples[index], label=name, score=float(sheet.scores[judge][index].mean())),
                seconds=showing.seconds,
            )
            for name, sheet in sides
        ]
        rows.append(PlayerRow.of(prompt.text, 0, players))
    return rows


def _result(one: Contestant, base: Sheet, judges: Mapping[str, Any], eye: Any) -> PolicyResult:
    evidence = judged(one.name, one.sheet, base, one.roles(judges))
    after, before = spread(one.sheet, eye), spread(base, eye)
    form = formed(one.sheet, base)
    return PolicyResult(
        name=one.name,
        evidence=tuple(evidence),
        alarms=find_alarms(
            evidence,
            diversity=(after, before) if after and before and before.value else None,
            form=form,
            curves=one.curves,
        ),
        diversity=after,
        drift=one.drift,
        form=form,
        curves=one.curves,
        recipe_toml=one.recipe_toml,
    )


def _tournament(
    address: str, judge: Any, base: Sheet, contestants: Sequence[Contestant], showing: Showing
) -> Tournament:
    """Of a judge with several dimensions the mean counts."""

    def scores(sheet: Sheet) -> np.ndarray:
        return sheet.scores[address].mean(1).reshape(sheet.shape)

    return tournament(
        {BASE: scores(base), **{one.name: scores(one.sheet) for one in contestants}},
        judge=judge.name if len(judge.dimensions) == 1 else f"the mean of {judge.name}'s dimensions",
        tie_margin=showing.tie_margin,
    )
