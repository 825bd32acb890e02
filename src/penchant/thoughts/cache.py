"""Completions on disk: what a generator answered once is not asked again, so a killed construction goes on.

A row's key is a hash of the generator's name (its weights), the prompt with its messages and its opening, the seed and
how tokens are drawn. Rows are asked for a chunk at a time and committed chunk by chunk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from penchant.errors import RecipeError
from penchant.feedback.groups import Prompt, digest
from penchant.models.completion import Completion, Decoding, TextGenerator

# Rows whose loss a kill may cost. Neighbours share prefixes, so a chunk is large.
_CHUNK = 4096


class CachedGenerator:
    """A `TextGenerator` in front of another; `hits` and `misses` count rows.

    Log-probs are not kept.
    """

    def __init__(self, inner: TextGenerator, path: Path, *, name: str) -> None:
        """
        Args:
            inner: who is asked.
            path: SQLite file on a local disk.
            name: of `inner`'s weights, e.g. its fingerprint: another model must have another.

        Raises:
            RecipeError: the file is something else.
        """
        self.inner, self.name, self.hits, self.misses = inner, name, 0, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS completion (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise RecipeError(f"is no completion cache ({error}).", file=path, remedy="delete it.") from error

    def complete(self, prompts: Sequence[Prompt], *, seeds: Sequence[int], decoding: Decoding) -> list[Completion]:
        """One completion a (prompt, seed), from the file where it is there."""
        how = json.dumps(asdict(decoding), sort_keys=True)
        keys = [self._key(prompt, int(seed), how) for prompt, seed in zip(prompts, seeds, strict=True)]
        found = self._read(keys)
        places = {key: i for i, key in enumerate(keys) if key not in found}
        missing = list(places)
        self.misses += len(missing)
        self.hits += len(keys) - len(missing)
        for start in range(0, len(missing), _CHUNK):
            some = missing[start : start + _CHUNK]
            rows = [places[key] for key in some]
            made = self.inner.complete([prompts[i] for i in rows], seeds=[seeds[i] for i in rows], decoding=decoding)
            self._write(some, made)
            found.update(zip(some, made, strict=True))
        return [found[key] for key in keys]

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def _key(self, prompt: Prompt, seed: int, how: str) -> str:
        messages = json.dumps([dict(message) for message in prompt.messages], sort_keys=True)
        return digest("completion-1", self.name, prompt.text, messages, prompt.opening, str(seed), how)

    def _read(self, keys: Sequence[str]) -> dict[str, Completion]:
        found: dict[str, Completion] = {}
        wanted = list(dict.fromkeys(keys))
        for start in range(0, len(wanted), 500):
            some = wanted[start : start + 500]
            marks = ",".join("?" * len(some))
            rows = self._database.execute(f"SELECT key, value FROM completion WHERE key IN ({marks})", some)
            for key, value in rows:
                text, tokens, finished = json.loads(value)
                found[key] = Completion(text=text, tokens=tuple(tokens), finished=finished)
        return found

    def _write(self, keys: Sequence[str], made: Sequence[Completion]) -> None:
        rows = [(key, json.dumps([c.text, list(c.tokens), c.finished])) for key, c in zip(keys, made, strict=True)]
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO completion VALUES (?, ?)", rows)
            self._database.execute("COMMIT")
