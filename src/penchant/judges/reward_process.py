"""A reward in a process of its own, started from here with the interpreter of its virtual environment. POSIX only."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from penchant.errors import ModelError

SERVER = Path(__file__).with_name("server.py")
# Seconds that a server is given to end by itself.
_GRACE = 2.0


@dataclass(frozen=True, kw_only=True)
class RewardServer:
    """A reward to be started in its own process.

    Attributes:
        reward: `FILE.py:NAME`, as `server.py` reads it.
        python: the interpreter of the reward's virtual environment.
        startup_timeout: seconds to load the reward in.
        timeout: seconds to score one batch in; then the process is killed and started again.
        retries: how often a failed batch is tried again.
        batch_size: samples a request.
    """

    reward: str
    python: str = sys.executable
    startup_timeout: float = 600.0
    timeout: float = 300.0
    retries: int = 2
    batch_size: int = 16


@final
class Process:
    """The process of a `RewardServer`: started when it is needed, again if it is gone, ended with this one."""

    def __init__(self, spec: RewardServer) -> None:
        self.spec = spec
        self.url = ""
        self._child: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Starts it unless it runs.

        Raises:
            ModelError: it ended or said nothing before it was ready; its words are the reason.
        """
        if self._child is not None and self._child.poll() is None:
            return
        self.stop(grace=0)
        command = [self.spec.python, str(SERVER), self.spec.reward, "--exit-with-stdin"]
        # PYTHONPATH and PYTHONHOME would bring this environment's packages into the other one.
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        try:
            # What the reward writes to stderr is for the reader of this process's.
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
            )
        except OSError as error:
            raise self._failed(f"{self.spec.python} cannot be run: {error.strerror}") from error
        # Against a normal end of this process; closing stdin is against every other.
        atexit.register(self.stop, grace=0)
        said = self._first_line(self._child)
        if "port" not in said:
            self.stop(grace=0)
            raise self._failed(said.get("error", "it ended without a word; see stderr"))
        self.url = f"http://127.0.0.1:{said['port']}"

    def stop(self, *, grace: float = _GRACE) -> None:
        """Ends it: by closing its stdin, or after `grace` seconds by killing it and what it started."""
        atexit.unregister(self.stop)
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
        # Its session outlives it where it started others.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()

    def _first_line(self, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        lines: queue.Queue[bytes] = queue.Queue()
        assert child.stdout is not None
        threading.Thread(target=lambda stdout: lines.put(stdout.readline()), args=(child.stdout,), daemon=True).start()
        try:
            line = lines.get(timeout=self.spec.startup_timeout)
        except queue.Empty:
            return {"error": f"it was not ready after {self.spec.startup_timeout:g} s"}
        return json.loads(line or b"{}")

    def _failed(self, problem: str) -> ModelError:
        remedy = f"run it by hand: {self.spec.python} {SERVER} {self.spec.reward}"
        return ModelError(f"the reward server does not start: {problem}", file=self.spec.reward, remedy=remedy)
