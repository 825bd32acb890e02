"""The clip autoencoder: Wan's causal video VAE in small, 9 x 32 x 32 -> 8 x 5 x 8 x 8, half a million parameters.

Difference from Wan's training: no KL to a learnt variance. The log-variance is a constant, the decoder learns from
latents with noise of that size, and a small penalty keeps the latents near the origin; so a sample of the posterior and
its mean decode alike, and encoding does not lose what the decoder could show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from penchant.zoo.clips.training import Run, Schedule
from penchant.zoo.clips.windows import Loops

CHANNELS = 8
# Standard deviation of the posterior, in latents before normalisation.
NOISE = 0.05
# Two rounds, the second a warm restart of the cosine on shorter clips: more different ones for the same time, and the
# first frame, which no other helps to decode, is learnt more often.
SCHEDULES = (Schedule(steps=1200, lr=3e-3, batch=6), Schedule(steps=900, lr=3e-3, batch=10, seed=1))
_FRAMES = (9, 5)
DECODER_SCHEDULE = Schedule(steps=1800, lr=2e-3, batch=6)


def autoencoder() -> Any:
    """AutoencoderKLWan: space by 4, time by 2 after the first frame; a constant variance of `NOISE` squared."""
    from diffusers import AutoencoderKLWan

    model = AutoencoderKLWan(
        base_dim=16,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, False],
        z_dim=CHANNELS,
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
        scale_factor_temporal=2,
        scale_factor_spatial=4,
    )
    fix_variance(model)
    return model


@torch.no_grad()
def fix_variance(model: Any) -> None:
    """Sets the log-variance to its constant; no loss reaches it, only weight decay."""
    model.quant_conv.weight[CHANNELS:] = 0
    model.quant_conv.bias[CHANNELS:] = 2 * math.log(NOISE)


def pixels(clips: Tensor) -> Tensor:
    """uint8 [N, F, H, W, 3] -> float in [-1, 1], [N, 3, F, H, W]."""
    return clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def unclamped(model: Any, latents: Tensor) -> Tensor:
    """What `model.decode` computes before it clamps to [-1, 1]: white is most of an emoji, and there the clamp of
    a fresh decoder lets no gradient through."""
    model.clear_cache()
    hidden, frames = model.post_quant_conv(latents), []
    for index in range(hidden.shape[2]):
        model._conv_idx = [0]
        frame = hidden[:, :, index : index + 1]
        memory = {"feat_cache": model._feat_map, "feat_idx": model._conv_idx}
        frames.append(model.decoder(frame, **memory, first_chunk=index == 0))
    model.clear_cache()
    return torch.cat(frames, 2)


def _edges(clips: Tensor) -> Tensor:
    across, down = clips.diff(dim=-1), clips.diff(dim=-2)
    return torch.cat([across.flatten(1), down.flatten(1), clips.diff(dim=2).flatten(1)], 1)


def train(loops: Loops, folder: Path, schedules: Sequence[Schedule] = SCHEDULES) -> tuple[Any, float]:
    """Trains on windows of loops, one round a schedule.

    Args:
        loops: what to learn from.
        folder: where the states of the rounds lie, `autoencoder-0.safetensors` and on.
        schedules: steps and rates of the rounds.

    Returns:
        The model with its averaged parameters, and the seconds of this call.
    """
    torch.manual_seed(schedules[0].seed)
    model, seconds = autoencoder().train(), 0.0
    for turn, (schedule, frames) in enumerate(zip(schedules, _FRAMES, strict=True)):
        run = Run(list(model.parameters()), schedule, folder / f"autoencoder-{turn}.safetensors")
        seconds += run.train(partial(_loss, model, loops, schedule.batch, frames))
        fix_variance(model)
    return model.eval(), seconds


def train_decoder(
    model: Any, latents: Tensor, loops: Loops, folder: Path, schedule: Schedule = DECODER_SCHEDULE
) -> float:
    """Trains the decoder on, in place, beside a frozen encoder: the latents stay what the denoiser learns from.

    Args:
        model: the autoencoder.
        latents: posterior means of every window of every loop, [W, 8, 5, 8, 8], before normalisation.
        loops: what to decode to.
        folder: where the state of the run lies, `decoder.safetensors`.
        schedule: steps and rates.

    Returns:
        The seconds of this call.
    """
    indices, starts = loops.places()
    parts = [*model.post_quant_conv.parameters(), *model.decoder.parameters()]

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(latents), (schedule.batch,), generator=generator)
        clips, mean = pixels(loops.windows(indices[rows], starts[rows])), latents[rows]
        output = unclamped(model, mean + NOISE * torch.randn(mean.shape, generator=generator))
        return F.l1_loss(output, clips) + F.l1_loss(_edges(output), _edges(clips))

    return Run(parts, schedule, folder / "decoder.safetensors").train(loss_of)


def _loss(model: Any, loops: Loops, size: int, frames: int, generator: torch.Generator) -> Tensor:
    """L1 + L1 of edges in space and time, and a penalty of 1e-4 times the square of the latents."""
    clips = pixels(loops.draw(size, generator)[0][:, :frames])
    mean = model._encode(clips)[:, :CHANNELS]
    noisy = mean + NOISE * torch.randn(mean.shape, generator=generator)
    output = unclamped(model, noisy)
    return F.l1_loss(output, clips) + F.l1_loss(_edges(output), _edges(clips)) + 1e-4 * mean.square().mean()
