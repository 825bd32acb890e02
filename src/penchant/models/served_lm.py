"""Generation through a server: anything that speaks OpenAI's completions over HTTP (vLLM, SGLang, llama.cpp, a host).

    model = ServedLM(url="http://127.0.0.1:8000/v1", model="Qwen/Qwen3-8B")
    model.complete(prompts, seeds=range(len(prompts)), decoding=Decoding(max_tokens=512))

Standard library only: whatever a server needs, its pins stay in its own environment. The server shares prefixes among
the requests that it holds; they are sent one a row, `concurrency` at a time.

What servers differ in, and what is done about it:

1. Some return log-probs before the temperature, some after it: they are read at temperature 1 alone, where both agree.
2. Token ids come only where the server is asked in its own words (vLLM: `extra={"return_token_ids": True}`).
3. A chat endpoint cannot be told how an answer begins. An `opening` goes through `/completions`: with plain text as it
   is, with a conversation only if `tokenizer` names a folder whose chat template writes it.
4. The same seed gives the same row on the same server as far as its kernels do not depend on the batch.
"""

from __future__ import annotations

import functools
import http.client
import json
import math
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float

from penchant.errors import ModelError
from penchant.feedback.groups import Prompt
from penchant.models.completion import Completion, Decoding

# Seconds before the second try, doubled before each further one.
_BACK_OFF, _LONGEST_WAIT = 0.5, 60.0
# Request Timeout, Too Early and Too Many Requests pass; other refusals do not.
_PASSING = (408, 425, 429)
# The most that OpenAI's interface gives.
_TOP = 20
_FIRST = {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "seed": 0}
_R = TypeVar("_R")


