"""Samples of a model at fixed seeds, kept by content: a base is sampled once for a whole sweep."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penchant.errors import MediaError
from penchant.feedback.groups import Prompt
from penchant.sampling.samplers import Sampler


class SampleCache:
    """Samples of any modality under `folder`, keyed by (what the sampler depends on, prompt, seed)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def sample(
        self,
        sampler: Sampler,
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """One sample a (prompt, seed); only what is missing is drawn, batch by batch, so a stop loses one batch.

        Raises:
            MediaError: a kept file is damaged.
        """
        name = sampler.name()
        pairs = zip(prompts, seeds, strict=True)
        files = [self._file(name, sampler.key(prompt), seed, sampler.codec.suffix) for prompt, seed in pairs]
        todo = [i for i, file in enumerate(files) if not file.exists()]
        for start in range(0, len(todo), sampler.batch_size):
            rows = todo[start : start + sampler.batch_size]
            drawn = sampler.draw([prompts[i] for i in rows], [seeds[i] for i in rows])
            for i, sample in zip(rows, drawn, strict=True):
                # Processes may share the folder.
                partial = files[i].with_suffix(f".{os.getpid()}.partial")
                partial.write_bytes(sampler.codec.encode(sample))
                partial.replace(files[i])
            if progress is not None:
                progress(start + len(rows), len(todo))
        return [self._read(sampler, file) for file in files]

    def _read(self, sampler: Sampler, file: Path) -> Any:
        try:
            return sampler.codec.decode(file.read_bytes())
        except MediaError as error:
            raise MediaError(error.problem, file=file, remedy="delete it; it is then sampled again.") from error

    def _file(self, name: str, prompt: str, seed: int, suffix: str) -> Path:
        key = hashlib.blake2b(f"{name}\x1f{prompt}\x1f{seed}".encode(), digest_size=16).hexdigest()
        return self.folder / f"{key}{suffix}"
