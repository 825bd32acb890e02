"""A language model behind HTTP in OpenAI's shape, for tests: a real model in a process of its own, and its misfortunes.

    python lm_server.py FOLDER

Its port stands on the first line of stdout. The model's name says what befalls the request: "tiny" nothing, "keyed"
asks for the key "secret-key", "busy:N" is 429 the first N times, "broken" is 500, "slow" sleeps, "hangs up" sends
nothing, "elsewhere" redirects, "mute" gives no log-probs, "thinks" hides the thought, "garbage" and "odd" are nonsense.
`GET /log` is what was asked so far. Adapters are taken up and let go as by vLLM; their names are further models.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

import penchant
from penchant.feedback.groups import Prompt
from penchant.models.completion import Decoding

LOG: list[dict[str, Any]] = []
SEEN: Counter[str] = Counter()
ADAPTED: dict[str, Any] = {}
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    model: Any

    def do_GET(self) -> None:
        if self.path != "/log":
            LOG.append({"path": self.path, "body": {"model": "elsewhere"}, "key": self.headers.get("Authorization")})
        self.reply(200, LOG)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("_lora_adapter"):
            return self.adapter(body)
        name = body["model"]
        with LOCK:
            LOG.append({"path": self.path, "body": body, "key": self.headers.get("Authorization")})
            SEEN[name] += 1
            seen = SEEN[name]
        if name == "keyed" and self.headers.get("Authorization") != "Bearer secret-key":
            return self.reply(401, {"error": {"message": f"Incorrect key: {self.headers.get('Authorization')}"}})
        if name.startswith("busy:") and seen <= int(name.removeprefix("busy:")):
            return self.reply(429, {"error": "too many"}, {"Retry-After": "0"})
        if name == "broken":
            return self.reply(500, {"error": {"message": "the engine died"}})
        if name == "unknown":
            return self.reply(404, {"object": "error", "message": "The model `unknown` does not exist."})
        if name == "elsewhere":
            return self.reply(302, {}, {"Location": "/v1/stolen"})
        if name == "slow":
            time.sleep(2)
        if name == "hangs up":
            return self.connection.close()
        if name == "garbage":
            return self.reply(200, None)
        if name == "odd":
            return self.reply(200, {"choices": []})
        with LOCK:
            self.reply(200, {"choices": [self.choice(body)]})

    def adapter(self, body: dict[str, Any]) -> None:
        """Takes an adapter up or lets it go, and answers in plain words, as vLLM does."""
        name = body["lora_name"]
        with LOCK:
            LOG.append({"path": self.path, "body": {"model": name, **body}, "key": self.headers.get("Authorization")})
            if self.path.endswith("/unload_lora_adapter"):
                return self.reply(200 if ADAPTED.pop(name, None) else 404, f"Success: {name}")
            ADAPTED[name] = penchant.load(sys.argv[1], adapter=body["lora_path"])
        self.reply(200, f"Success: LoRA adapter '{name}' added successfully.")

    def choice(self, body: dict[str, Any]) -> dict[str, Any]:
        """The completion of one request, as either endpoint puts it."""
        if chat := self.path.endswith("/chat/completions"):
            prompt = Prompt(text="", messages=tuple(body["messages"]))
        else:
            prompt = body["prompt"]
        tokens, log_probs, finished, text = self.complete(prompt, body)
        choice: dict[str, Any] = {"finish_reason": "stop" if finished else "length"}
        if body.get("return_token_ids"):
            choice["token_ids"] = tokens
        spelt = [self.model.tokenizer.decode([token]) for token in tokens]
        top = [] if body["model"] == "mute" else self.top(prompt, body)
        if chat:
            choice["message"] = {"role": "assistant", "content": text}
            if body["model"] == "thinks":
                choice["message"]["reasoning_content"] = "Hmm."
            if body.get("logprobs") and top:
                entries = [{"token": t, "logprob": p} for t, p in zip(spelt, log_probs, strict=True)]
                entries[0]["top_logprobs"] = [{"token": t, "logprob": p} for t, p in top]
                choice["logprobs"] = {"content": entries}
            return choice
        choice["text"] = text
        if body.get("logprobs") and top:
            choice["logprobs"] = {"tokens": spelt, "token_logprobs": log_probs, "top_logprobs": [dict(top)]}
        return choice

    def ids(self, prompt: Any) -> list[int]:
        if isinstance(prompt, Prompt):
            return self.model.prompt_tokens(prompt)
        return prompt if isinstance(prompt, list) else list(self.model.tokenizer(prompt)["input_ids"])

    def complete(self, prompt: Any, body: dict[str, Any]) -> tuple[list[int], list[float], bool, str]:
        decoding = Decoding(
            max_tokens=body["max_tokens"],
            temperature=body["temperature"],
            top_p=body["top_p"],
            stop=tuple(body.get("stop", ())),
        )
        ids = self.ids(prompt)
        (done,) = Exactly(ADAPTED.get(body["model"], self.model), ids).complete(
            [Prompt(text="-")], seeds=[body["seed"]], decoding=decoding
        )
        return list(done.tokens), list(done.log_probs), done.finished, done.text

    def top(self, prompt: Any, body: dict[str, Any]) -> list[tuple[str, float]]:
        count = body.get("top_logprobs", body.get("logprobs")) or 0
        with torch.no_grad():
            logits = self.model.bare(torch.tensor([self.ids(prompt)])).logits[0, -1].float()
        values, indices = logits.log_softmax(-1).topk(int(count))
        return [(self.model.tokenizer.decode([int(i)]), float(v)) for i, v in zip(indices, values, strict=True)]

    def reply(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = b"<html>no json</html>" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class Exactly:
    """The model with its prompt given as token ids, whatever text it is shown."""

    def __init__(self, model: Any, ids: list[int]) -> None:
        import copy

        self.model = copy.copy(model)
        self.model.prompt_tokens = lambda _: ids

    def complete(self, *arguments: Any, **options: Any) -> Any:
        return self.model.complete(*arguments, **options)


if __name__ == "__main__":
    Handler.model = penchant.load(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    # The tests' process holds stdin; when it is gone, so is the server.
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever()
