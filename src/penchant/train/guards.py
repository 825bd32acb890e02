"""What keeps a run from harm: the check before an optimiser step, polite stopping, one writer a folder."""

from __future__ import annotations

import fcntl
import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from penchant.errors import DivergedError, RecipeError


class FiniteGuard:
    """Refuses optimiser steps whose loss or gradient norm is not finite; stops after `limit` in a row."""

    def __init__(self, limit: int, folder: Path) -> None:
        self.limit, self.folder, self.in_a_row, self.skipped = limit, folder, 0, 0

    def admits(self, *, loss: float, norm: float, step: int, groups: Sequence[str]) -> bool:
        """True if the step may be taken.

        Raises:
            DivergedError: the limit is reached; the groups of the last step are named in `diverged.json`.
        """
        if abs(loss) < float("inf") and abs(norm) < float("inf"):
            self.in_a_row = 0
            return True
        self.in_a_row += 1
        self.skipped += 1
        if self.in_a_row >= self.limit:
            path = self.folder / "diverged.json"
            path.write_text(json.dumps({"step": step, "loss": str(loss), "norm": str(norm), "groups": list(groups)}))
            raise DivergedError(
                f"{self.in_a_row} steps in a row had a loss or gradient that is not finite (step {step}).",
                file=path,
                remedy="lower the learning rate, or look at the groups named there.",
            )
        return False


class StopRequest:
    """Remembers SIGINT or SIGTERM; the second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells report it."""
        return 128 + (self.signal or 0)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Handles both signals inside the block (in the main thread only, where Python allows it)."""
        import threading

        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before: dict[int, Any] = {n: signal.signal(n, self._receive) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the run folder.

    Raises:
        RecipeError: another process is writing to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RecipeError(
                "another run is writing here.", file=folder, field="out", remedy="wait for it or name another folder."
            ) from error
        yield
