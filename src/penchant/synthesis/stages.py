"""Stages: what a worker loads, and what it makes of a batch of rows.

A stage is a frozen description that travels to workers; `load` gives the worker's half, heavy and in its process only.
Its `identity` names everything that decides its outputs, so that a ledger may take an output for granted later.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

from penchant.feedback.groups import Candidate

Output = Mapping[str, Any]
"""What a unit became, as JSON: `{"sha256", "mime"}` or `{"text"}` of a sample, `{"value", "version"}` of a reward."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The input of one unit: a prompt with the seed of a sample to draw, or with the sample to score."""

    prompt: str
    seed: int = 0
    candidate: Candidate | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why one row of a batch has no output."""

    reason: str


class Worker(ABC):
    """The loaded half of a stage."""

    @abstractmethod
    def run(self, rows: Sequence[Row], folder: Path) -> list[Output | Failure]:
        """One output a row; media go to the content-addressed files under `folder` before their output is told."""

    def close(self) -> None:  # noqa: B027
        """Frees what was loaded."""


class Stage(ABC):
    """A frozen dataclass that names `name`, `batch_size`, `timeout` (seconds a batch) and `seconds` (expected device
    seconds a row, for plans)."""

    version: ClassVar[int] = 1
    """Raise it when the code changes what comes out."""

    name: str
    batch_size: int
    timeout: float
    seconds: float
    # What decides how fast, and not what, is no part of the identity.
    incidental: ClassVar[frozenset[str]] = frozenset({"name", "batch_size", "timeout", "seconds"})

    @abstractmethod
    def load(self) -> Worker:
        """The worker's half."""

    def addresses(self) -> tuple[str, ...]:
        """Files and folders whose content decides the outputs."""
        return ()

    def identity(self) -> str:
        """A hash of class, version, settings and the content of all `addresses`, taken once a process: what is loaded
        does not change with the files either."""
        return _identity(self)

    def unit_id(self, row: Row) -> str:
        """The name of one unit: equal for equal work, whenever and wherever it is done."""
        sample = row.candidate.id if row.candidate is not None else row.seed
        return _digest(self.identity(), row.prompt, sample)


@lru_cache(maxsize=256)
def _identity(stage: Stage) -> str:
    settings = {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)}  # type: ignore[arg-type]
    kept = {k: v for k, v in settings.items() if k not in stage.incidental}
    contents = [content(address) for address in stage.addresses()]
    return _digest(type(stage).__name__, stage.version, repr(sorted(kept.items())), *contents)


def _digest(*parts: object) -> str:
    return blake2b(json.dumps(parts, separators=(",", ":")).encode(), digest_size=16).hexdigest()


def content(address: str) -> str:
    """The digest of a file's or folder's bytes; any other address (a hub id, a judge's name) is its own name."""
    from penchant.assets import resolve

    path = Path(resolve(address))
    if not path.exists():
        return address
    digest, root = blake2b(digest_size=16), path if path.is_dir() else path.parent
    for file in sorted(p for p in root.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        digest.update(f"{file.relative_to(root)}|{file.stat().st_size}|".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
