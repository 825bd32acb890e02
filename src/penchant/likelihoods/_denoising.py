"""What diffusion and flow matching share: counted draws, the rows of one model call, and the way back to [B, K, T].

Shape legend: B groups, K candidates, T draws a candidate, N <= B*K*T rows of one model call, `...` a latent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError, RecipeError
from penchant.likelihoods.gaussian import at_least_float32, mean_error
from penchant.likelihoods.randomness import digest, generator
from penchant.types import CandidateBatch, Draw, LogProbs

LATENTS = "latents"


def check_options(*, steps: int, caption_dropout: float, bank: int | None) -> None:
    """Refuse impossible options when the likelihood is built."""
    if steps < 1:
        raise RecipeError(f"{steps} draws a sample score nothing.", field="steps", remedy="use 1 or more.")
    if not 0 <= caption_dropout <= 1:
        raise RecipeError(
            f"{caption_dropout} is not a probability.", field="caption_dropout", remedy="use a value in [0, 1]."
        )
    if bank is not None and bank < 1:
        raise RecipeError(
            f"a bank of {bank} draws is empty.", field="bank", remedy="use 1 or more, or None for fresh draws."
        )


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The counted draws of one batch: an epoch of a bank repeats, everything else follows from the ids."""

    batch: CandidateBatch
    seed: int
    epoch: int

    def per_candidate(
        self, purpose: str, sample: Callable[[np.random.Generator], np.ndarray], *, shared: bool
    ) -> Tensor:
        """[B, K, *sample]: one sample a group, or one a candidate (keyed by its content, so order does not matter)."""
        (_, K), batch = self.batch.shape, self.batch
        if shared:
            rows = [sample(generator(self.seed, self.epoch, id, purpose)) for id in batch.group_ids]
            once_B = torch.from_numpy(np.stack(rows))
            return once_B[:, None].expand(-1, K, *once_B.shape[1:])
        return torch.from_numpy(
            np.stack(
                [
                    np.stack([sample(generator(self.seed, self.epoch, f"{group}/{id}", purpose)) for id in ids])
                    for group, ids in zip(batch.group_ids, batch.sample_ids, strict=True)
                ]
            )
        )

    def noise(self, steps: int, *, shared: bool) -> Float[Tensor, "B K T ..."]:
        """Standard normal noise in the shape of the latents, float32 on every machine."""
        shape = (steps, *self.batch.candidates[LATENTS].shape[2:])
        return self.per_candidate("noise", lambda g: g.standard_normal(shape, dtype=np.float32), shared=shared)

    def dropped(self, probability: float) -> Tensor | None:
        """[B] True where the caption is dropped; None when captions are always kept."""
        if probability == 0:
            return None
        draws = [generator(self.seed, self.epoch, id, "caption").random() for id in self.batch.group_ids]
        return torch.tensor(draws) < probability

    def draw(self, likelihood: object, *, time: Tensor, noise: Tensor, dropped: Tensor | None) -> Draw:
        """The draw on the batch's device.

        Its keys name all that determines the draw and how it is scored; together with a candidate's sample id they name
        the candidate's log-prob under one model.
        """
        latents = self.batch.candidates[LATENTS]
        facts = (repr(likelihood), list(latents.shape[2:]), self.seed, self.epoch)
        return Draw(
            key_B=tuple(digest(*facts, id).hex() for id in self.batch.group_ids),
            time_BKT=time.to(latents.device),
            noise_BKT=noise.to(latents.device),
            dropped_B=None if dropped is None else dropped.to(latents.device),
        )


def effective_epoch(epoch: int, bank: int | None) -> int:
    """Which of the bank's draws this epoch reuses; without a bank every epoch draws anew."""
    return epoch if bank is None else epoch % bank


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The present candidates of a batch, flattened to the N rows of one model call."""

    index_N: Tensor
    x0_N: Tensor
    noise_N: Tensor
    time_N: Tensor
    condition: Mapping[str, Tensor]
    candidates: Mapping[str, Tensor]

    def at(self, time_N: Tensor) -> Rows:
        """The same rows at other times."""
        return replace(self, time_N=time_N)


def rows_of(model: Any, batch: CandidateBatch, draw: Draw) -> Rows:
    """Gather the rows whose candidate is present; dropped captions become the model's empty prompt."""
    assert draw.time_BKT is not None
    assert draw.noise_BKT is not None
    B, K, T = draw.time_BKT.shape
    index_N = batch.mask_BK[:, :, None].expand(B, K, T).reshape(-1).nonzero()[:, 0]
    b, k, t = index_N // (K * T), index_N // T % K, index_N % T
    x0_N = at_least_float32(batch.candidates[LATENTS][b, k])
    return Rows(
        index_N=index_N,
        x0_N=x0_N,
        noise_N=draw.noise_BKT[b, k, t].to(x0_N.dtype),
        time_N=draw.time_BKT[b, k, t],
        condition=_conditions(model, batch, draw, b),
        candidates={name: v[b, k] for name, v in batch.candidates.items() if name != LATENTS},
    )


