"""The Ray executor: actors on a cluster, each with one stage loaded.

Ray carries rows, hashes and scores, below a kilobyte a unit; media go to the folder that workers and driver share.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from penchant.errors import RecipeError
from penchant.synthesis.executors import Bench, Call, Executor, Report
from penchant.synthesis.stages import Stage


@dataclass(kw_only=True)
class _Actor:
    handle: Any
    stage: Stage
    call: Call | None = None
    reference: Any = None
    deadline: float = 0.0
    loading: bool = False


@final
class RayExecutor(Executor):
    """An actor for each loaded stage, at most `workers` of them; one whose stage has no work makes room for others."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        threads: int = 1,
        gpus: float = 0,
        address: str | None = None,
        loading: float = 600.0,
    ) -> None:
        """Joins a cluster, or starts one on this machine.

        Args:
            folder: where workers put media; every node must see it.
            workers: the largest number of actors.
            threads: CPU threads, and CPUs, of an actor.
            gpus: GPUs of an actor; a share is allowed.
            address: of the cluster; None starts one here.
            loading: seconds that starting an actor and loading a stage may take.

        Raises:
            RecipeError: Ray is not installed.
        """
        try:
            import ray
        except ImportError as error:
            raise RecipeError(
                "Ray is not installed.", field="executor", remedy='pip install "penchant[ray]"'
            ) from error
        self._ray, self._folder, self._limit, self._loading = ray, folder.absolute(), workers, loading
        self._started = not ray.is_initialized()
        if self._started:
            here: dict[str, Any] = {} if address else {"num_cpus": workers * threads, "include_dashboard": False}
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
        # Ray sets an actor's OMP_NUM_THREADS to its CPUs. The driver sees to retries: an actor that died is replaced,
        # not restarted behind its back.
        self._make = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0)(Bench)
        self._actors: list[_Actor] = []

    def free(self, wanted: Sequence[Stage]) -> Stage | None:
        idle = [one for one in self._actors if one.call is None]
        for one in idle:
            if one.stage in wanted:
                return one.stage
        if not wanted or (len(self._actors) >= self._limit and not idle):
            return None
        return wanted[0]

    def submit(self, call: Call) -> None:
        chosen = next((a for a in self._actors if a.call is None and a.stage == call.stage), None) or self._new(call)
        chosen.call, chosen.loading, chosen.reference = call, True, chosen.handle.load.remote(call)
        chosen.deadline = time.monotonic() + self._loading

    def _new(self, call: Call) -> _Actor:
        if len(self._actors) >= self._limit:
            self._end(next(one for one in self._actors if one.call is None))
        actor = _Actor(handle=self._make.remote(self._folder), stage=call.stage)
        self._actors.append(actor)
        return actor

    def wait(self, seconds: float) -> list[Report]:
        busy = {one.reference: one for one in self._actors if one.call is not None}
        if not busy:
            return []
        nearest = min(one.deadline for one in busy.values()) - time.monotonic()
        ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=max(0.0, min(seconds, nearest)))
        if ready:
            # Whatever else has ended by now.
            ready, _ = self._ray.wait(list(busy), num_returns=len(busy), timeout=0)
        received = [self._receive(busy[reference]) for reference in ready]
        reports = [report for report in received if report is not None]
        late = [one for one in busy.values() if one.call is not None and one.deadline <= time.monotonic()]
        return reports + [self._hung(one) for one in late]

    def _receive(self, one: _Actor) -> Report | None:
        """A report, or None where the stage was loaded: then the batch begins, and its own time."""
        assert one.call is not None
        try:
            report: Report | None = self._ray.get(one.reference)
        except self._ray.exceptions.RayError as error:
            report = Report(number=one.call.number, reason=f"the actor died ({type(error).__name__})", lost=True)
            self._end(one)
        if report is None:
            one.loading, one.reference = False, one.handle.run.remote(one.call)
            one.deadline = time.monotonic() + one.call.stage.timeout
        else:
            one.call = one.reference = None
        return report

    def _hung(self, one: _Actor) -> Report:
        assert one.call is not None
        seconds = self._loading if one.loading else one.call.stage.timeout
        report = Report(number=one.call.number, reason=f"no answer within {seconds:g} s")
        self._end(one)
        return report

    def _end(self, one: _Actor) -> None:
        self._ray.kill(one.handle)
        self._actors.remove(one)
        one.call = None

    def close(self) -> None:
        for one in list(self._actors):
            self._end(one)
        if self._started:
            self._ray.shutdown()
