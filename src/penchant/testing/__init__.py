"""Tiny real models, built from configurations without any download: for tests, examples and dry runs.

    from penchant.testing import build
    folder = build("stable-diffusion-xl", tmp_path / "sdxl")
    folder = build("llama", tmp_path / "llama")

Every class is the real one; only sizes are small and weights random. Sequences are cut to 77 CLIP tokens as in the real
models. Text is read byte by byte, so any prompt in any script has an encoding.
"""

from __future__ import annotations

from pathlib import Path

from penchant.errors import ModelError, nearest
from penchant.testing import music, pictures, video
from penchant.testing.language import LANGUAGE_MODELS, language_tokenizer, tiny_language_model

__all__ = ["LANGUAGE_MODELS", "build", "language_tokenizer", "tiny_language_model"]


def build(name: str, folder: str | Path, *, seed: int = 0) -> Path:
    """Build a tiny pipeline of a family and save it as an ordinary folder.

    Args:
        name: a family of `penchant.models.families.FAMILIES`, a model type of `LANGUAGE_MODELS`, or
            "musicgen".
        folder: where to save; created when missing.
        seed: seed of the random weights.

    Raises:
        ModelError: unknown name.
    """
    if name in LANGUAGE_MODELS:
        tiny_language_model(name, seed).save_pretrained(str(folder))
        language_tokenizer().save_pretrained(str(folder))
        return Path(folder)
    if name in music.BUILDERS:
        return music.BUILDERS[name](seed, folder)
    if name in video.BUILDERS:
        return video.save(video.BUILDERS[name](seed), folder, size=video.SIZES[name])
    if name not in pictures.BUILDERS:
        known = [*pictures.BUILDERS, *video.BUILDERS, *music.BUILDERS, *LANGUAGE_MODELS]
        raise ModelError(f"no tiny model is called '{name}'.", remedy=nearest(name, known))
    pipeline = pictures.BUILDERS[name](seed)
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return Path(folder)
