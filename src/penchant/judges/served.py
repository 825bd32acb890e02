"""A judge that runs elsewhere: behind a URL, or in a process started here with its own virtual environment.

The other end is `server.py`. One judge is one connection at a time; processes of a distributed run that share a reward
start it once and give each other its URL.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Float
from PIL import Image

from penchant.errors import ModelError
from penchant.feedback.audio_encoding import encode_sound
from penchant.feedback.clip import Clip
from penchant.feedback.groups import Media
from penchant.feedback.sound import Sound
from penchant.feedback.video_files import encode_clip
from penchant.judges.base import Judge
from penchant.judges.reward_process import SERVER, Process, RewardServer

__all__ = ["SERVER", "RewardServer", "Served"]

# Seconds before the second try, doubled before each further one.
_BACK_OFF = 0.2


@final
class Served(Judge):
    """A reward server as a judge. Its name, version and dimensions are what the server says.

    Columns whose orientation is "smaller" are turned by their sign. A score that the reward could not give is NaN.
    Samples may be texts, pictures (sent as PNG), clips (animated PNG), sounds (WAV of floats), `Media` or bytes.
    """

    def __init__(
        self,
        *,
        url: str,
        timeout: float = RewardServer.timeout,
        retries: int = RewardServer.retries,
        batch_size: int = RewardServer.batch_size,
        process: Process | None = None,
    ) -> None:
        """
        Args:
            url: where a server runs, e.g. "http://127.0.0.1:8000".
            process: the process behind it, where this judge is to start it again.

        Raises:
            ModelError: nothing that is ready answers there.
        """
        self.timeout, self.retries, self.batch_size = timeout, retries, batch_size
        self._url, self._process, self.name = url.rstrip("/"), process, "the reward"
        # Proxies are for the internet; a reward server is not there.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._described = self._persist("/health", None)
        if not self._described.get("ready"):
            raise ModelError("no reward is ready here.", file=self.url, remedy="wait until /health says so.")
        self.name, self.version = self._described["name"], self._described["version"]
        self.dimensions = tuple(self._described["dimensions"])
        self._signs = np.array([-1.0 if word == "smaller" else 1.0 for word in self._described["orientation"]])

    @classmethod
    def start(cls, spec: RewardServer) -> Served:
        """The judge of a process started for it; `close` ends it, and so does the end of this process.

        Raises:
            ModelError: it does not start.
        """
        process = Process(spec)
        process.ensure()
        try:
            return cls(
                url=process.url,
                timeout=spec.timeout,
                retries=spec.retries,
                batch_size=spec.batch_size,
                process=process,
            )
        except BaseException:
            process.stop(grace=0)
            raise

    @property
    def url(self) -> str:
        """Where the server answers; another port after a restart."""
        return self._process.url if self._process else self._url

    def score(self, prompts: Sequence[str], samples: Sequence[Any]) -> Float[np.ndarray, "N D"]:
        """One row a (prompt, sample), larger = better; after `close` a process of this judge is started again.

        Raises:
            ModelError: the reward failed at every try, or refused the request.
        """
        rows: list[list[float | None]] = []
        for start in range(0, len(samples), self.batch_size):
            part = slice(start, start + self.batch_size)
            content = {"prompts": list(prompts[part]), "samples": [_encoded(sample) for sample in samples[part]]}
            rows += self._persist("/score", json.dumps(content).encode())["scores"]
        # None, which JSON has for NaN, becomes it.
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.dimensions)) * self._signs

    def close(self) -> None:
        """Ends the process, if this judge started one."""
        if self._process is not None:
            self._process.stop()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _persist(self, path: str, body: bytes | None) -> dict[str, Any]:
        """The answer, after as many tries as it takes and is allowed."""
        last = ""
        for attempt in range(self.retries + 1):
            time.sleep(_BACK_OFF * 2 ** (attempt - 1) if attempt else 0)
            if self._process is not None:
                self._process.ensure()
            try:
                if path == "/score":
                    self._refuse_another()
                return self._request(path, body)
            except urllib.error.HTTPError as error:
                last = _words(error)
                if error.code < http.client.INTERNAL_SERVER_ERROR:
                    raise self._failed(f"refused: {last}") from error
            except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
                last = self._reason(error)
                if self._process is not None:
                    self._process.stop(grace=0)
        raise self._failed(f"failed {self.retries + 1} times; the last time: {last}")

    def _refuse_another(self) -> None:
        # A server that came back with other code would fill caches under the old version.
        now = self._request("/health", None)
        fields = ("name", "version", "dimensions", "orientation")
        if now.get("ready") and any(now[field] != self._described[field] for field in fields):
            raise self._failed(f"changed under way, from version {self.version} to {now['version']}")

    def _request(self, path: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": "application/json"})
        with self._opener.open(request, timeout=self.timeout) as answer:
            return json.loads(answer.read())

    def _reason(self, error: Exception) -> str:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            return f"no answer within {self.timeout:g} s"
        return f"{type(cause).__name__}: {cause}"

    def _failed(self, problem: str) -> ModelError:
        reward = self._process.spec.reward if self._process else self.name
        return ModelError(f"{reward} {problem}.", file=self.url)


def _words(error: urllib.error.HTTPError) -> str:
    """What the server says went wrong; its status where something else than our server answers."""
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}, {error.reason}"


def _encoded(sample: Any) -> dict[str, str]:
    """A sample as `POST /score` takes it."""
    if isinstance(sample, str):
        return {"text": sample}
    mime, data = "application/octet-stream", sample
    if isinstance(sample, Media):
        mime, data = sample.mime, sample.bytes()
    elif isinstance(sample, Image.Image):
        buffer = io.BytesIO()
        picture = sample if sample.mode in ("L", "RGB", "RGBA") else sample.convert("RGB")
        picture.save(buffer, "PNG", compress_level=1)
        mime, data = "image/png", buffer.getvalue()
    elif isinstance(sample, Clip):
        mime, data = "image/apng", encode_clip(sample)
    elif isinstance(sample, Sound):
        mime, data = "audio/wav", encode_sound(sample)
    if not isinstance(data, bytes):
        raise ModelError(
            f"a {type(sample).__name__} cannot be sent.",
            remedy="give text, a picture, a clip, a sound, Media or bytes.",
        )
    return {"mime": mime, "data": base64.b64encode(data).decode()}
