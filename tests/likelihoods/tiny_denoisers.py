"""Tiny real denoisers and batches: a linear model of latents, time and conditions; and one that knows the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from penchant.likelihoods import gaussian
from penchant.types import CandidateBatch, Denoiser

SHAPE = (2, 3, 3)


class LinearDenoiser(Denoiser):
    """prediction = w0 x_t + w1 t + w2 <prompt> + w3 <micro>, row by row."""

    def __init__(
        self, weights: Tensor, *, prediction: str, alphas_cumprod: Tensor | None = None, shift: float = 1.0
    ) -> None:
        self.weights, self.shift = weights, shift
        self.prediction = prediction  # type: ignore[assignment]
        self.alphas_cumprod = alphas_cumprod
        self.rows = 0

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        self.rows += len(noisy_N)
        scalar_N = self.weights[1] * time_N / (1 if self.prediction == "velocity" else 1000)
        scalar_N = scalar_N + self.weights[2] * condition["prompt"].mean((1, 2))
        if "micro" in candidates:
            scalar_N = scalar_N + self.weights[3] * candidates["micro"].mean(1)
        return self.weights[0] * noisy_N + scalar_N.reshape(-1, *[1] * (noisy_N.dim() - 1))

    def unconditional(self) -> Mapping[str, Tensor]:
        return {"prompt": torch.full((1, 4, 2), -3.0, dtype=self.weights.dtype)}


def linear(kind: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, grad: bool = False) -> LinearDenoiser:
    weights = torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    alphas = None if kind == "velocity" else gaussian.alphas_cumprod()
    return LinearDenoiser(weights.requires_grad_(grad), prediction=kind, alphas_cumprod=alphas, shift=3.0)


class Oracle(Denoiser):
    """Knows the data: answers the exact target of whatever quantity it predicts, from the noisy latents alone."""

    def __init__(self, x0: Tensor, *, prediction: str, alphas_cumprod: Tensor | None = None) -> None:
        self.x0, self.shift, self.alphas_cumprod = x0, 3.0, alphas_cumprod
        self.prediction = prediction  # type: ignore[assignment]

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        if self.alphas_cumprod is None:
            a, s = gaussian.flow_coefficients(time_N)
        else:
            a, s = gaussian.ddpm_coefficients(self.alphas_cumprod, time_N)
        a, s = (c.to(noisy_N).reshape(-1, *[1] * (noisy_N.dim() - 1)) for c in (a, s))
        noise = (noisy_N - a * self.x0) / s
        answer = {"epsilon": noise, "v_prediction": a * noise - s * self.x0, "velocity": noise - self.x0}
        return answer[self.prediction] if self.prediction in answer else self.x0.expand_as(noisy_N)

    def unconditional(self) -> Mapping[str, Tensor]:
        return {}


def batch(
    groups: Sequence[int] = (0, 1, 2),
    *,
    K: int = 2,
    shape: Sequence[int] = SHAPE,
    dtype: torch.dtype = torch.float32,
) -> CandidateBatch:
    """The groups named by `groups`: the same number gives the same content in every batch."""

    def of(group: int, *size: int) -> Tensor:
        return torch.randn(*size, generator=torch.Generator().manual_seed(group), dtype=torch.float64).to(dtype)

    return CandidateBatch(
        group_ids=tuple(f"group-{g}" for g in groups),
        sample_ids=tuple(tuple(f"sample-{g}-{k}" for k in range(K)) for g in groups),
        prompts=tuple(f"prompt {g}" for g in groups),
        candidates={
            "latents": torch.stack([of(g, K, *shape) for g in groups]),
            "micro": torch.stack([of(g + 1000, K, 2) for g in groups]),
        },
        condition={"prompt": torch.stack([of(g + 2000, 4, 2) for g in groups])},
        scores_BK=torch.arange(K).expand(len(groups), K).float(),
        mask_BK=torch.ones(len(groups), K, dtype=torch.bool),
    )
