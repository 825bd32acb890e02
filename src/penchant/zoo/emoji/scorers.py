"""Three text-image scorers of different architecture, and a style classifier.

Scorer A ("labeller", a CLIP with a vision transformer) labels preferences, scorer C ("voter", a Swin transformer) votes
beside it where an ensemble ranks; scorer B ("judge", a ConvNeXt beside a text transformer of another size) only ever
judges. They share no weights, no seed and no architecture of the eye. All know
the captions of the categories that the generator draws, also those that it never saw, so that they can judge them; what
is held out from them is one artist's picture of a tenth of the captions, on which their accuracy is measured.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from penchant.zoo.emoji.arrays import as_float, degrade, jitter, to_tensor, warp
from penchant.zoo.emoji.data import DRAWN, STYLES, Picture
from penchant.zoo.emoji.generator import MAX_WORDS

DIMENSION = 128
PAD = 1
# A melted copy of every fourth picture of a batch is one more picture that no caption means.
MELTED = 4


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Optimiser steps of one rebuild; the defaults made the shipped weights, each part on one CPU core."""

    labeller_steps: int = 1800
    judge_steps: int = 1500
    voter_steps: int = 1500
    style_steps: int = 2500
    batch: int = 96


def held_out(picture: Picture) -> bool:
    """True for the one picture in thirty that scorers never see: one artist's drawing of a tenth of the captions."""
    digest = hashlib.blake2b(f"scorer {picture.caption}".encode(), digest_size=2).digest()
    return digest[0] % 10 == 0 and STYLES[digest[1] % 3] == picture.style


def _text_settings(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_WORDS,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 3,
    }


def labeller(vocabulary: int) -> Any:
    """Scorer A: CLIPModel, vision transformer on 8 x 8 patches."""
    from transformers import CLIPConfig, CLIPModel

    vision = {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 48,
        "patch_size": 8,
    }
    return CLIPModel(CLIPConfig(text_config=_text_settings(vocabulary), vision_config=vision, projection_dim=DIMENSION))


def judge(vocabulary: int) -> Any:
    """Scorer B: VisionTextDualEncoderModel, a ConvNeXt beside a causal text transformer."""
    from transformers import ConvNextConfig, ConvNextModel

    # A layer scale of 1e-6, made for hundreds of epochs, would keep a small network from learning in a hundred.
    vision = ConvNextConfig(
        layer_scale_init_value=1.0, patch_size=2, hidden_sizes=[32, 64, 96, 128], depths=[1, 1, 3, 1], image_size=48
    )
    vision.hidden_size = 128
    return _dual_encoder(vocabulary, vision, ConvNextModel(vision), {"hidden_size": 96, "num_hidden_layers": 3})


def voter(vocabulary: int) -> Any:
    """Scorer C: VisionTextDualEncoderModel, a Swin transformer on 4 x 4 patches beside a shallow text transformer."""
    from transformers import SwinConfig, SwinModel

    vision = SwinConfig(
        image_size=48, patch_size=4, embed_dim=48, depths=[2, 2, 2], num_heads=[2, 4, 6], window_size=3, mlp_ratio=3.0
    )
    return _dual_encoder(vocabulary, vision, SwinModel(vision), {"hidden_size": 80, "num_hidden_layers": 2})


def _dual_encoder(vocabulary: int, vision: Any, eye: Any, text_settings: dict[str, Any]) -> Any:
    """An eye beside a causal text transformer.

    A text tower that pools at the first token (RoBERTa) learns late: its loss was 3.8 after 300 steps, this one's 1.3
    after 400; chance is 4.7.
    """
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
    )

    text = CLIPTextConfig(**_text_settings(vocabulary) | text_settings)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=DIMENSION)
    return VisionTextDualEncoderModel(config=config, vision_model=eye, text_model=CLIPTextModel(text))


def style_classifier() -> Any:
    """Which artist drew a picture: a small ResNet."""
    from transformers import ResNetConfig, ResNetForImageClassification

    names = dict(enumerate(STYLES))
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=24,
            hidden_sizes=[24, 48, 96],
            depths=[1, 1, 1],
            layer_type="basic",
            id2label=names,
            label2id={v: k for k, v in names.items()},
        )
    )