def _conditions(model: Any, batch: CandidateBatch, draw: Draw, b_N: Tensor) -> dict[str, Tensor]:
    rows = {name: v[b_N] for name, v in batch.condition.items()}
    if draw.dropped_B is None:
        return rows
    dropped_N = draw.dropped_B[b_N]
    for name, empty in captionless(model, rows).items():
        where_N = dropped_N.reshape(-1, *[1] * (rows[name].dim() - 1))
        rows[name] = torch.where(where_N, empty, rows[name])
    return rows


def captionless(model: Any, condition: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same rows with the empty prompt.

    What the empty prompt does not name (a first frame, a control image) is no caption and stays.

    Raises:
        ModelError: prompts and the empty prompt have other shapes.
    """
    rows = dict(condition)
    for name, empty in model.unconditional().items():
        if name not in rows or empty.shape[1:] != rows[name].shape[1:]:
            raise ModelError(
                f"the empty prompt's '{name}' {tuple(empty.shape[1:])} does not fit the prompts' conditions "
                f"{ {k: tuple(v.shape[1:]) for k, v in rows.items()} }.",
                remedy="encode prompts and the empty prompt to the same length.",
            )
        rows[name] = empty.to(rows[name]).expand_as(rows[name])
    return rows


def denoise(model: Any, rows: Rows, noisy_N: Tensor) -> Tensor:
    """The prediction of every row, from one model call."""
    return answer(model, noisy_N, rows.time_N, rows.condition, rows.candidates)


def answer(
    model: Any, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
) -> Tensor:
    """One model call; a prediction of another shape would broadcast into a wrong error, so it is refused."""
    prediction = model.denoise(noisy_N, time_N, condition, candidates)
    if prediction.shape != noisy_N.shape:
        raise ModelError(
            f"the model answers {tuple(prediction.shape)} to latents {tuple(noisy_N.shape)}.",
            remedy="let the adapter return the prediction alone, without variances.",
        )
    return at_least_float32(prediction)


def guided(
    model: Any,
    noisy_N: Tensor,
    time_N: Tensor,
    condition: Mapping[str, Tensor],
    candidates: Mapping[str, Tensor],
    *,
    guidance: float,
) -> Tensor:
    """The prediction with classifier-free guidance (1.0 for none), from one model call of N or 2 N rows."""
    if guidance == 1.0:
        return answer(model, noisy_N, time_N, condition, candidates)
    without = captionless(model, condition)
    both = answer(
        model,
        torch.cat([noisy_N, noisy_N]),
        torch.cat([time_N, time_N]),
        {name: torch.cat([value, without[name]]) for name, value in condition.items()},
        {name: torch.cat([value, value]) for name, value in candidates.items()},
    )
    with_N, without_N = both.chunk(2)
    return without_N + guidance * (with_N - without_N)


def bound(
    rows: Rows,
    batch: CandidateBatch,
    prediction_N: Tensor,
    target_N: Tensor,
    *,
    steps: int,
    weight_N: Tensor | None = None,
    keep_output: bool = False,
) -> LogProbs:
    """-1/2 * w * mean squared error of every row, back in [B, K, T]; missing candidates are zeros without gradient."""
    if weight_N is not None:
        # Scaled on both sides, so that the kept output's squared distances are weighted like the errors.
        root_N = weight_N.to(prediction_N).sqrt().reshape(-1, *[1] * (prediction_N.dim() - 1))
        prediction_N, target_N = prediction_N * root_N, target_N * root_N
    B, K = batch.shape
    return LogProbs(
        step_BKT=scatter(-0.5 * mean_error(prediction_N, target_N), rows.index_N, (B, K, steps)),
        mask_BKT=batch.mask_BK[:, :, None].expand(B, K, steps),
        density="bound",
        output=scatter(prediction_N, rows.index_N, (B, K, steps)) if keep_output else None,
    )


def scatter(value_N: Tensor, index_N: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Rows [N, ...] back in [B, K, T, ...]; zeros, without gradient, where there was none."""
    count = shape[0] * shape[1] * shape[2]
    if len(value_N) == count:
        return value_N.reshape(*shape, *value_N.shape[1:])
    flat = value_N.new_zeros(count, *value_N.shape[1:]).index_copy(0, index_N, value_N)
    return flat.reshape(*shape, *value_N.shape[1:])


def output_distance(policy: LogProbs, reference: LogProbs) -> Float[Tensor, "B K T"]:
    """Mean squared distance of the kept predictions at each draw."""
    if policy.output is None or reference.output is None:
        raise ValueError("both models' outputs are needed: call log_prob(..., keep_output=True).")
    return torch.where(policy.mask_BKT, mean_error(policy.output, reference.output, batch_dims=3), 0)
