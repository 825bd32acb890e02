"""Pictures of a model at fixed seeds, kept by content: a base is sampled once for a whole sweep."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


class SampleCache:
    """Samples under `folder`, keyed by (model weights, sampler, prompt, seed, steps, guidance)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def sample(
        self,
        model: Any,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        batch_size: int = 16,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        """One picture a (prompt, seed); only what is missing is sampled, batch by batch, so a stop loses one batch."""
        name = f"{model.fingerprint()}-{model.encoder_fingerprint()}-{model.sampler()}-{steps}-{guidance}"
        files = [self._file(name, p, s) for p, s in zip(prompts, seeds, strict=True)]
        todo = [i for i, file in enumerate(files) if not file.exists()]
        for start in range(0, len(todo), batch_size):
            rows = todo[start : start + batch_size]
            images = model.generate(
                [prompts[i] for i in rows],
                seeds=[seeds[i] for i in rows],
                steps=steps,
                guidance=guidance,
                batch_size=batch_size,
            )
            for i, image in zip(rows, images, strict=True):
                partial = files[i].with_suffix(f".{os.getpid()}.partial")
                image.save(partial, "PNG")
                partial.replace(files[i])
            if progress is not None:
                progress(start + len(rows), len(todo))
        return [Image.open(file).convert("RGB") for file in files]

    def _file(self, name: str, prompt: str, seed: int) -> Path:
        key = hashlib.blake2b(f"{name}\x1f{prompt}\x1f{seed}".encode(), digest_size=16).hexdigest()
        return self.folder / f"{key}.png"
