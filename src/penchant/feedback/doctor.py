"""`doctor`: is this feedback fit to train on? Every finding has a severity and a remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike

from penchant.feedback.checks import CHECKS, Finding, Severity, pictures, refused_rows
from penchant.feedback.clip_checks import clips
from penchant.feedback.dimension_checks import dimensions
from penchant.feedback.groups import Feedback, Group
from penchant.feedback.report import ReadingReport
from penchant.feedback.sound_checks import sounds

CLIPS = 200
"""Groups whose clips are decoded: a pair of 5 seconds costs as much as hundreds of images."""

SOUNDS = 200
"""Groups whose sounds are decoded and measured."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All findings about a feedback; `str()` prints it, `exit_code` is 1 when an error was found."""

    groups: int
    findings: tuple[Finding, ...]
    report: ReadingReport | None = None

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def __contains__(self, name: str) -> bool:
        return any(finding.name == name for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """What a command line should return."""
        return 1 if self.of("error") else 0

    def to_json(self) -> str:
        """The diagnosis as JSON text."""
        report = json.loads(self.report.to_json()) if self.report else None
        findings = [asdict(finding) for finding in self.findings]
        return json.dumps({"groups": self.groups, "findings": findings, "report": report}, indent=2, ensure_ascii=False)

    def summary(self) -> str:
        """The diagnosis as text, errors first."""
        lines = [self.report.summary()] if self.report else []
        lines.append(f"{self.groups} groups: {len(self.of('error'))} errors, {len(self.of('warning'))} warnings")
        for severity in ("error", "warning", "info"):
            for finding in self.of(severity):
                lines.append(f"{severity:>7}  {finding.name}: {finding.message}")
                lines += [f"         Remedy: {finding.remedy}"] if finding.remedy else []
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def doctor(source: str | PathLike[str] | Sequence[Group], *, images: int = 2000, limit: int | None = None) -> Diagnosis:
    """Examine a file, folder, store or Feedback.

    Args:
        source: anything `read` reads, or groups in memory.
        images: decode the images of at most so many groups (chosen by a counted draw), and the clips and sounds of
            at most so many and at most `CLIPS` and `SOUNDS`; 0 looks at none.
        limit: with a path, read at most so many rows.

    Raises:
        FeedbackError: the path cannot be read at all.
    """
    from penchant.feedback.reading import read

    groups = read(source, limit=limit) if isinstance(source, str | PathLike) else source
    report = groups.report if isinstance(groups, Feedback) else None
    found = [refused_rows(report), *(check(groups) for check in (*CHECKS, dimensions) if groups)]
    findings = [finding for finding in found if finding is not None]
    if images:
        findings += pictures(groups, sample=images)
        findings += clips(groups, sample=min(images, CLIPS))
        findings += sounds(groups, sample=min(images, SOUNDS))
    return Diagnosis(groups=len(groups), findings=tuple(findings), report=report)
