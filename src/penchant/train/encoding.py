"""From groups to batches: latents and texts are encoded once, kept by content, and reused by every run.

The cache is one SQLite file of tensors in safetensors form. A key hashes the encoders' weights and what was encoded
(candidate content, mirroring, seed; or the prompt), so a changed VAE or picture can never meet an old latent.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from penchant.errors import RecipeError
from penchant.feedback.groups import Candidate, Prompt
from penchant.feedback.views import ScoredGroup
from penchant.likelihoods.randomness import generator
from penchant.types import CandidateBatch

Tensors = Mapping[str, Tensor]


class TensorCache:
    """Named tensors by key, on disk; safe to share between processes of one machine."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS tensors (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise RecipeError(f"is no encoding cache ({error}).", file=path, remedy="delete it.") from error

    def get(self, key: str) -> Tensors | None:
        """The tensors, or None if they are not there or not readable (they are then made again)."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        row = self._database.execute("SELECT value FROM tensors WHERE key = ?", (key,)).fetchone()
        try:
            return None if row is None else load(row[0])
        except (SafetensorError, ValueError):
            return None

    def put(self, items: Iterable[tuple[str, Tensors]]) -> None:
        """Stores tensors under their keys, all or none."""
        from safetensors.torch import save

        rows = [(key, save({k: v.detach().cpu().contiguous() for k, v in value.items()})) for key, value in items]
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO tensors VALUES (?, ?)", rows)
            self._database.execute("COMMIT")


def cache_key(*parts: object) -> str:
    """A name of what an encoding was made of and by."""
    return hashlib.blake2b("\x1f".join(str(p) for p in parts).encode(), digest_size=20).hexdigest()


class Encoder:
    """Turns scored groups into `CandidateBatch`es for one model."""

    def __init__(self, model: Any, cache: Path, *, seed: int, flip: bool) -> None:
        self.model, self.seed, self.flip = model, seed, flip
        self.cache = TensorCache(cache)
        self.name = model.encoder_fingerprint()

    def flipped(self, group: ScoredGroup) -> bool:
        """Whether a group is mirrored: counted by its id, the same for all its candidates."""
        return self.flip and bool(generator(self.seed, 0, group.group.id, "flip").integers(2))

    def prepare(self, groups: Sequence[ScoredGroup], progress: Callable[[int, int], None] | None = None) -> int:
        """Encodes whatever the cache lacks, a few at a time; returns how many candidates and prompts were encoded."""
        wanted = {
            self._candidate_key(c, flip): (c, flip)
            for g in groups
            for flip in [self.flipped(g)]
            for c in g.group.candidates
        }
        prompts = {self._prompt_key(asked): asked for g in groups for asked in [g.group.asked()]}
        todo_candidates = [key for key in wanted if self.cache.get(key) is None]
        todo_prompts = [key for key in prompts if self.cache.get(key) is None]
        total, done = len(todo_candidates) + len(todo_prompts), 0
        for keys, encode in ((todo_candidates, self._encode_candidates), (todo_prompts, self._encode_prompts)):
            source: Mapping[str, Any] = wanted if keys is todo_candidates else prompts
            for start in range(0, len(keys), 32):
                chunk = keys[start : start + 32]
                self.cache.put(zip(chunk, encode([source[key] for key in chunk]), strict=True))
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
        return total

    def batch(self, groups: Sequence[ScoredGroup]) -> CandidateBatch:
        """The groups, padded to the largest K among them."""
        width = max(len(g.scores) for g in groups)
        rows = [self._candidates(g, width) for g in groups]
        prompts = [self._cached(self._prompt_key(g.group.asked())) for g in groups]
        scores = torch.zeros(len(groups), width)
        mask = torch.zeros(len(groups), width, dtype=torch.bool)
        for b, g in enumerate(groups):
            scores[b, : len(g.scores)] = torch.tensor(g.scores)
            mask[b, : len(g.scores)] = True
        return CandidateBatch(
            group_ids=tuple(g.group.id for g in groups),
            sample_ids=tuple(self._sample_ids(g, width) for g in groups),
            prompts=tuple(g.group.prompt for g in groups),
            candidates={name: padded([row[name] for row in rows]) for name in rows[0]},
            condition={name: padded([p[name] for p in prompts]) for name in prompts[0]},
            scores_BK=scores,
            mask_BK=mask,
        )

    def _sample_ids(self, group: ScoredGroup, width: int) -> tuple[str, ...]:
        # What was encoded, mirrored or not: the reference cache trusts these names.
        ids = [self._candidate_key(c, self.flipped(group)) for c in group.group.candidates]
        return tuple(ids + [""] * (width - len(ids)))

    def _candidates(self, group: ScoredGroup, width: int) -> dict[str, Tensor]:
        flip = self.flipped(group)
        rows = [self._cached(self._candidate_key(c, flip)) for c in group.group.candidates]
        rows += [rows[0]] * (width - len(rows))
        return {name: padded([row[name] for row in rows]) for name in rows[0]}

    def _cached(self, key: str) -> Tensors:
        found = self.cache.get(key)
        if found is None:
            raise RecipeError("an encoding is missing from the cache.", remedy="run `prepare` on these groups first.")
        return found

    def _candidate_key(self, candidate: Candidate, flip: bool) -> str:
        return cache_key("candidate", self.name, candidate.id, flip, self.seed)

    def _prompt_key(self, prompt: Prompt) -> str:
        return cache_key("prompt", self.name, prompt.text, *map(sorted, (m.items() for m in prompt.messages)))

    def _encode_candidates(self, items: Sequence[tuple[Candidate, bool]]) -> list[Tensors]:
        candidates, flips = [c for c, _ in items], [flip for _, flip in items]
        return list(self.model.encode_candidates(candidates, flips=flips, seed=self.seed))

    def _encode_prompts(self, prompts: Sequence[Prompt]) -> list[Tensors]:
        return list(self.model.encode_asked(prompts))


def padded(tensors: Sequence[Tensor]) -> Tensor:
    """Stacked, shorter ones (texts) padded with zeros at the end of every axis."""
    shape = [max(sizes) for sizes in zip(*(t.shape for t in tensors), strict=True)]
    out = tensors[0].new_zeros((len(tensors), *shape))
    for row, tensor in zip(out, tensors, strict=True):
        row[tuple(slice(size) for size in tensor.shape)] = tensor
    return out
