"""`Alarm`: something wrong with a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["notice", "warning", "severe"]


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Something wrong: its name, how bad it is, one sentence with the numbers, and what to do."""

    name: str
    severity: Severity
    sentence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name} ({self.severity}): {self.sentence} {self.remedy}"
