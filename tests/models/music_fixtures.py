"""Tiny music models, sounds and batches that the music tests share."""

from __future__ import annotations

import numpy as np
import torch

from penchant.feedback.groups import Prompt
from penchant.feedback.sound import Sound
from penchant.types import CandidateBatch

PROMPTS = (Prompt(text="a lively jig"), Prompt(text="slow waltz for two fiddles and a drum"))


def noise(seconds: float = 0.25, *, rate: int = 8000, channels: int = 1, seed: int = 0) -> Sound:
    """White noise at half of full scale."""
    rng = np.random.default_rng(seed)
    samples = rng.uniform(-0.5, 0.5, (channels, round(seconds * rate)))
    return Sound(samples=samples.astype(np.float32), rate=rate)


def codes(model, count: int, *, seed: int = 0) -> torch.Tensor:
    """Random codes [count, Kq, N]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 64, (count, len(model.waits), model.frames), generator=generator)


def music_batch(model, *, groups: int = 2, K: int = 2) -> CandidateBatch:
    """Groups of random codes, the first preferred."""
    rows = [model.grid_of(code) for code in codes(model, groups * K)]
    asked = model.encode_asked([PROMPTS[b % 2] for b in range(groups)])
    longest = max(len(row["prompt"]) for row in asked)
    prompts = [torch.nn.functional.pad(row["prompt"], (0, longest - len(row["prompt"]))) for row in asked]
    return CandidateBatch(
        group_ids=tuple(f"g{b}" for b in range(groups)),
        sample_ids=tuple(tuple(f"s{b}{k}" for k in range(K)) for b in range(groups)),
        prompts=tuple(PROMPTS[b % 2].text for b in range(groups)),
        candidates={name: torch.stack([row[name] for row in rows]).unflatten(0, (groups, K)) for name in rows[0]},
        condition={"prompt": torch.stack(prompts), "prompt_length": torch.stack([r["prompt_length"] for r in asked])},
        scores_BK=torch.arange(K, 0, -1.0).repeat(groups, 1),
        mask_BK=torch.ones(groups, K, dtype=torch.bool),
    )
