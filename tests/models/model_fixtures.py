"""Rows and small steps that the model tests share."""

from __future__ import annotations

import torch

RESOLUTION = 32


def rows(model, pictures, prompts=("a red cat", "two dogs", "")):
    """Noisy latents, times, condition and candidates of three rows, as a likelihood would hand them over."""
    encoded = model.encode_images(pictures, ids=[str(i) for i in range(len(pictures))])
    latents = encoded.pop("latents")
    flow = model.prediction == "velocity"
    time = torch.tensor([0.1, 0.5, 0.9]) if flow else torch.tensor([10, 500, 900])
    return latents, time, model.encode_prompts(list(prompts)), encoded


def train_a_little(model) -> None:
    """Move every trainable weight away from where it started, adapters' zero matrices included."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
