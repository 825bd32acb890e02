"""Trains the emoji text-to-image model: an ordinary StableDiffusionPipeline in small.

A KL autoencoder (48 px -> 4 x 12 x 12), a CLIP text encoder of our own vocabulary and a UNet that predicts v on
Stable Diffusion's schedule, rescaled to end in pure noise: on 12 x 12 latents the signal that is left at the end of
the original schedule gives a picture's colours away, and sampling, which starts from noise, would miss it. The text
encoder starts as the labeller's text tower, as Stable Diffusion's started as CLIP's, and trains on with the UNet.
Captions carry the artist's style phrase half of the time, so that plain captions draw from all three. Faces, food,
animals and plants are drawn: what two cores learn in an hour, and what people have a taste about.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from penchant.zoo.emoji.arrays import as_float, jitter, to_tensor
from penchant.zoo.emoji.data import DRAWN, STYLE_PHRASES, Picture

MAX_WORDS = 24


def drawn(picture: Picture) -> bool:
    """Whether the generator ever sees the picture."""
    return picture.split != "test" and picture.category in DRAWN


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Optimiser steps and batch sizes of one rebuild; the defaults made the shipped weights on two CPU cores."""

    vae_rounds: int = 2
    vae_steps: int = 1200
    vae_batch: int = 16
    vae_lr: float = 2e-3
    unet_steps: int = 8000
    unet_batch: int = 32
    unet_lr: float = 8e-4
    unet_ema: float = 0.9995
    views: int = 8
    seed: int = 0


def tokenizer(captions: Sequence[str]) -> Any:
    """A byte-level BPE tokenizer trained on the captions, with CLIP's special tokens: bos 0, pad 1, eos 3.

    The end is not 2: to that number transformers' CLIP gives an old meaning, and pools at the wrong token.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(unk_token=None))
    core.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    start, pad, unknown, end = specials = ["<|startoftext|>", "<|pad|>", "<|unknown|>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        captions, trainers.BpeTrainer(vocab_size=2048, special_tokens=specials, initial_alphabet=alphabet)
    )
    core.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 0), (end, 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=start,
        pad_token=pad,
        eos_token=end,
        unk_token=unknown,
        model_max_length=MAX_WORDS,
    )


def vocabulary(pictures: Sequence[Picture]) -> Any:
    """The tokenizer of generator and scorers, from what the generator draws; test captions have no part in it."""
    return tokenizer(sorted({p.caption for p in pictures if drawn(p)} | set(STYLE_PHRASES.values())))


def autoencoder() -> Any:
    """AutoencoderKL with 4 latent channels at a quarter of the resolution (0.7 M parameters)."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=48,
    )


def unet() -> Any:
    """UNet2DConditionModel on 12 x 12 latents (8 M parameters); attention to the caption at 6 x 6 and 3 x 3."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=12,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 112, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
        # The pooled caption also enters with the timestep: attention alone is slow to learn which caption is meant.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def scheduler() -> Any:
    """Stable Diffusion's schedule rescaled to zero terminal SNR (Lin et al., arXiv 2305.08891), sampled by DDIM."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
    )


