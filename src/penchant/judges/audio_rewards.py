"""CLAP as a judge of sounds: cos(text, audio), the open counterpart of MusicRL's MuLan score.

MuLan listens to 10 s, and MusicRL scores a clip of 30 s as three segments and takes the mean (arXiv 2402.04229, section
3.3). CLAP (arXiv 2211.06687) listens to 10 s, too. Longer sounds are cut here, for CLAP's own feature extractor takes
10 s of them at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError
from penchant.feedback.sound import Sound
from penchant.judges.base import Judge
from penchant.judges.published import device

SECONDS = 10.0


class ClapEars:
    """A ClapModel of transformers with what feeds it.

    Args:
        source: its folder or hub address, with tokenizer and feature extractor.

    Raises:
        ModelError: there is no such model.
    """

    def __init__(self, source: str) -> None:
        from transformers import AutoFeatureExtractor, AutoTokenizer, ClapModel

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(source)
            self.extractor: Any = AutoFeatureExtractor.from_pretrained(source)
            model = ClapModel.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"is no CLAP model ({str(error).splitlines()[0]}).",
                file=source,
                remedy="give a ClapModel with its tokenizer and feature extractor.",
            ) from error
        self.model: Any = model.eval().to(device())

    def heard(self, sound: Any, *, judge: str, row: int) -> Mapping[str, Any]:
        """The features of a sound's segments of 10 s.

        Raises:
            ModelError: it is no `Sound`.
        """
        if not isinstance(sound, Sound):
            raise ModelError(f"{judge} hears sounds, not a {type(sound).__name__}.", row=row, remedy="give a Sound.")
        rate = int(self.extractor.sampling_rate)
        parts = segments(resampled(sound, rate), round(SECONDS * rate))
        features = self.extractor(parts, sampling_rate=rate, return_tensors="pt")
        return {name: torch.as_tensor(value).to(device()) for name, value in features.items()}

    def embedding(self, sound: Any, *, judge: str, row: int) -> Tensor:
        """The mean [D] of the unit embeddings of a sound's segments."""
        found = self.model.get_audio_features(**self.heard(sound, judge=judge, row=row))
        embedded = getattr(found, "pooler_output", found)
        return (embedded / embedded.norm(dim=-1, keepdim=True)).mean(0)


@final
class Clap(Judge):
    """Cosine of prompt and sound by a ClapModel of transformers, the mean over segments of 10 s."""

    name, version, dimensions = "clap", "1", ("adherence",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: ClapModel folder or hub address with tokenizer and feature extractor; None is
                `laion/larger_clap_music`, which was not run here.

        Raises:
            ModelError: there is no such model at `path`.
        """
        self.ears = ClapEars(path or "laion/larger_clap_music")

    @torch.no_grad()
    def score(self, prompts: Sequence[str], samples: Sequence[Sound]) -> Float[np.ndarray, "N 1"]:
        """Mean cosine of each (prompt, sound), in [-1, 1].

        Raises:
            ModelError: a sample is no `Sound`.
        """
        rows = [self._one(prompt, sound, row) for row, (prompt, sound) in enumerate(zip(prompts, samples, strict=True))]
        return np.array(rows, dtype=np.float64).reshape(-1, 1)

    def _one(self, prompt: str, sound: Any, row: int) -> float:
        heard = self.ears.heard(sound, judge=self.name, row=row)
        text = self.ears.tokenizer([prompt], return_tensors="pt", truncation=True)
        words = {k: text[k].to(device()) for k in ("input_ids", "attention_mask")}
        out = self.ears.model(**words, **heard)
        return float((out.audio_embeds @ out.text_embeds[0]).mean())


def resampled(sound: Sound, rate: int) -> Float[np.ndarray, " N"]:
    """The sound in one channel at another rate, by a polyphase filter."""
    from math import gcd

    from scipy.signal import resample_poly

    if sound.rate == rate:
        return sound.mono()
    common = gcd(sound.rate, rate)
    return resample_poly(sound.mono(), rate // common, sound.rate // common).astype(np.float32)


def segments(samples: Float[np.ndarray, " N"], length: int) -> list[Float[np.ndarray, " M"]]:
    """Pieces of `length`, one behind the other; the last reaches the end and may overlap. A short sound is one piece.

    >>> [len(s) for s in segments(np.zeros(25, np.float32), 10)]
    [10, 10, 10]
    """
    if len(samples) <= length:
        return [samples]
    starts = [*range(0, len(samples) - length, length), len(samples) - length]
    return [samples[start : start + length] for start in starts]
