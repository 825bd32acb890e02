"""Panels: who compares the samples of a round. Groups in, the same groups with verdicts on their pairs out.

A panel is a frozen part of the recipe; it loads its judges when it votes and lets them go afterwards. Verdicts are
`pair` judgements in the dimension `verdict` (`penchant.feedback.rankings`), whoever gave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Protocol

from penchant.errors import RecipeError
from penchant.feedback.groups import Group, digest

Scores = list[list[float | None]]


class Panel(Protocol):
    """One or more annotators."""

    def vote(self, groups: Sequence[Group], *, number: int, seed: int) -> list[Group]:
        """The groups with this panel's verdicts added.

        Args:
            groups: what the policy drew in a round.
            number: which round, counted from 0.
            seed: of the iterations, for panels that need luck.
        """


@dataclass(frozen=True, kw_only=True)
class SimulatedPanel:
    """Simulated annotators around a real judge: Bradley-Terry noise of known strength (`penchant.feedback.annotators`).

    Attributes:
        judge: address of the judge whose taste they share; its first dimension counts.
        agreement: how often one of them agrees with the judge's own order, over the pairs of the round on which the
            judge has one; between one half (a coin) and 1. The temperature is fitted anew in each round.
        annotators: how many vote, each with luck of its own.
    """

    judge: str
    agreement: float = 0.75
    annotators: int = 5

    def __post_init__(self) -> None:
        if self.annotators < 1:
            raise RecipeError("nobody votes.", field="annotators", remedy="use 1 or more.")
        if not 0.5 < self.agreement < 1:
            raise RecipeError(
                f"agreement {self.agreement:g} is not between one half and 1.",
                field="agreement",
                remedy="use 0.6 to 0.9; JudgePanel is the judge without noise.",
            )

    def vote(self, groups: Sequence[Group], *, number: int, seed: int) -> list[Group]:
        """See `Panel`; a vote depends on (seed, annotator, group, pair) and the round's temperature."""
        from penchant.feedback.annotators import SimulatedAnnotator, temperature_for

        given = scores_of(self.judge, groups)
        temperature = temperature_for(self.agreement, given)
        found = list(groups)
        for k in range(self.annotators):
            annotator = SimulatedAnnotator(name=self.judge, number=k, temperature=temperature, seed=seed)
            found = [g.judged(*annotator.verdicts(g, s)) for g, s in zip(found, given, strict=True)]
        return found


@dataclass(frozen=True, kw_only=True)
class JudgePanel:
    """Judges that score vote for what they score higher; equal scores are a tie.

    Attributes:
        judges: addresses, one annotator each; the first dimension of each counts.
    """

    judges: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.judges:
            raise RecipeError("nobody votes.", field="judges", remedy="name one or more judges.")

    def vote(self, groups: Sequence[Group], *, number: int, seed: int) -> list[Group]:
        """See `Panel`."""
        found = list(groups)
        for address in self.judges:
            given = scores_of(address, groups)
            found = [_by_scores(g, s, address) for g, s in zip(found, given, strict=True)]
        return found


def _by_scores(group: Group, scores: Sequence[float | None], address: str) -> Group:
    from penchant.feedback.rankings import verdict

    K, annotator = len(scores), digest("judge", address)[:16]
    votes = [
        verdict(i, j, K, 0.5 * ((one > other) - (one < other)) + 0.5, annotator=annotator, source=f"judge:{address}")
        for i, j in combinations(range(K), 2)
        if (one := scores[i]) is not None and (other := scores[j]) is not None
    ]
    return group.judged(*votes)


@dataclass(frozen=True, kw_only=True)
class LanguageModelPanel:
    """A language model that compares texts in both orders (`penchant.judges.language_model`), asked several times.

    Attributes:
        address: of the judge: a folder, `zoo:NAME`, or `URL#MODEL` of an OpenAI-compatible server.
        annotators: how often each pair is asked, each time with other letters and nonces.
    """

    address: str
    annotators: int = 1

    def __post_init__(self) -> None:
        if self.annotators < 1:
            raise RecipeError("nobody votes.", field="annotators", remedy="use 1 or more.")

    def vote(self, groups: Sequence[Group], *, number: int, seed: int) -> list[Group]:
        """See `Panel`; void votes are left out."""
        from penchant.judges.language_model import LanguageModelJudge, language_model

        judge = language_model(self.address)
        found = list(groups)
        for k in range(self.annotators):
            again = LanguageModelJudge(
                judge.reader, name=judge.name, model=self.address, specials=judge.specials, seed=k
            )
            votes = again.annotate(groups)
            found = [g.judged(*v.judgements[len(o.judgements) :]) for g, v, o in zip(found, votes, groups, strict=True)]
        return found


@dataclass(frozen=True, kw_only=True)
class People:
    """Votes that people gave elsewhere; a round waits for them.

    Its samples lie in `round-NNN/samples`, a store; show them to people in any tool, and bring the votes back as groups
    of the same ids, in any layout that penchant reads.

    Attributes:
        path: where the votes of a round will be; `{round}` is its number, e.g. "votes/round-{round}.parquet".
        dimension: of the judgements.
    """

    path: str
    dimension: str = "overall"

    def vote(self, groups: Sequence[Group], *, number: int, seed: int) -> list[Group]:
        """See `Panel`.

        Raises:
            RecipeError: the votes are not there yet, or none of them is about this round's samples.
        """
        from penchant.feedback import read
        from penchant.feedback.rankings import VERDICT

        path = Path(self.path.format(round=number))
        if not path.exists():
            raise RecipeError(
                f"round {number} waits for votes.",
                file=path,
                field="annotators",
                remedy="put the votes there and resume; the samples lie in the round's folder.",
            )
        voted = {group.id: group for group in read(path)}
        found = [_brought(g, voted.get(g.id), self.dimension, VERDICT) for g in groups]
        if all(g.judgements == f.judgements for g, f in zip(groups, found, strict=True)):
            raise RecipeError(
                f"holds no vote on a sample of round {number}.", file=path, field="annotators", remedy="keep group ids."
            )
        return found


def _brought(group: Group, voted: Group | None, dimension: str, verdicts: str) -> Group:
    """The judgements of `voted`, in the order of this group's candidates."""
    if voted is None:
        return group
    place = {candidate.id: k for k, candidate in enumerate(voted.candidates)}
    order = [place.get(candidate.id) for candidate in group.candidates]
    return group.judged(
        *(
            replace(j, dimension=verdicts, values=tuple(None if k is None else j.values[k] for k in order))
            for j in voted.judgements
            if j.dimension == dimension
        )
    )


def scores_of(address: str, groups: Sequence[Group]) -> Scores:
    """What a judge's first dimension says of every candidate, [group][candidate]; None where it is not a number."""
    import math

    from penchant.feedback.shown import sample_of
    from penchant.judges import load

    rows = [(group.prompt, sample_of(candidate)) for group in groups for candidate in group.candidates]
    judge = load(address)
    try:
        flat = iter(judge.score([p for p, _ in rows], [s for _, s in rows])[:, 0].tolist())
    finally:
        judge.close()
    return [[s if math.isfinite(s := next(flat)) else None for _ in group.candidates] for group in groups]
