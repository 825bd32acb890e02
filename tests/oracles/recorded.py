"""Reading the recorded numbers, and a denoiser that replays recorded predictions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from penchant.types import CandidateBatch, Denoiser, Draw, LogProbs

FOLDER = Path(os.environ.get("PENCHANT_ORACLES", Path(__file__).parent))
DTYPES = {"": torch.float32, "64": torch.float64}


class Recording:
    """One npz file: `array` with the dtype of its run, `p`, `out` and `metric` of a case."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            self.arrays = {key: file[key] for key in file.files}
        self.scalars = {
            k.removesuffix(".scalars"): json.loads(str(v)) for k, v in self.arrays.items() if "scalars" in k
        }

    def has(self, key: str) -> bool:
        return key in self.arrays

    def tensor(self, key: str, dtype: torch.dtype | None = None) -> Tensor:
        value = torch.from_numpy(np.array(self.arrays[key]))
        return value.to(dtype) if dtype is not None and value.is_floating_point() else value

    def runs(self) -> Iterator[tuple[str, str]]:
        """(case, suffix) of every recorded loss, float32 and float64."""
        for case, scalars in self.scalars.items():
            yield from ((case, suffix) for suffix in ("", "64") if "loss" in scalars.get("out" + suffix, {}))


def runs(name: str, *cases: str) -> list[tuple[str, str]]:
    """Parameters for pytest: every run of a file, or those whose case starts with one of `cases`."""
    return [run for run in Recording(name).runs() if not cases or run[0].startswith(cases)]


def as_groups(rows: Tensor) -> Tensor:
    """[winners; losers] rows as groups [B, 2, ...]; in every second group the loser stands first."""
    pairs = rows.reshape(2, len(rows) // 2, *rows.shape[1:]).transpose(0, 1).clone()
    pairs[1::2] = pairs[1::2].flip(1)
    return pairs


def as_rows(groups: Tensor) -> Tensor:
    """The inverse of `as_groups`."""
    pairs = groups.clone()
    pairs[1::2] = pairs[1::2].flip(1)
    return pairs.transpose(0, 1).reshape(-1, *groups.shape[2:])


def winner_scores(count: int) -> Tensor:
    """Scores [B, 2] that go with `as_groups` of 2 B rows."""
    return as_groups(torch.tensor([1.0, 0.0]).repeat_interleave(count // 2))


def paired_batch(latents: Tensor) -> CandidateBatch:
    """A batch of pairs from [winners; losers] latents."""
    groups = as_groups(latents)
    B = len(groups)
    return CandidateBatch(
        group_ids=tuple(f"g{b}" for b in range(B)),
        sample_ids=tuple((f"s{b}0", f"s{b}1") for b in range(B)),
        prompts=("",) * B,
        candidates={"latents": groups},
        condition={},
        scores_BK=winner_scores(len(latents)),
        mask_BK=torch.ones(B, 2, dtype=torch.bool),
    )


def paired_draw(time: Tensor, noise: Tensor) -> Draw:
    """The draw that recorded times and noises of [winners; losers] rows amount to, with T = 1."""
    return Draw(
        key_B=("",) * (len(time) // 2), time_BKT=as_groups(time)[:, :, None], noise_BKT=as_groups(noise)[:, :, None]
    )


class Replay(Denoiser):
    """Answers with recorded [winners; losers] predictions and remembers what it was asked."""

    def __init__(
        self, answer: Tensor, *, prediction: str, alphas_cumprod: Tensor | None = None, shift: float = 1.0
    ) -> None:
        self.answer = answer
        self.prediction = prediction  # type: ignore[assignment]
        self.alphas_cumprod, self.shift = alphas_cumprod, shift
        self.noisy = self.time = torch.empty(0)

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        B = len(noisy_N) // 2
        self.noisy = as_rows(noisy_N.reshape(B, 2, *noisy_N.shape[1:]))
        self.time = as_rows(time_N.reshape(B, 2))
        return as_groups(self.answer).flatten(0, 1)

    def unconditional(self) -> Mapping[str, Tensor]:
        return {}


def errors(log_probs: LogProbs) -> Tensor:
    """Mean squared errors of [winners; losers] rows."""
    return -2 * as_rows(log_probs.total().detach())
