"""A training step as the research scripts take it, in our own words: everything from the JPEG on, every step.

    JPEG -> pixels -> VAE -> text encoders -> t and noise -> policy -> reference -> loss -> backward -> clip -> AdamW

The losses are those of the diffusers LoRA script (beta 2500, no 1/2), of the Diffusion-DPO authors' script (beta 5000
and 1/2; the same number) and of the MaPO authors' script. What the scripts do around it (logging, launchers, half
precision, offloading) is left out: it would only cost more here.
"""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Chance:
    """What a step draws, for B pairs: pictures are ordered winners first, then losers."""

    posterior: Tensor  # [2B, 4, h, w]
    noise: Tensor  # [B, 4, h, w]
    time: Tensor  # [B]


class PlainStep:
    """One script: `lora` > 0 trains an adapter and switches it off for the reference, 0 trains all weights and keeps a
    frozen copy; `mapo` has no reference at all."""

    def __init__(self, model: Path, pairs: Path, *, loss: str, lora: int, lr: float, resolution: int) -> None:
        from diffusers import DDPMScheduler, DiffusionPipeline

        pipeline = DiffusionPipeline.from_pretrained(str(model))
        self.vae, self.unet = pipeline.vae.requires_grad_(False), pipeline.unet
        self.text = [(pipeline.tokenizer, pipeline.text_encoder.requires_grad_(False))]
        self.xl = hasattr(pipeline, "text_encoder_2")
        if self.xl:
            self.text.append((pipeline.tokenizer_2, pipeline.text_encoder_2.requires_grad_(False)))
        self.schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.rows = pq.read_table(pairs).to_pylist()
        self.loss, self.lora, self.resolution = loss, lora, resolution
        self.reference = copy.deepcopy(self.unet).requires_grad_(False) if loss == "dpo" and not lora else None
        if lora:
            self._add_adapter()
        self.trained = [p for p in self.unet.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=lr, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
        self.unet.train()
        self.laps: dict[str, float] = {}

    def _add_adapter(self) -> None:
        from peft import LoraConfig

        self.unet.requires_grad_(False)
        torch.manual_seed(0)
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        self.unet.add_adapter(
            LoraConfig(r=self.lora, lora_alpha=self.lora, init_lora_weights="gaussian", target_modules=targets)
        )

    def __call__(self, captions: list[str], chance: Chance | None = None) -> float:
        """Takes a step on these prompts' pairs; returns the loss before it."""
        self.laps = {}
        rows = [next(row for row in self.rows if row["caption"] == caption) for caption in captions]
        with self._lap("data"):
            pixels, tokens = self._read(rows)
        chance = self._chance(len(rows)) if chance is None else chance
        with self._lap("vae"), torch.no_grad():
            posterior = self.vae.encode(pixels).latent_dist
            latents = (posterior.mean + posterior.std * chance.posterior) * self.vae.config.scaling_factor
        with self._lap("text"), torch.no_grad():
            condition = self._encode(tokens)
        noise, steps = chance.noise.repeat(2, 1, 1, 1), chance.time.repeat(2)
        noisy = self.schedule.add_noise(latents, noise, steps)
        with self._lap("policy"):
            error = _error(self.unet(noisy, steps, **condition).sample, noise)
        with self._lap("reference"), torch.no_grad():
            base = self._reference_error(noisy, steps, condition, noise)
        loss = self._mapo(error) if self.loss == "mapo" else self._dpo(error, base)
        self._update(loss)
        return float(loss.detach())

    def _read(self, rows: list[dict[str, Any]]) -> tuple[Tensor, list[Tensor]]:
        order = [("jpg_0", "jpg_1") if row["label_0"] == 1 else ("jpg_1", "jpg_0") for row in rows]
        pictures = [row[names[side]] for side in (0, 1) for row, names in zip(rows, order, strict=True)]
        pixels = torch.stack([self._pixels(picture) for picture in pictures])
        captions = [row["caption"] for row in rows]
        tokens = [
            tokenizer(captions, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
            for tokenizer, _ in self.text
        ]
        return pixels, tokens

    def _pixels(self, jpeg: bytes) -> Tensor:
        # The pictures are square, so the centre crop that follows in the scripts cuts nothing.
        size = (self.resolution, self.resolution)
        image = Image.open(io.BytesIO(jpeg)).convert("RGB").resize(size, Image.Resampling.BILINEAR)
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1

    def _encode(self, tokens: list[Tensor]) -> dict[str, Any]:
        """Keyword arguments of the UNet for winners and losers."""
        if not self.xl:
            return {"encoder_hidden_states": self.text[0][1](tokens[0])[0].repeat(2, 1, 1)}
        outputs = [encoder(ids, output_hidden_states=True) for (_, encoder), ids in zip(self.text, tokens, strict=True)]
        embeds = torch.cat([output.hidden_states[-2] for output in outputs], -1)
        pooled = outputs[1].text_embeds.repeat(2, 1)
        sizes = torch.tensor([[512.0, 512, 0, 0, self.resolution, self.resolution]]).repeat(len(pooled), 1)
        return {
            "encoder_hidden_states": embeds.repeat(2, 1, 1),
            "added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes},
        }

    def _chance(self, count: int) -> Chance:
        side = self.resolution // 8
        return Chance(
            posterior=torch.randn(2 * count, 4, side, side),
            noise=torch.randn(count, 4, side, side),
            time=torch.randint(0, 1000, (count,)),
        )

    def _reference_error(self, noisy: Tensor, steps: Tensor, condition: dict[str, Any], noise: Tensor) -> Tensor | None:
        if self.loss == "mapo":
            return None
        with self._adapter_off() if self.lora else nullcontext():
            unet = self.unet if self.reference is None else self.reference
            return _error(unet(noisy, steps, **condition).sample, noise)

    @contextmanager
    def _adapter_off(self) -> Iterator[None]:
        self.unet.disable_adapters()
        yield
        self.unet.enable_adapters()

    def _dpo(self, error: Tensor, base: Tensor | None) -> Tensor:
        assert base is not None
        (won, lost), (base_won, base_lost) = error.chunk(2), base.chunk(2)
        beta = 2500.0 if self.lora else 0.5 * 5000.0
        return -functional.logsigmoid(-beta * ((won - lost) - (base_won - base_lost))).mean()

    def _mapo(self, error: Tensor) -> Tensor:
        won, lost = error.chunk(2)
        score = [0.5 * m / (torch.exp(0.5 * m) - 1) for m in (won, lost)]
        return won.mean() - 0.1 * functional.logsigmoid(1000 * (score[0] - score[1])).mean()

    def _update(self, loss: Tensor) -> None:
        with self._lap("backward"):
            loss.backward()
        with self._lap("clip"):
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        with self._lap("optimiser"):
            self.optimiser.step()
            self.optimiser.zero_grad()

    @contextmanager
    def _lap(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.laps[name] = time.process_time() - start


def _error(prediction: Tensor, target: Tensor) -> Tensor:
    return functional.mse_loss(prediction.float(), target.float(), reduction="none").mean((1, 2, 3))
