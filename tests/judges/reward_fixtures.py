"""Tiny random reward models, their tokenizers and processors, and pixels made by hand."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIDE, PATCH, FEATURES = 32, 8, 24
PROMPTS = ["a red cat", "two dogs in the snow", "a red cat", ""]
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    """Random pictures of these (width, height)."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes]


def cropped(picture: Image.Image, side: int = SIDE) -> torch.Tensor:
    """Shorter side to `side`, the middle cut out, normalised: [1, 3, side, side]."""
    width, height = picture.size
    short = min(width, height)
    resized = picture.resize((side * width // short, side * height // short), Image.Resampling.BICUBIC)
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    return normalised(resized.crop((left, top, left + side, top + side)))


def normalised(picture: Image.Image) -> torch.Tensor:
    array = (np.asarray(picture, dtype=np.float32) / 255 - MEAN) / DEVIATION
    return torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0)


def shaken(module: torch.nn.Module, *, gain: float = 0.2) -> torch.nn.Module:
    """Every weight random, biases and norms included, large enough that each one shows in the output."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if "norm" in name and name.endswith("weight") else gain * noise)
    return module.eval()


def clip_tokenizer():
    from transformers import CLIPTokenizer

    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77)


def clip_config():
    """The shape of a tiny ViT: exact GELU as in CLIP ViT-H, depths, heads and widths of the towers all different."""
    from transformers import CLIPConfig

    tokenizer = clip_tokenizer()
    text = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3}
    text |= {"vocab_size": len(tokenizer), "hidden_act": "gelu", "max_position_embeddings": 77}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text |= {"pad_token_id": tokenizer.pad_token_id}
    vision = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    vision |= {"image_size": SIDE, "patch_size": PATCH, "hidden_act": "gelu"}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=FEATURES)


def save_clip_inputs(folder: Path) -> None:
    """Configuration, tokenizer and image processor of the tiny CLIP, without weights."""
    from transformers import CLIPImageProcessorPil

    clip_config().save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder)


def save_clip(folder: Path):
    """A whole CLIPModel folder; returns the model."""
    from transformers import CLIPModel

    model = shaken(CLIPModel(clip_config()))
    save_clip_inputs(folder)
    model.save_pretrained(folder)
    return model


def scores_one_by_one(judge, prompts, samples) -> np.ndarray:
    return np.concatenate([judge.score([prompt], [sample]) for prompt, sample in zip(prompts, samples, strict=True)])