@dataclass(frozen=True, kw_only=True)
class ServedLM:
    """A language model behind a URL.

    Attributes:
        url: where the interface begins, e.g. "http://127.0.0.1:8000/v1"; without a path, `/v1` is meant.
        model: its name there.
        key_variable: the environment variable that holds the key; "" where none is asked for. The key itself is read
            when a request is made and stands nowhere else.
        chat: whether prompts are conversations, a text then being what the user says: "template" all, "plain" none,
            "auto" those with messages; with a `tokenizer` "auto" is all if it has a chat template (as in `Policy`).
        tokenizer: folder of the model's tokenizer; then prompts are templated and tokenised here, sent as token ids.
        concurrency: requests under way at a time.
        timeout: seconds for one answer.
        retries: how often a request that failed (429, 5xx, no connection, no answer in time) is tried again.
        log_probs: whether `complete` asks for them; some hosts refuse.
        extra: further fields of every request, in the server's own words.
    """

    url: str
    model: str
    key_variable: str = ""
    chat: Literal["auto", "template", "plain"] = "auto"
    tokenizer: str | None = None
    concurrency: int = 16
    timeout: float = 600.0
    retries: int = 4
    log_probs: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ModelError("is no address of a server.", file=self.url, remedy="give http://HOST:PORT/v1.")
        if parts.username is not None or parts.password is not None:
            # Not shown: this very text may be a password.
            raise ModelError("the address holds a password.", field="url", remedy="put it into `key_variable`.")
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0:
            problem = "a server is asked one prompt at a time or more, for some seconds, with no or more further tries."
            raise ModelError(problem, field="concurrency, timeout, retries")
        path = parts.path.rstrip("/") or "/v1"
        object.__setattr__(self, "url", f"{parts.scheme}://{parts.netloc}{path}")

    def complete(self, prompts: Sequence[Prompt], *, seeds: Sequence[int], decoding: Decoding) -> list[Completion]:
        """One completion a (prompt, seed), in their order.

        Raises:
            ModelError: the server refused, failed at every try or answered in another shape; an opening cannot be
                sent; the environment holds no key.
        """
        asked = {
            "max_tokens": decoding.max_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            **({"stop": list(decoding.stop)} if decoding.stop else {}),
        }
        # Servers differ on whether log-probs know the temperature.
        top = 1 if self.log_probs and decoding.temperature == 1 else 0
        rows = zip(prompts, seeds, strict=True)
        requests = [self._request(prompt, {**asked, "seed": int(seed)}, top=top) for prompt, seed in rows]
        return self._each(requests, lambda choice: _completion(choice, self.url))

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]]) -> Float[np.ndarray, "N C"]:
        """The probability that the answer's first token is each choice, spaces aside; 0 for one not among the top 20.

        Raises:
            ModelError: as `complete`, or the server gives no log-probs.
        """
        found = self._each([self._request(prompt, _FIRST, top=_TOP) for prompt in prompts], _top)
        if not all(found):
            remedy = "start the server with log-probs, or judge by a written verdict."
            raise ModelError("gives no log-probs.", file=self.url, field=self.model, remedy=remedy)
        rows = [
            [sum(p for token, p in top if token.strip() == choice) for choice in own]
            for top, own in zip(found, choices, strict=True)
        ]
        return np.array(rows).reshape(len(prompts), -1)

    def tells_probabilities(self) -> bool:
        """Whether `choose` works here; one request."""
        said = ({"role": "user", "content": "Say yes."},)
        return bool(self._each([self._request(Prompt(text="Say yes.", messages=said), _FIRST, top=_TOP)], _top)[0])

    def tell(self, path: str, body: Mapping[str, Any], *, required: bool = True) -> None:
        """Sends a command in the server's own words, whose answer need not be JSON.

        Raises:
            ModelError: it was refused or failed at every try, and it is `required`.
        """
        try:
            self._post(path, body, read=bytes)
        except ModelError:
            if required:
                raise

    def _request(self, prompt: Prompt, fields: Mapping[str, Any], *, top: int) -> tuple[str, dict[str, Any]]:
        """Path and body that ask for one completion, with the `top` likeliest tokens of each step."""
        body = {"model": self.model, **fields}
        tokens = self._tokens(prompt)
        if tokens is not None or not self._is_chat(prompt):
            body |= {"prompt": prompt.text + prompt.opening if tokens is None else tokens}
            return "/completions", {**body, **({"logprobs": top} if top else {}), **self.extra}
        if prompt.opening:
            remedy = "give `tokenizer`, the folder of the model's tokenizer: the chat template is then written here."
            raise ModelError("a chat cannot be told how the answer begins.", field="opening", remedy=remedy)
        body |= {"messages": [dict(message) for message in _messages(prompt)]}
        return "/chat/completions", {**body, **({"logprobs": True, "top_logprobs": top} if top else {}), **self.extra}

    def _is_chat(self, prompt: Prompt) -> bool:
        return self.chat == "template" or (self.chat == "auto" and bool(prompt.messages))

    def _tokens(self, prompt: Prompt) -> list[int] | None:
        if self.tokenizer is None:
            return None
        tokenizer = _tokenizer(self.tokenizer)
        if self.chat == "template" or (self.chat == "auto" and tokenizer.chat_template):
            text = tokenizer.apply_chat_template(_messages(prompt), tokenize=False, add_generation_prompt=True)
            return list(tokenizer(text + prompt.opening, add_special_tokens=False)["input_ids"])
        ids = list(tokenizer(prompt.text + prompt.opening)["input_ids"])
        return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids

    def _each(self, requests: Sequence[tuple[str, dict[str, Any]]], read: Callable[[Any], _R]) -> list[_R]:
        """What `read` finds in the first choice of every answer, in the order of the requests."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            futures = [pool.submit(self._choice, path, body, read) for path, body in requests]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _choice(self, path: str, body: Mapping[str, Any], read: Callable[[Any], _R]) -> _R:
        answer = self._post(path, body)
        try:
            return read(answer["choices"][0])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, ModelError):
                raise
            shown = self._hide(json.dumps(answer)[:200])
            remedy = "give the address of an OpenAI-compatible server."
            raise ModelError(f"answers in another shape: {shown}", file=self.url, remedy=remedy) from error

    def _post(self, path: str, body: Mapping[str, Any], *, read: Callable[[bytes], Any] = json.loads) -> Any:
        """The answer, after as many tries as it takes and is allowed."""
        last, wait, key = "", 0.0, self._key()
        for attempt in range(self.retries + 1):
            time.sleep(max(wait, _BACK_OFF * 2 ** (attempt - 1)) if attempt else 0)
            wait = 0.0
            try:
                return read(self._send(path, json.dumps(body).encode(), key))
            except urllib.error.HTTPError as error:
                last = self._words(error)
                if error.code not in _PASSING and error.code < http.client.INTERNAL_SERVER_ERROR:
                    raise self._refused(error.code, last) from None
                wait = _seconds(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException, json.JSONDecodeError, UnicodeDecodeError) as error:
                last = self._reason(error)
        remedy = "see that the server runs and is not overloaded; fewer at a time: `concurrency`."
        problem = f"failed {self.retries + 1} times; the last time: {last}."
        raise ModelError(problem, file=self.url + path, remedy=remedy)

    def _send(self, path: str, body: bytes, key: str) -> bytes:
        headers = {"Content-Type": "application/json", "User-Agent": "penchant"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url + path, data=body, headers=headers)
        with _opener(self.url).open(request, timeout=self.timeout) as answer:
            return answer.read()

    def _key(self) -> str:
        key = os.environ.get(self.key_variable, "") if self.key_variable else ""
        if self.key_variable and not key:
            remedy = f"set {self.key_variable} in the environment."
            raise ModelError("the environment holds no key.", file=self.url, field="key_variable", remedy=remedy)
        return key

    def _hide(self, text: str) -> str:
        """Without the key: servers quote what they were sent."""
        key = os.environ.get(self.key_variable, "") if self.key_variable else ""
        return text.replace(key, "***") if key else text

    def _words(self, error: urllib.error.HTTPError) -> str:
        try:
            said = json.loads(error.read())
            said = said.get("error", said.get("message", said))
            words = str(said.get("message", said) if isinstance(said, dict) else said)
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            words = str(error.reason)
        return self._hide(f"status {error.code}, {words[:300]}")

    def _refused(self, code: int, words: str) -> ModelError:
        remedies = {
            401: f"put a valid key into {self.key_variable or 'a variable and name it in `key_variable`'}.",
            403: "use a key that may use this model.",
            404: f"name a model of {self.url}/models, and check the address.",
            413: "shorten the prompts.",
        }
        if code < http.client.BAD_REQUEST:
            return ModelError(f"sends elsewhere: {words}.", file=self.url, remedy="give the address it sends to.")
        remedy = remedies.get(code, "change what it objects to.")
        return ModelError(f"refused: {words}.", file=self.url, field=self.model, remedy=remedy)

    def _reason(self, error: Exception) -> str:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            return f"no answer within {self.timeout:g} s"
        return self._hide(f"{type(cause).__name__}: {cause}")


def _messages(prompt: Prompt) -> list[Mapping[str, Any]]:
    return list(prompt.messages) or [{"role": "user", "content": prompt.text}]


def _completion(choice: Any, url: str) -> Completion:
    said = choice.get("message")
    if said is not None and (said.get("reasoning_content") or said.get("reasoning")):
        remedy = "start the server without its reasoning parser, or give `tokenizer`."
        raise ModelError("keeps the model's thought apart from its answer.", file=url, remedy=remedy)
    return Completion(
        text=choice["text"] if said is None else said["content"] or "",
        tokens=tuple(int(token) for token in choice.get("token_ids") or ()),
        log_probs=tuple(log for _, log in _log_probs(choice)),
        finished=choice["finish_reason"] == "stop",
    )


def _log_probs(choice: Any) -> list[tuple[str, float]]:
    """(token, log-prob) of what was generated, in the shape of either endpoint; [] if the server gives none."""
    found = choice.get("logprobs") or {}
    if found.get("content") is not None:
        return [(entry["token"], float(entry["logprob"])) for entry in found["content"]]
    return list(zip(found.get("tokens") or [], map(float, found.get("token_logprobs") or []), strict=True))


def _top(choice: Any) -> list[tuple[str, float]]:
    """(token, probability) of the likeliest first tokens; [] if the server gives none."""
    found = choice.get("logprobs") or {}
    if found.get("content"):
        top = [(entry["token"], entry["logprob"]) for entry in found["content"][0].get("top_logprobs") or []]
    else:
        top = list(((found.get("top_logprobs") or [None])[0] or {}).items())
    return [(str(token), math.exp(float(log))) for token, log in top]


def _seconds(header: str | None) -> float:
    """A Retry-After in seconds; its other form, a date, is left to the back-off."""
    try:
        return min(max(float(header or 0), 0.0), _LONGEST_WAIT)
    except ValueError:
        return 0.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


@functools.cache
def _opener(url: str) -> urllib.request.OpenerDirector:
    # Proxies are for the internet; a server on this machine is not there.
    here = urllib.parse.urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    proxies = urllib.request.ProxyHandler({}) if here else urllib.request.ProxyHandler()
    return urllib.request.build_opener(_NoRedirect, proxies)


@functools.cache
def _tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"holds no tokenizer ({error}).", file=folder, remedy="give the model's folder.") from error