class _Ema:
    """Exponential moving average of parameters, warmed up so that early steps do not linger."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters, self.decay, self.steps = list(parameters), decay, 0
        self.shadow = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        for parameter, mean in zip(self.parameters, self.shadow, strict=True):
            parameter.copy_(mean)


def _schedule(optimiser: torch.optim.Optimizer, steps: int, warmup: int) -> Any:
    import math

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _edges(images: Tensor) -> Tensor:
    across = images[..., :, 1:] - images[..., :, :-1]
    down = images[..., 1:, :] - images[..., :-1, :]
    return torch.cat([across.flatten(1), down.flatten(1)], 1)


def train_autoencoder(model: Any, pixels: Tensor, budget: Budget, device: str, *, turn: int) -> None:
    """One round of the autoencoder on uint8 pictures [N, 3, 48, 48], in place: L1 + L1 of edges + a small KL.

    Rounds are warm restarts of the cosine (Loshchilov and Hutter 2017), each at half the peak of the one before.
    """
    torch.manual_seed(budget.seed + turn)
    model.to(device, memory_format=torch.channels_last).train()
    pixels = pixels.to(device)
    generator = torch.Generator(device).manual_seed(budget.seed + turn)
    optimiser = torch.optim.AdamW(model.parameters(), lr=budget.vae_lr / 2**turn, weight_decay=1e-4, betas=(0.9, 0.99))
    rate = _schedule(optimiser, budget.vae_steps, min(100, budget.vae_steps))
    ema, started = _Ema(list(model.parameters()), 0.995), time.time()
    for step in range(budget.vae_steps):
        index = torch.randint(len(pixels), (budget.vae_batch,), generator=generator, device=device)
        images = jitter(as_float(pixels[index]), generator)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            posterior = model.encode(images).latent_dist
            output = model.decode(posterior.sample(generator)).sample.float()
        loss = F.l1_loss(output, images) + F.l1_loss(_edges(output), _edges(images)) + 1e-4 * posterior.kl().mean() / 64
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        ema.update()
        if step % 200 == 0:
            print(
                f"autoencoder round {turn} step {step} loss {loss.item():.4f} {time.time() - started:.0f}s", flush=True
            )
    ema.apply()
    model.eval()


@torch.no_grad()
def encode(vae: Any, pixels: Tensor, *, views: int, seed: int, device: str) -> Tensor:
    """`views` jittered encodings of every picture, [views, N, 4, 12, 12] (the first view is the picture itself),
    unscaled posterior means."""
    generator = torch.Generator(device).manual_seed(seed)
    out = []
    for view in range(views):
        chunks = []
        for chunk in pixels.split(512):
            images = as_float(chunk.to(device))
            images = jitter(images, generator, zoom=0.05, shift=0.03) if view else images
            chunks.append(vae.encode(images).latent_dist.mean)
        out.append(torch.cat(chunks))
    return torch.stack(out)


def _token_table(words: Any, pictures: Sequence[Picture], device: str) -> Tensor:
    """Token ids [3, N, L]: plain caption, caption with style phrase, empty caption."""
    plain = [p.caption for p in pictures]
    styled = [f"{p.caption}, {STYLE_PHRASES[p.style]}" for p in pictures]
    rows = [plain, styled, [""] * len(plain)]
    kwargs = {"padding": "max_length", "truncation": True, "max_length": MAX_WORDS, "return_tensors": "pt"}
    return torch.stack([words(row, **kwargs).input_ids for row in rows]).to(device)


class _Run:
    """The state of a UNet training run: parameters, averages, optimiser; written to one file and read back."""

    def __init__(self, parameters: list[Tensor], budget: Budget) -> None:
        self.parameters = parameters
        self.optimiser = torch.optim.AdamW(
            parameters, lr=budget.unet_lr, weight_decay=0.01, betas=(0.9, 0.99), fused=True
        )
        self.rate = _schedule(self.optimiser, budget.unet_steps, 300)
        self.ema = _Ema(parameters, budget.unet_ema)
        self.step = 0

    def save(self, path: Path) -> None:
        from safetensors.torch import save_file

        state: dict[str, Tensor] = {"step": torch.tensor(self.step)}
        for i, parameter in enumerate(self.parameters):
            slots = self.optimiser.state[parameter]
            state |= {f"p.{i}": parameter.detach(), f"ema.{i}": self.ema.shadow[i]}
            state |= {f"m.{i}": slots["exp_avg"], f"v.{i}": slots["exp_avg_sq"], f"t.{i}": slots["step"]}
        partial = path.with_suffix(".partial")
        save_file({k: v.contiguous() for k, v in state.items()}, partial)
        partial.replace(path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        from safetensors.torch import load_file

        state = load_file(path)
        self.step = self.ema.steps = int(state["step"])
        for i, parameter in enumerate(self.parameters):
            parameter.copy_(state[f"p.{i}"])
            self.ema.shadow[i].copy_(state[f"ema.{i}"])
            self.optimiser.state[parameter] = {
                "exp_avg": state[f"m.{i}"].to(parameter.device),
                "exp_avg_sq": state[f"v.{i}"].to(parameter.device),
                "step": state[f"t.{i}"],
            }
        self.rate.last_epoch = self.step - 1
        self.rate.step()


def _velocity_loss(
    model: Any, text: Any, alphas: Tensor, x0: Tensor, ids: Tensor, generator: torch.Generator
) -> Tensor:
    """v-prediction error, damped by 5 / (5 + SNR): at the clean end there is little but noise to guess."""
    steps = torch.randint(1000, (len(x0),), generator=generator, device=x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    power = alphas[steps][:, None, None, None]
    a, s = power.sqrt(), (1 - power).sqrt()
    with torch.autocast(x0.device.type, torch.bfloat16, enabled=x0.is_cuda):
        predicted = model(a * x0 + s * noise, steps, text(input_ids=ids)[0]).sample
    weight = 5 * (1 - power) / (5 * (1 - power) + power)
    return (weight * (predicted.float() - (a * noise - s * x0)).square()).mean()


def train_unet(latents: Tensor, tokens: Tensor, text: Any, folder: Path, budget: Budget, device: str) -> Any:
    """Trains UNet and text encoder together on scaled latents [V, N, 4, 12, 12]: caption dropout 0.1, the style phrase
    on half of the rest. Returns the averaged UNet. `folder/run.safetensors` lets an interrupted run go on, exactly:
    every step draws from a generator of its own."""
    torch.manual_seed(budget.seed + 1)
    model = unet().to(device).train()
    text = text.to(device).train()
    run = _Run([*model.parameters(), *text.parameters()], budget)
    if (folder / "run.safetensors").exists():
        run.load(folder / "run.safetensors")
    alphas, started, first = scheduler().alphas_cumprod.to(device), time.time(), run.step
    views, count, size = *latents.shape[:2], budget.unet_batch
    while run.step < budget.unet_steps:
        generator = torch.Generator(device).manual_seed(budget.seed * 1_000_003 + run.step)
        index = torch.randint(count, (size,), generator=generator, device=device)
        view = torch.randint(views, (size,), generator=generator, device=device)
        draw = torch.rand(size, generator=generator, device=device)
        kind = torch.where(draw < 0.1, 2, torch.where(draw < 0.55, 1, 0))
        loss = _velocity_loss(model, text, alphas, latents[view, index], tokens[kind, index], generator)
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.parameters, 1.0)
        run.optimiser.step()
        run.rate.step()
        run.ema.update()
        run.step += 1
        if run.step % 250 == 0:
            run.save(folder / "run.safetensors")
            rate = (run.step - first) / (time.time() - started)
            print(f"unet step {run.step}/{budget.unet_steps} loss {loss.item():.4f} {rate:.2f} steps/s", flush=True)
    run.ema.apply()
    text.eval()
    return model.eval()


def _autoencoder_part(pixels: Tensor, folder: Path, budget: Budget, device: str) -> Any:
    """The autoencoder saved in `folder`; rounds that are not done yet are trained and saved first."""
    from diffusers import AutoencoderKL

    done = folder / "vae" / "rounds.txt"
    first = int(done.read_text()) if done.exists() else 0
    torch.manual_seed(budget.seed)
    model = AutoencoderKL.from_pretrained(folder / "vae") if first else autoencoder()
    for turn in range(first, budget.vae_rounds):
        train_autoencoder(model, pixels, budget, device, turn=turn)
        model.save_pretrained(folder / "vae")
        done.write_text(str(turn + 1))
    return model.to(device).eval()


def train(
    pictures: Sequence[Picture], folder: Path, budget: Budget, device: str, *, labeller: Path
) -> dict[str, float]:
    """Trains all parts on the pictures of the train and validation splits and saves the pipeline; returns seconds.

    `labeller` is the folder of the scorer whose text tower the text encoder starts from. A finished autoencoder in
    `folder` is reused, so that an interrupted rebuild goes on.
    """
    from diffusers import StableDiffusionPipeline
    from transformers import AutoTokenizer, CLIPTextModel

    known = [p for p in pictures if drawn(p)]
    pixels, started = to_tensor(known), time.time()
    vae = _autoencoder_part(pixels, folder, budget, device)
    seconds = {"autoencoder": time.time() - started}
    words = AutoTokenizer.from_pretrained(labeller)
    text = CLIPTextModel.from_pretrained(labeller, dtype=torch.float32)
    latents = encode(vae, pixels, views=budget.views, seed=budget.seed, device=device)
    scale = float(1 / latents.std())
    vae.register_to_config(scaling_factor=scale, _name_or_path="")
    started = time.time()
    model = train_unet(latents * scale, _token_table(words, known, device), text, folder, budget, device)
    seconds["unet"] = time.time() - started
    pipeline: Any = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=words,
        unet=model,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    return seconds
