"""Trains the clip generator: an ordinary WanPipeline in small, a flow-matching transformer on 8 x 5 x 8 x 8 latents.

The text encoder and the autoencoder come first and stay as they are; only the decoder trains on at the end. The flow
(Lipman et al. 2022; Wan 2025): x_t = (1 - t) x_0 + t noise, the network predicts noise - x_0, its timestep is 1000 t, t
is logit-normal (Esser et al. 2024, equation 19). One caption in eight is dropped, for guidance.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from penchant.zoo.clips import autoencoder, text
from penchant.zoo.clips.data import FPS, FRAMES, SIDE, Footage
from penchant.zoo.clips.training import Run, Schedule
from penchant.zoo.clips.windows import Loops

DROPOUT = 0.125
SCHEDULE = Schedule(steps=11000, lr=1e-3, warmup=300, ema=0.9995, batch=32)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one rebuild trains; the defaults made the shipped weights on two CPU cores."""

    reader: Schedule = text.SCHEDULE
    rounds: tuple[Schedule, ...] = autoencoder.SCHEDULES
    denoiser: Schedule = SCHEDULE
    decoder: Schedule = autoencoder.DECODER_SCHEDULE


def denoiser() -> Any:
    """WanTransformer3DModel, 5 layers of width 144 (1.4 M parameters) on 80 tokens of 1 x 2 x 2 latents."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=6,
        attention_head_dim=24,
        in_channels=autoencoder.CHANNELS,
        out_channels=autoencoder.CHANNELS,
        text_dim=text.WIDTH,
        freq_dim=64,
        ffn_dim=288,
        num_layers=5,
        rope_max_seq_len=64,
    )


def scheduler() -> Any:
    """Euler steps of the flow, without a shift: 320 numbers a clip need none."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)


@torch.no_grad()
def encode(vae: Any, loops: Loops, file: Path) -> Tensor:
    """Posterior means of every window of `loops.places()`, [W, 8, 5, 8, 8] before normalisation.

    They are kept in `file`: minutes that an interrupted rebuild need not spend again.
    """
    from safetensors.torch import load_file, save_file

    if not file.exists():
        chunks = []
        for rows, starts in zip(*(places.split(32) for places in loops.places()), strict=True):
            chunks.append(vae.encode(autoencoder.pixels(loops.windows(rows, starts))).latent_dist.mean)
        save_file({"latents": torch.cat(chunks)}, file)
    return load_file(file)["latents"]


def _balanced(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` windows: first which loop, each alike however long it is, then which of its windows."""
    lengths = torch.bincount(indices)
    first = lengths.cumsum(0) - lengths
    loops = torch.randint(len(lengths), (count,), generator=generator)
    return first[loops] + (torch.rand(count, generator=generator) * lengths[loops]).long()


def train_denoiser(
    latents: Tensor, indices: Tensor, captions: Tensor, folder: Path, schedule: Schedule, *, fused: bool
) -> tuple[Any, float]:
    """Trains on normalised latents [W, 8, 5, 8, 8]; `captions` [N + 1, L, D] are the states, the last of no caption.

    Returns the averaged denoiser and the seconds of this call.
    """
    torch.manual_seed(schedule.seed + 1)
    model = denoiser().train()
    forward = torch.compile(model) if fused else model
    run = Run(list(model.parameters()), schedule, folder / "denoiser.safetensors")

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = _balanced(indices, schedule.batch, generator)
        x0 = latents[rows]
        time = torch.sigmoid(torch.randn(len(rows), generator=generator))
        noise = torch.randn(x0.shape, generator=generator)
        dropped = torch.rand(len(rows), generator=generator) < DROPOUT
        said = captions[torch.where(dropped, len(captions) - 1, indices[rows])]
        share = time[:, None, None, None, None]
        noisy = (1 - share) * x0 + share * noise
        (velocity,) = forward(noisy, 1000 * time, said, return_dict=False)
        return (velocity - (noise - x0)).square().mean()

    seconds = run.train(loss_of)
    return model.eval(), seconds


def train_reader(footage: Sequence[Footage], runs: Path, budget: Budget) -> tuple[text.Reader, float]:
    """Text encoder and eye for the captions of `footage`, and the seconds of this call."""
    captions = [one.caption for one in footage]
    words = text.tokenizer(sorted(captions))
    return text.train(words, captions, Loops.of(footage), runs, budget.reader)


def train(footage: Sequence[Footage], folder: Path, runs: Path, budget: Budget, *, fused: bool) -> dict[str, float]:
    """Trains all parts on what may be known and saves the pipeline in `folder`; returns seconds.

    Args:
        footage: what to learn.
        folder: the pipeline's.
        runs: where the states of the trainings lie: an interrupted rebuild goes on where it was.
        budget: steps and rates.
        fused: compile the denoiser; halves the time of a step on a CPU, needs a C++ compiler.
    """
    runs.mkdir(parents=True, exist_ok=True)
    captions, loops = [one.caption for one in footage], Loops.of(footage)
    made: dict[str, float] = {}
    reader, made["text_seconds"] = train_reader(footage, runs, budget)
    vae, made["autoencoder_seconds"] = autoencoder.train(loops, runs, budget.rounds)
    latents = encode(vae, loops, runs / "latents.safetensors")
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    normalised = (latents - mean[:, None, None, None]) / std[:, None, None, None]
    with torch.no_grad():
        states = text.states(reader.encoder, *text.tokens(reader.words, [*captions, ""]))
    indices, _ = loops.places()
    model, made["denoiser_seconds"] = train_denoiser(normalised, indices, states, runs, budget.denoiser, fused=fused)
    made["decoder_seconds"] = autoencoder.train_decoder(vae, latents, loops, runs, budget.decoder)
    save(folder, reader=reader, vae=vae, model=model)
    return made


def save(folder: Path, *, reader: text.Reader, vae: Any, model: Any) -> None:
    """Writes the pipeline as an ordinary folder, float16, with `clip_size.json` beside its index."""
    from diffusers import WanPipeline

    parts = {
        "tokenizer": reader.words,
        "text_encoder": reader.encoder,
        "transformer": model,
        "vae": vae,
        "scheduler": scheduler(),
    }
    pipeline: Any = WanPipeline(**parts)
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    size = {"height": SIDE, "width": SIDE, "frames": FRAMES, "fps": FPS}
    (folder / "clip_size.json").write_text(json.dumps(size) + "\n")
