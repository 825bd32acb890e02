"""What a report is made of: plain fields that any modality, trainer or script can fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from penchant.errors import PenchantError
from penchant.evaluate.alarms import Alarm
from penchant.evaluate.curves import Curve
from penchant.evaluate.diversity import Diversity
from penchant.evaluate.drift import Drift
from penchant.evaluate.evidence import Evidence
from penchant.evaluate.exhibits import Exhibit
from penchant.evaluate.medium_form import Form
from penchant.evaluate.tournament import Tournament
from penchant.evaluate.words import WORDS, Words


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a run cost; what was not measured is None. `stages` are (name, wall seconds) in order."""

    seconds: float
    cpu_seconds: float | None = None
    peak_bytes: float | None = None
    pairs_per_second: float | None = None
    stages: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReadingReason:
    """Why records were repaired or refused, how many, and one of them."""

    fate: Literal["repaired", "refused"]
    reason: str
    count: int
    example: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What became of the records of the feedback files. `repaired` records are among the `kept`."""

    kept: int
    repaired: int = 0
    refused: int = 0
    reasons: tuple[ReadingReason, ...] = ()
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class PolicyResult:
    """One policy of the report: its evidence and everything measured beside it."""

    name: str
    evidence: tuple[Evidence, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    diversity: Diversity | None = None
    drift: Drift | None = None
    form: Form | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    timing: Timing | None = None
    recipe_toml: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """A report: one or several policies compared with one base.

    `lead` is a paragraph under the verdict, `facts` are (name, value) lines such as versions and dates, `reading` the
    feedback files' report, `exhibits_note` says which judge marked the samples, `tournaments` are the policies and
    the base against one another, one a judge, `rerun` are shell commands, `citations` plain references. Parts that are
    empty leave no section, except evidence: its absence is said.
    """

    title: str
    base: str
    policies: tuple[PolicyResult, ...]
    lead: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    base_diversity: Diversity | None = None
    exhibits: tuple[Exhibit, ...] = ()
    exhibits_note: str = ""
    tournaments: tuple[Tournament, ...] = ()
    reading: Reading | None = None
    rerun: tuple[str, ...] = ()
    citations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [policy.name for policy in self.policies]
        if not names or len(set(names)) != len(names):
            raise PenchantError(
                f"the policies of a report are named {names}.",
                field="policies",
                remedy="give one or more, each its own name.",
            )
        for policy in self.policies:
            if strays := {row.policy for row in policy.evidence} - {policy.name}:
                raise PenchantError(
                    f"policy '{policy.name}' carries evidence of {sorted(strays)}.",
                    field="evidence",
                    remedy="give each policy its own rows.",
                )

    @property
    def words(self) -> Words:
        """What the samples and prompts of the report are called."""
        rows = [row for policy in self.policies for row in policy.evidence]
        return WORDS[next((item.modality for item in (*rows, *self.exhibits)), "picture")]
