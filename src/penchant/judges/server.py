"""A reward behind JSON over HTTP, in its own process and its own virtual environment.

    PYTHON server.py REWARD.py:NAME --port 8000

One file, standard library only, any Python from 3.8: copy it, or run it where it lies. PYTHON needs what the reward
needs and no penchant. Once the reward is loaded, one line `{"port": ...}` stands on stdout; what the reward prints goes
to stderr.

NAME of REWARD.py is called without arguments, once, and returns the reward: an object with `score`, or a function.

    score(prompts, samples) -> one float a sample, or one list of floats (a float a dimension); NaN or None: no score
    name, version           str, optional; without a version it is the first digits of the file's sha256
    dimensions              names of the floats, optional; ("score",)
    orientation             "larger" or "smaller" for each dimension, which of them is better, optional; all "larger"

A text sample reaches `score` as str, any other as the bytes of its file (PNG for pictures), which the reward opens
itself, e.g. with `PIL.Image.open(io.BytesIO(sample))`. Rewards are loaded and called on the main thread, one request
at a time. Arrays and tensors are as good as lists.

    GET /health   {"ready", "name", "version", "dimensions", "orientation", "python", "pid"}
    POST /score   {"prompts": [str], "samples": [{"text": str} | {"mime": str, "data": base64}]}
                  {"scores": [[float or null]]}, a row a sample

What goes wrong is {"error": words} with status 400 (the request), 413 (its size) or 500 (the reward). There is no
password: whoever reaches the port can use it, so it listens on 127.0.0.1 unless told otherwise.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import importlib.util
import json
import math
import os
import queue
import signal
import sys
import threading
import traceback
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_BYTES = 256 * 2**20


class Refused(Exception):
    """A request that cannot be answered, with its status."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


class Reward:
    """The user's reward, and what it says of itself."""

    def __init__(self, address: str) -> None:
        path, _, attribute = address.rpartition(":")
        if not path:
            raise ValueError(f"'{address}' is no REWARD.py:NAME.")
        with open(path, "rb") as stream:
            digest = hashlib.sha256(stream.read()).hexdigest()[:12]
        made = getattr(_module(path), attribute)()
        self.function = getattr(made, "score", made)
        if not callable(self.function):
            raise TypeError(f"{address} made a {type(made).__name__}, which has no score(prompts, samples).")
        self.name = str(getattr(made, "name", attribute))
        self.version = str(getattr(made, "version", digest))
        self.dimensions = _words(getattr(made, "dimensions", ("score",)))
        self.orientation = _words(getattr(made, "orientation", ("larger",) * len(self.dimensions)))
        if len(self.orientation) != len(self.dimensions) or not set(self.orientation) <= {"larger", "smaller"}:
            raise ValueError(f"orientation {self.orientation}: say larger or smaller for each of {self.dimensions}.")

    def score(self, prompts: list[str], samples: list[Any]) -> list[list[float | None]]:
        """A row a sample, a column a dimension; None where there is no score."""
        scores = _plain(self.function(prompts, samples))
        if not isinstance(scores, (list, tuple)) or len(scores) != len(samples):
            raise ValueError(f"score gave no list of {len(samples)} rows, one a sample.")
        return [self._row(number, row) for number, row in enumerate(scores)]

    def _row(self, number: int, row: Any) -> list[float | None]:
        row = _plain(row)
        row = list(row) if isinstance(row, (list, tuple)) else [row]
        if len(row) != len(self.dimensions):
            raise ValueError(f"row {number} has {len(row)} scores for the dimensions {self.dimensions}.")
        values = [math.nan if value is None else float(value) for value in row]
        if any(math.isinf(value) for value in values):
            raise ValueError(f"row {number} is infinite; a score is a finite number, NaN or None.")
        # JSON has no NaN.
        return [None if math.isnan(value) else value for value in values]


def _module(path: str) -> Any:
    # The reward's neighbours can be imported, but after its packages: hpsv2.py may well import hpsv2. This file's own
    # neighbours are another program.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [place for place in sys.path if os.path.abspath(place) != here]
    sys.path.append(os.path.dirname(os.path.abspath(path)))
    name = "reward_" + os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Pickles and dataclasses look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _words(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(word) for word in value]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


