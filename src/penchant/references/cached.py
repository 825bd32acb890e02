"""Reference log-probs on disk: what a frozen model says about a (sample, draw) need be asked only once.

The draw is a pure function of (seed, epoch, group), so the same rows come back in every run of a sweep over beta,
learning rate or objective, in any batch layout. A row's key is a hash of

    the reference's weights and encoders, the likelihood, the sample id, the prompt, the draw's key,
    the row's timesteps, the head of its noise, and whether its caption is dropped.

The last line makes the key safe where candidates of a group draw for themselves. A sample id must name what was
encoded: a mirrored picture needs an id of its own. An exact density draws nothing: its row is one value a token, and
the tokens of prompt and completion stand in the key in place of a draw.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from penchant.errors import RecipeError
from penchant.references.base import ReferenceModel
from penchant.types import CandidateBatch, Draw, Likelihood, LogProbs

# Raised when what is stored, or what names it, changes its meaning.
_FORMAT = "penchant-reference-1"
_NOISE_HEAD = 32


@final
class Cached(ReferenceModel):
    """Wraps another reference; `hits`, `misses` and `corrupt` count rows (a corrupt row is also a miss).

    The file is SQLite in write-ahead mode, so several processes of one machine may share it; keep it on a local disk.
    Predictions are not stored: with `keep_output` the inner reference answers.
    """

    def __init__(self, inner: ReferenceModel, path: str | Path) -> None:
        """Open or create the cache.

        Raises:
            RecipeError: the file is something else.
        """
        self.inner, self.path = inner, Path(path)
        self.hits = self.misses = self.corrupt = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self.path, timeout=60.0, isolation_level=None)
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS reference (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise RecipeError(
                f"is no reference cache ({error}).", file=path, remedy="delete it or name another file."
            ) from error

    @torch.no_grad()
    def log_prob(
        self, likelihood: Likelihood, policy: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False
    ) -> LogProbs:
        if keep_output:
            return self.inner.log_prob(likelihood, policy, batch, draw, keep_output=True)
        if draw.time_BKT is None and likelihood.density != "exact":
            raise RecipeError(
                f"{type(likelihood).__name__} draws no timesteps, and only what is drawn or exact is cached.",
                field="reference.cache",
                remedy="leave the cache off.",
            )
        shape = _shape(batch, draw)
        wanted = batch.mask_BK.cpu()
        keys = self._keys(likelihood, policy, batch, draw)
        step_BKT = torch.zeros(*batch.shape, shape.width)
        missing = wanted.clone()
        for b, k in wanted.nonzero().tolist():
            length = shape.lengths[b][k]
            row = self._read(keys[b][k], length)
            if row is not None:
                step_BKT[b, k, :length], missing[b, k] = row, False
        if missing.any():
            self._fill(step_BKT, missing, keys, likelihood, policy, batch, draw)
        self.misses += int(missing.sum())
        self.hits += int(wanted.sum() - missing.sum())
        device = batch.mask_BK.device
        length_BK = torch.tensor(shape.lengths, device=device)
        mask_BKT = torch.arange(shape.width, device=device) < torch.where(batch.mask_BK, length_BK, 0)[..., None]
        return LogProbs(step_BKT=step_BKT.to(device), mask_BKT=mask_BKT, density=likelihood.density)

    def fingerprint(self, policy: Any) -> str:
        return self.inner.fingerprint(policy)

    def describe(self) -> str:
        return f"{self.inner.describe()}, log-probs cached in {self.path}"

    def _fill(
        self,
        step_BKT: Tensor,
        missing: Tensor,
        keys: list[list[bytes]],
        likelihood: Likelihood,
        policy: Any,
        batch: CandidateBatch,
        draw: Draw,
    ) -> None:
        """Ask the inner reference about the groups that lack a row; write the rows to `step_BKT` and to disk."""
        groups = missing.any(1).nonzero().flatten().tolist()
        live = self.inner.log_prob(likelihood, policy, _groups(batch, groups), _drawn(draw, groups))
        assert live.step_BKT.dtype == torch.float32, "log-probs are reduced in float32"
        found, lengths = live.step_BKT.cpu(), _shape(batch, draw).lengths
        rows = []
        for position, b in enumerate(groups):
            for k in missing[b].nonzero().flatten().tolist():
                row = found[position, k, : lengths[b][k]]
                step_BKT[b, k, : lengths[b][k]] = row
                if bool(row.isfinite().all()):
                    rows.append((keys[b][k], row.contiguous().numpy().tobytes()))
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO reference VALUES (?, ?)", rows)

    def _read(self, key: bytes, steps: int) -> Tensor | None:
        row = self._database.execute("SELECT value FROM reference WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        value = row[0]
        if isinstance(value, bytes) and len(value) == 4 * steps:
            values = torch.from_numpy(np.frombuffer(value, dtype="<f4").copy())
            if bool(values.isfinite().all()):
                return values
        self.corrupt += 1
        return None

    def _keys(self, likelihood: Likelihood, policy: Any, batch: CandidateBatch, draw: Draw) -> list[list[bytes]]:
        shared = (_FORMAT, self.inner.fingerprint(policy), repr(likelihood))
        time_BKT = None if draw.time_BKT is None else draw.time_BKT.cpu().double()
        noise = None if draw.noise_BKT is None else draw.noise_BKT.flatten(3)[..., :_NOISE_HEAD].cpu().float()
        dropped_B = None if draw.dropped_B is None else draw.dropped_B.tolist()
        count, candidates = batch.shape
        keys = []
        for b in range(count):
            group = (*shared, batch.prompts[b], draw.key_B[b], "" if dropped_B is None else dropped_B[b])
            row = []
            for k in range(candidates):
                digest = hashlib.blake2b(_joined((*group, batch.sample_ids[b][k])), digest_size=20)
                said = _tokens(batch, b, k) if time_BKT is None else time_BKT[b, k]
                digest.update(said.contiguous().numpy().tobytes())
                digest.update(b"" if noise is None else noise[b, k].contiguous().numpy().tobytes())
                row.append(digest.digest())
            keys.append(row)
        return keys


@dataclass(frozen=True)
class _Shape:
    """How many values each row has, and the width that holds them all."""

    lengths: list[list[int]]
    width: int


def _shape(batch: CandidateBatch, draw: Draw) -> _Shape:
    if draw.time_BKT is not None:
        steps = draw.time_BKT.shape[2]
        return _Shape([[steps] * batch.shape[1]] * batch.shape[0], steps)
    return _Shape(batch.candidates["length"].tolist(), batch.candidates["tokens"].shape[-1])


def _tokens(batch: CandidateBatch, b: int, k: int) -> Tensor:
    """Lengths and tokens of a prompt and its candidate: the padding of a batch names nothing."""
    prompt, length = batch.condition["prompt_length"][b].cpu(), batch.candidates["length"][b, k].cpu()
    asked, answered = batch.condition["prompt"][b, :prompt].cpu(), batch.candidates["tokens"][b, k, ..., :length].cpu()
    return torch.cat([torch.stack([prompt, length]), asked, answered.flatten()])


def _joined(parts: Sequence[object]) -> bytes:
    # Lengths first: no two lists of parts share an encoding.
    return b"".join(f"{len(text)}:{text}".encode() for text in map(str, parts))


def _groups(batch: CandidateBatch, index: list[int]) -> CandidateBatch:
    """The batch with the groups in `index` alone."""
    return replace(
        batch,
        group_ids=tuple(batch.group_ids[b] for b in index),
        sample_ids=tuple(batch.sample_ids[b] for b in index),
        prompts=tuple(batch.prompts[b] for b in index),
        candidates={name: value[index] for name, value in batch.candidates.items()},
        condition={name: value[index] for name, value in batch.condition.items()},
        scores_BK=batch.scores_BK[index],
        mask_BK=batch.mask_BK[index],
    )


def _drawn(draw: Draw, index: list[int]) -> Draw:
    """The draws of the groups in `index`."""
    return replace(
        draw,
        key_B=tuple(draw.key_B[b] for b in index),
        time_BKT=None if draw.time_BKT is None else draw.time_BKT[index],
        noise_BKT=None if draw.noise_BKT is None else draw.noise_BKT[index],
        dropped_B=None if draw.dropped_B is None else draw.dropped_B[index],
    )