def _train(
    model: Any,
    loss_of: Callable[[Tensor, Tensor, torch.Generator], Tensor],
    pixels: Tensor,
    steps: int,
    batch: int,
    seed: int,
) -> float:
    """One loop for all three: `loss_of(images, index, generator)` on augmented pictures; returns seconds."""
    device = pixels.device
    generator = torch.Generator(device).manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98))
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.05)
    model.train()
    started = time.time()
    for step in range(steps):
        index = torch.randint(len(pixels), (batch,), generator=generator, device=device)
        images = degrade(jitter(as_float(pixels[index]), generator), generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of(images, index, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        if step % 100 == 0:
            print(f"{type(model).__name__} step {step} loss {loss.item():.3f} {time.time() - started:.0f}s", flush=True)
    model.eval()
    return time.time() - started


def features(model: Any, images: Tensor) -> Tensor:
    """Unit image features [N, DIMENSION] of pictures in [-1, 1]."""
    pooled = model.vision_model(pixel_values=images)[1].flatten(1)
    return F.normalize(model.visual_projection(pooled).float(), dim=-1)


def text_features(model: Any, ids: Tensor) -> Tensor:
    """Unit caption features [N, DIMENSION] of padded token ids [N, L]."""
    ids = ids[:, : int((ids != PAD).sum(1).max())]
    pooled = model.text_model(input_ids=ids, attention_mask=(ids != PAD).long())[1]
    return F.normalize(model.text_projection(pooled).float(), dim=-1)


def _contrastive(model: Any, ids: Tensor, concept: Tensor) -> Callable[[Tensor, Tensor, torch.Generator], Tensor]:
    """Symmetric InfoNCE in which pictures of the same caption are all positives of it, and melted ones of none."""

    def loss_of(images: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
        whole = len(images)
        shown = torch.cat([images, warp(images[::MELTED], generator)])
        logits = model.logit_scale.clamp(max=4.6).exp() * features(model, shown) @ text_features(model, ids[index]).T
        same = (concept[index][:, None] == concept[index][None]).float()
        target = same / same.sum(-1, keepdim=True)
        by_caption = F.pad(target, (0, len(shown) - whole))
        return 0.5 * (F.cross_entropy(logits[:whole], target) + F.cross_entropy(logits.T, by_caption))

    return loss_of


@torch.no_grad()
def accuracy(model: Any, pixels: Tensor, ids: Tensor, concept: Tensor, rows: Tensor) -> dict[str, float]:
    """On the pictures `rows`: P(true caption beats a random other caption) and P(it beats every other caption)."""
    first = torch.stack([(concept == c).nonzero()[0, 0] for c in concept.unique()])
    words = torch.cat([text_features(model, chunk) for chunk in ids[first].split(256)])
    views = torch.cat([features(model, as_float(chunk)) for chunk in pixels[rows].split(256)])
    scores = views @ words.T
    own = scores.gather(1, concept[rows][:, None])
    beaten = (scores < own).float().sum(1)
    return {
        "pictures": float(len(rows)),
        "pairwise": float((beaten / (scores.shape[1] - 1)).mean()),
        "top1": float((beaten == scores.shape[1] - 1).float().mean()),
    }


def train(pictures: Sequence[Picture], words: Any, folder: Path, *, budget: Budget, device: str) -> dict[str, Any]:
    """Trains and saves scorers and style classifier under `folder`; returns seconds and held-out accuracies.

    What is already in `folder` is kept, so that an interrupted build goes on.
    """
    known, results = [p for p in pictures if p.category in DRAWN], {}
    parts = (
        ("labeller", labeller, budget.labeller_steps, 11),
        ("judge", judge, budget.judge_steps, 12),
        ("voter", voter, budget.voter_steps, 14),
    )
    for name, make, steps, seed in parts:
        if not (folder / name / "config.json").exists():
            torch.manual_seed(seed)
            model = make(len(words))
            results[name] = _train_scorer(model, known, words, folder / name, steps, budget.batch, seed, device)
    if not (folder / "style" / "config.json").exists():
        # A style is a style whatever is drawn: the classifier learns from all categories.
        results["style"] = _train_style(pictures, folder / "style", budget.style_steps, device)
    return results


def _train_scorer(
    model: Any,
    pictures: Sequence[Picture],
    words: Any,
    folder: Path,
    steps: int,
    batch: int,
    seed: int,
    device: str,
) -> dict[str, Any]:
    pixels = to_tensor(pictures).to(device)
    captions = [p.caption for p in pictures]
    names = {c: i for i, c in enumerate(sorted(set(captions)))}
    concept = torch.tensor([names[c] for c in captions], device=device)
    ids = words(captions, padding="max_length", truncation=True, max_length=MAX_WORDS, return_tensors="pt").input_ids
    ids = ids.to(device)
    rows, unseen = _split(pictures, device)
    model = model.to(device)
    seconds = _train(model, _contrastive(model, ids[rows], concept[rows]), pixels[rows], steps, batch, seed)
    shown = {"held-out drawings": unseen, "known drawings": rows}
    result = {"seconds": seconds, **{k: accuracy(model, pixels, ids, concept, v) for k, v in shown.items()}}
    model.half().save_pretrained(folder)
    words.save_pretrained(folder)
    return result


def _split(pictures: Sequence[Picture], device: str) -> tuple[Tensor, Tensor]:
    """Indices of the pictures to learn from, and of the held-out ones."""
    unseen = torch.tensor([held_out(p) for p in pictures], device=device)
    return (~unseen).nonzero()[:, 0], unseen.nonzero()[:, 0]


def _train_style(pictures: Sequence[Picture], folder: Path, steps: int, device: str) -> dict[str, float]:
    pixels, (rows, unseen) = to_tensor(pictures).to(device), _split(pictures, device)
    style = torch.tensor([STYLES.index(p.style) for p in pictures], device=device)
    torch.manual_seed(13)
    model, known = style_classifier().to(device), style[rows]

    def loss_of(images: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
        return F.cross_entropy(model(images).logits.float(), known[index])

    seconds = _train(model, loss_of, pixels[rows], steps, 64, 13)
    with torch.no_grad():
        guess = torch.cat([model(as_float(chunk)).logits.argmax(-1) for chunk in pixels[unseen].split(256)])
    right, preferred = guess == style[unseen], (guess == 0) == (style[unseen] == 0)
    result = {
        "seconds": seconds,
        "accuracy": float(right.float().mean()),
        f"{STYLES[0]} or not": float(preferred.float().mean()),
    }
    model.half().save_pretrained(folder)
    return result
