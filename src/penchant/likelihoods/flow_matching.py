"""Flow-matching likelihood: -1/2 * w(t) * mean squared error of the velocity.

Flow matching (Lipman et al., arXiv 2210.02747), rectified flow (Liu et al., arXiv 2209.03003):

    log p(x0 | c)  ~  -1/2 * w(t) * mean_over_dims ((eps - x0) - v(x_t, t, c))^2,   x_t = (1 - t) x0 + t eps

t = 0 is data, t = 1 noise. As for diffusion, time, noise and caption dropout are shared by a group's candidates and by
policy and reference.

Where we differ:

1. Flow-DPO derives beta_t = beta (1 - t)^2 and recommends a constant beta (VideoAlign, arXiv 2501.13918, section 4.2);
   the constant is the default, `weight="one_minus_t_squared"` is the derived form. The weight multiplies the bound, so
   every objective sees it.
2. `grid` rounds t up to a multiple of 1/grid before the shift. That is the peers' discrete form, index = floor(1000 u)
   into sigmas that start at noise, written in t = 1 - u: `logit_mean` > 0 means more noise with a grid as without one
   (in the peers' index it means less).
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
class FlowMatching(Likelihood):
    """Velocity bound of a flow model.

    Args:
        steps: times (and noises) drawn a sample; the log-prob is their mean.
        time: how t is drawn before the shift: "uniform", or "logit_normal" = sigmoid(N(logit_mean, logit_std)).
        shift: timestep shift k of t' = k t / (1 + (k - 1) t); None is the model's own.
        grid: number of discrete times (1000 in flow_grpo), or None for continuous time.
        weight: "constant", or "one_minus_t_squared" (Flow-DPO's derived form; t after the shift).
        share_noise: one noise for all candidates of a group.
        share_timestep: one time for all candidates of a group.
        caption_dropout: probability that a group is seen with the empty prompt.
        bank: number of distinct draws a group ever sees (epoch modulo bank); None draws anew every epoch.
    """

    density: ClassVar[Density] = "bound"
    cite: ClassVar[tuple[str, ...]] = ("lipman2023flow",)

    steps: int = 1
    time: Literal["uniform", "logit_normal"] = "logit_normal"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float | None = None
    grid: int | None = None
    weight: Literal["constant", "one_minus_t_squared"] = "constant"
    share_noise: bool = True
    share_timestep: bool = True
    caption_dropout: float = 0.0
    bank: int | None = None

    def __post_init__(self) -> None:
        _denoising.check_options(steps=self.steps, caption_dropout=self.caption_dropout, bank=self.bank)
        if self.time not in ("uniform", "logit_normal"):
            raise RecipeError(f"no time is drawn '{self.time}'.", field="time", remedy="use uniform or logit_normal.")
        if self.weight not in ("constant", "one_minus_t_squared"):
            raise RecipeError(
                f"no weight is called '{self.weight}'.", field="weight", remedy="use constant or one_minus_t_squared."
            )
        if self.shift is not None and self.shift <= 0:
            raise RecipeError(f"a shift of {self.shift} leaves no path.", field="shift", remedy="use 1 for none.")
        if self.grid is not None and self.grid < 1:
            raise RecipeError(f"a grid of {self.grid} times is empty.", field="grid", remedy="use 1000, or None.")

    def on_grid(self, time: np.ndarray) -> np.ndarray:
        """Times rounded up to the grid, if there is one; never 0, where data would be their own noise."""
        return time if self.grid is None else np.ceil(time * self.grid).clip(1, self.grid) / self.grid

    def _sample_time(self, g: np.random.Generator) -> np.ndarray:
        if self.time == "uniform":
            time = g.random(self.steps)
        else:
            time = 1 / (1 + np.exp(-(self.logit_mean + self.logit_std * g.standard_normal(self.steps))))
        return self.on_grid(time).astype(np.float32)

    def draw(self, batch: CandidateBatch, *, seed: int, epoch: int) -> Draw:
        """Times before the shift, noise and caption dropout as a pure function of (seed, epoch, group id)."""
        counted = _denoising.Counted(batch=batch, seed=seed, epoch=_denoising.effective_epoch(epoch, self.bank))
        return counted.draw(
            self,
            time=counted.per_candidate("time", self._sample_time, shared=self.share_timestep),
            noise=counted.noise(self.steps, shared=self.share_noise),
            dropped=counted.dropped(self.caption_dropout),
        )

    def log_prob(self, model: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False) -> LogProbs:
        """-1/2 * w(t) * mean squared velocity error [B, K, T], differentiable in the model's parameters."""
        if model.prediction != "velocity":
            raise ModelError(f"a {model.prediction} model is no flow.", remedy="use Diffusion() for it.")
        assert draw.time_BKT is not None
        rows = _denoising.rows_of(model, batch, draw)
        # The draw knows no model, so the model's shift is applied here.
        sigma_N = gaussian.shift_time(rows.time_N.to(rows.x0_N.dtype), self.shift or model.shift)
        rows = rows.at(sigma_N)
        a_N, s_N = gaussian.flow_coefficients(sigma_N)
        noisy_N = gaussian.add_noise(rows.x0_N, rows.noise_N, a_N, s_N)
        return _denoising.bound(
            rows,
            batch,
            _denoising.denoise(model, rows, noisy_N),
            gaussian.target("velocity", rows.x0_N, rows.noise_N, a_N, s_N),
            steps=draw.time_BKT.shape[-1],
            weight_N=None if self.weight == "constant" else (1 - sigma_N).square(),
            keep_output=keep_output,
        )

    def divergence(self, policy: LogProbs, reference: LogProbs) -> Float[Tensor, "B K T"]:
        """Mean squared distance of the two models' velocities at each draw."""
        return _denoising.output_distance(policy, reference)
