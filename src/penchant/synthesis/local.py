"""The local executor: a few processes of this machine, restarted when they die, killed when they hang."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, final

from penchant.synthesis.executors import Bench, Call, Executor, Report
from penchant.synthesis.stages import Stage


@dataclass(kw_only=True)
class _Process:
    process: Any
    connection: Connection
    slot: int
    loaded: Stage | None = None
    call: Call | None = None
    deadline: float = 0.0
    allowed: float = 0.0

    def allow(self, seconds: float) -> None:
        """So long from now may what it does next take."""
        self.allowed, self.deadline = seconds, time.monotonic() + seconds


@final
class LocalExecutor(Executor):
    """Spawned processes; every call is sent over a pipe, every report comes back over it."""

    def __init__(
        self, folder: Path, *, workers: int = 2, threads: int = 1, gpus: int = 0, loading: float = 600.0
    ) -> None:
        """Starts the processes.

        Args:
            folder: where workers put media.
            workers: how many.
            threads: CPU threads of each; results may depend on it in their last bits.
            gpus: spread workers over so many GPUs; 0 leaves the environment as it is.
            loading: seconds that starting a process and loading a stage may take.
        """
        self._folder, self._threads, self._gpus, self._loading = folder, threads, gpus, loading
        self._context = multiprocessing.get_context("spawn")
        self._processes = [self._start(slot) for slot in range(workers)]

    def _start(self, slot: int) -> _Process:
        ours, theirs = self._context.Pipe()
        gpu = slot % self._gpus if self._gpus else None
        process = self._context.Process(
            target=_work, args=(theirs, self._folder, self._threads, gpu), name=f"penchant-worker-{slot}", daemon=True
        )
        process.start()
        theirs.close()
        return _Process(process=process, connection=ours, slot=slot)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [one.process.pid for one in self._processes]

    def free(self, wanted: Sequence[Stage]) -> Stage | None:
        idle = [one for one in self._processes if one.call is None]
        if not idle or not wanted:
            return None
        return next((one.loaded for one in idle if one.loaded in wanted), wanted[0])

    def submit(self, call: Call) -> None:
        idle = [one for one in self._processes if one.call is None]
        # One that has the stage loaded; else one that has nothing loaded; else any.
        chosen = min(idle, key=lambda one: (one.loaded != call.stage, one.loaded is not None, one.slot))
        chosen.call, chosen.loaded = call, call.stage
        chosen.allow(self._loading)
        # If it died while idle, `wait` finds the end of its pipe and reports the call as lost.
        with contextlib.suppress(OSError):
            chosen.connection.send(call)

    def wait(self, seconds: float) -> list[Report]:
        busy = {one.connection: one for one in self._processes if one.call is not None}
        if not busy:
            return []
        nearest = min(one.deadline for one in busy.values()) - time.monotonic()
        ready = wait(list(busy), timeout=max(0.0, min(seconds, nearest)))
        received = [self._receive(busy[connection]) for connection in ready]  # type: ignore[index]
        reports = [report for report in received if report is not None]
        now = time.monotonic()
        reports += [self._hung(one) for one in list(self._processes) if one.call is not None and one.deadline <= now]
        return reports

    def _receive(self, one: _Process) -> Report | None:
        """A report, or None for the word that the stage is loaded: the batch's own time begins now."""
        assert one.call is not None
        try:
            report: Report | None = one.connection.recv()
        # A worker killed while it sends leaves half a message.
        except (EOFError, OSError, ValueError):
            report = self._replaced(one, "the worker died", lost=True)
        if report is None:
            one.allow(one.call.stage.timeout)
        else:
            one.call = None
        return report

    def _hung(self, one: _Process) -> Report:
        assert one.call is not None
        return self._replaced(one, f"no answer within {one.allowed:g} s", lost=False)

    def _replaced(self, one: _Process, reason: str, *, lost: bool) -> Report:
        assert one.call is not None
        one.process.kill()
        one.process.join()
        one.connection.close()
        self._processes[one.slot] = self._start(one.slot)
        code = f" (exit code {one.process.exitcode})" if lost else ""
        return Report(number=one.call.number, reason=reason + code, lost=lost)

    def close(self) -> None:
        for one in self._processes:
            # The idle ones end by themselves when their pipe does, and clean up after themselves.
            one.connection.close()
            if one.call is not None:
                one.process.kill()
        for one in self._processes:
            one.process.join(timeout=5.0)
            one.process.kill()
            one.process.join()


def _work(connection: Connection, folder: Path, threads: int, gpu: int | None) -> None:
    """A worker's life: calls in, reports out, until the driver closes the pipe or dies."""
    # Ctrl-C is the driver's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # One line of progress is the driver's; a bar from each worker would bury it.
    os.environ.setdefault("TQDM_DISABLE", "1")
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    threading.Thread(target=_die_with_the_driver, daemon=True).start()
    bench = Bench(folder)
    while True:
        try:
            call = connection.recv()
        except (EOFError, OSError):
            return
        failed = bench.load(call)
        connection.send(failed)
        if failed is None:
            connection.send(bench.run(call))


def _die_with_the_driver() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
