"""What the samples and prompts of a modality are called where people read of them."""

from __future__ import annotations

from dataclasses import dataclass

from penchant.sampling.samplers import Modality


@dataclass(frozen=True, kw_only=True)
class Words:
    """Nouns of one modality, small letters: a sample of it and what asks for one."""

    sample: str
    samples: str
    prompts: str


WORDS: dict[Modality, Words] = {
    "picture": Words(sample="picture", samples="pictures", prompts="captions"),
    "text": Words(sample="text", samples="texts", prompts="prompts"),
}