class Server(ThreadingHTTPServer):
    """Answers health at any time; rewards run on the main thread, because some packages insist on one."""

    daemon_threads = True

    def __init__(self, host: str, port: int, max_bytes: int) -> None:
        super().__init__((host, port), Handler)
        self.max_bytes = max_bytes
        self.reward: Reward | None = None
        self.jobs: queue.Queue[tuple[Future[Any], list[str], list[Any]]] = queue.Queue()

    def run(self, reward: Reward) -> None:
        """Scores what is asked for, for ever."""
        self.reward = reward
        while True:
            answer, prompts, samples = self.jobs.get()
            try:
                answer.set_result(reward.score(prompts, samples))
            except Exception as error:
                traceback.print_exc()
                answer.set_exception(Refused(500, f"{type(error).__name__}: {error}"))

    def score(self, prompts: list[str], samples: list[Any]) -> list[list[float | None]]:
        """The rows, once the main thread has made them."""
        answer: Future[Any] = Future()
        self.jobs.put((answer, prompts, samples))
        return answer.result()

    def health(self) -> dict[str, Any]:
        """What the reward says of itself; nulls until it is loaded."""
        fields = ("name", "version", "dimensions", "orientation")
        said = {field: getattr(self.reward, field, None) for field in fields}
        return {"ready": self.reward is not None, **said, "python": sys.version.split()[0], "pid": os.getpid()}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    # Seconds a client may be silent under way; scoring is not counted.
    timeout = 60

    def do_GET(self) -> None:
        self._answer(self.server.health, "/health")

    def do_POST(self) -> None:
        self._answer(lambda: {"scores": self.server.score(*_request(self._body()))}, "/score")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As JSON, where the standard library writes HTML."""
        self._send(code, {"error": message or "the request is not understood."})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: stderr is for the reward."""

    def _answer(self, answer: Any, path: str) -> None:
        try:
            if self.path != path:
                raise Refused(404, f"{self.command} {self.path}: there are GET /health and POST /score.")
            self._send(200, answer())
        except Refused as error:
            self._send(error.status, {"error": str(error)})

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refused(400, "a body with its Content-Length is needed.")
        left = int(length)
        if left <= self.server.max_bytes:
            return self.rfile.read(left)
        # Read and dropped: closing at once would reset the connection before the answer is read.
        while left > 0:
            left -= len(self.rfile.read(min(left, 2**16))) or left
        raise Refused(413, f"the body of {length} bytes is over the limit of {self.server.max_bytes}.")

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content, allow_nan=False).encode()
        self.close_connection = True
        # The client may have given up waiting.
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)


def _request(body: bytes) -> tuple[list[str], list[Any]]:
    try:
        content = json.loads(body)
        prompts, samples = content["prompts"], [_sample(sample) for sample in content["samples"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(400, f"the request is malformed: {type(error).__name__}: {error}") from error
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise Refused(400, "prompts is no list of texts.")
    if len(prompts) != len(samples):
        raise Refused(400, f"{len(prompts)} prompts for {len(samples)} samples.")
    return prompts, samples


def _sample(sample: Any) -> Any:
    if "text" not in sample:
        return base64.b64decode(sample["data"], validate=True)
    if not isinstance(sample["text"], str):
        raise TypeError("the text of a sample is no text.")
    return sample["text"]


def _exit_at_end_of(stream: int) -> None:
    """Ends this process, and those it started, when whoever holds the other end is gone, however it went."""
    while os.read(stream, 4096):
        pass
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


def main(arguments: list[str] | None = None) -> None:
    """Loads the reward and serves it until it is stopped."""
    parser = argparse.ArgumentParser(description="A reward behind JSON over HTTP.")
    parser.add_argument("reward", metavar="REWARD.py:NAME")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--host", default="127.0.0.1", help="others can then reach it; there is no password")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES, help="of a request's body")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when stdin ends: when its starter does")
    options = parser.parse_args(arguments)

    # The reward may print and may read stdin; neither is its to use.
    stdin, stdout = os.dup(0), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    if options.exit_with_stdin:
        threading.Thread(target=_exit_at_end_of, args=(stdin,), daemon=True).start()
    try:
        server = Server(options.host, options.port, options.max_bytes)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        reward = Reward(options.reward)
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=stdout, flush=True)
        sys.exit(1)
    server.reward = reward
    print(json.dumps({"port": server.server_address[1]}), file=stdout, flush=True)
    server.run(reward)


if __name__ == "__main__":
    main()
