"""Diffusion likelihood: -1/2 * mean squared error of the denoiser at a drawn timestep (Ho et al., 2006.11239).

    log p(x0 | c)  ~  -1/2 * mean_over_dims (target - prediction(x_t, t, c))^2,   x_t = a_t x0 + s_t eps

The candidates of a group share timestep, noise and caption dropout (Diffusion-DPO, arXiv 2311.12908, S9), and so do
policy and reference: the comparison is between images, not between draws of noise.

Where we differ:

1. The bound is not weighted by T or omega(lambda_t): as in Diffusion-DPO's code both are folded into beta.
2. Noise comes from a counter, not from a stream: it depends on (seed, epoch, group id) and on nothing else.

Timestep rules of the peers, both on a uniform integer u (Diffusion-DPO train.py):

    SDXL refiner   t = u mod 200                      timestep_range=(0, 200)
    SDXL Turbo     t = 250 * (u mod 4) + 249          timesteps=(249, 499, 749, 999), zero_terminal_snr=True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError, RecipeError
from penchant.likelihoods import _denoising, gaussian
from penchant.types import CandidateBatch, Density, Draw, Likelihood, LogProbs


@dataclass(frozen=True, kw_only=True)
class Diffusion(Likelihood):
    """Denoising bound of an epsilon-, v- or sample-predicting model on a discrete schedule.

    Args:
        prediction: in which quantity the error is taken; "model" is the one the model predicts, as in every paper.
        steps: timesteps (and noises) drawn a sample; the log-prob is their mean.
        timesteps: the timesteps to draw from, or None for the whole `timestep_range` (first, one past the last).
        zero_terminal_snr: rescale the model's schedule so that the last timestep is pure noise.
        share_noise: one noise for all candidates of a group.
        share_timestep: one timestep for all candidates of a group.
        caption_dropout: probability that a group is seen with the empty prompt (0.2 in Diffusion-DPO).
        bank: number of distinct draws a group ever sees (epoch modulo bank), so that reference log-probs can be kept
            and reused; None draws anew every epoch.

        >>> Diffusion(timesteps=(249, 499, 749, 999)).timestep(np.array([0, 1, 6, 7]))
        array([249, 499, 749, 999])
    """

    density: ClassVar[Density] = "bound"
    cite: ClassVar[tuple[str, ...]] = ("ho2020ddpm",)

    prediction: Literal["model", "epsilon", "v_prediction", "sample"] = "model"
    steps: int = 1
    timesteps: tuple[int, ...] | None = None
    timestep_range: tuple[int, int] = (0, 1000)
    zero_terminal_snr: bool = False
    share_noise: bool = True
    share_timestep: bool = True
    caption_dropout: float = 0.0
    bank: int | None = None

    def __post_init__(self) -> None:
        _denoising.check_options(steps=self.steps, caption_dropout=self.caption_dropout, bank=self.bank)
        if not 0 <= self.timestep_range[0] < self.timestep_range[1]:
            raise RecipeError(
                f"{self.timestep_range} holds no timestep.", field="timestep_range", remedy="use (0, 1000)."
            )
        if self.timesteps is not None and (not self.timesteps or min(self.timesteps) < 0):
            raise RecipeError(
                f"{self.timesteps} holds no usable timestep.", field="timesteps", remedy="name one or more, or None."
            )

    def timestep(self, uniform: np.ndarray) -> np.ndarray:
        """Timesteps from uniform integers of a much larger range."""
        if self.timesteps is not None:
            return np.asarray(self.timesteps, dtype=np.int64)[uniform % len(self.timesteps)]
        first, end = self.timestep_range
        return first + uniform % (end - first)

    def draw(self, batch: CandidateBatch, *, seed: int, epoch: int) -> Draw:
        """Timesteps, noise and caption dropout as a pure function of (seed, epoch, group id)."""
        counted = _denoising.Counted(batch=batch, seed=seed, epoch=_denoising.effective_epoch(epoch, self.bank))
        return counted.draw(
            self,
            time=counted.per_candidate(
                "time", lambda g: self.timestep(g.integers(0, 2**62, self.steps)), shared=self.share_timestep
            ),
            noise=counted.noise(self.steps, shared=self.share_noise),
            dropped=counted.dropped(self.caption_dropout),
        )

    def schedule(self, model: Any) -> Float[Tensor, " steps"]:
        """The model's alphas_cumprod, rescaled if asked; refuses what is no diffusion model."""
        if model.alphas_cumprod is None or model.prediction not in ("epsilon", "v_prediction", "sample"):
            raise ModelError(f"a {model.prediction} model is no diffusion model.", remedy="use FlowMatching() for it.")
        last = max(self.timesteps) if self.timesteps is not None else self.timestep_range[1] - 1
        if last >= len(model.alphas_cumprod):
            raise ModelError(
                f"timestep {last} lies outside the model's {len(model.alphas_cumprod)} steps.",
                field="timestep_range",
                remedy=f"use timestep_range=(0, {len(model.alphas_cumprod)}).",
            )
        if self.zero_terminal_snr and model.prediction == "epsilon" and self.prediction not in ("model", "epsilon"):
            raise ModelError(
                "at zero terminal SNR an epsilon prediction determines no sample.", remedy='use prediction="model".'
            )
        return gaussian.zero_terminal_snr(model.alphas_cumprod) if self.zero_terminal_snr else model.alphas_cumprod

    def log_prob(self, model: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False) -> LogProbs:
        """-1/2 * mean squared error [B, K, T] of every candidate, differentiable in the model's parameters."""
        assert draw.time_BKT is not None
        rows = _denoising.rows_of(model, batch, draw)
        powers = self.schedule(model).to(rows.x0_N)
        a_N, s_N = gaussian.ddpm_coefficients(powers, rows.time_N)
        noisy_N = gaussian.add_noise(rows.x0_N, rows.noise_N, a_N, s_N)
        space: gaussian.Quantity = model.prediction if self.prediction == "model" else self.prediction
        prediction_N = gaussian.convert(
            _denoising.denoise(model, rows, noisy_N), noisy_N, a_N, s_N, source=model.prediction, to=space
        )
        target_N = gaussian.target(space, rows.x0_N, rows.noise_N, a_N, s_N)
        steps = draw.time_BKT.shape[-1]
        return _denoising.bound(rows, batch, prediction_N, target_N, steps=steps, keep_output=keep_output)

    def divergence(self, policy: LogProbs, reference: LogProbs) -> Float[Tensor, "B K T"]:
        """Mean squared distance of the two models' predictions at each draw."""
        return _denoising.output_distance(policy, reference)
