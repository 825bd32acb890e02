"""What the samples and prompts of a modality are called where people read of them."""

from __future__ import annotations

from dataclasses import dataclass

from penchant.sampling.samplers import Modality


@dataclass(frozen=True, kw_only=True)
class Words:
    """Nouns of one modality, small letters: a sample of it, what asks for one; and the titles of what its form is
    and of what is shown."""

    sample: str
    samples: str
    prompts: str
    form: str
    shown: str = "Before and after"


WORDS: dict[Modality, Words] = {
    "picture": Words(sample="picture", samples="pictures", prompts="captions", form="Form"),
    "text": Words(sample="text", samples="texts", prompts="prompts", form="Length and form"),
    "clip": Words(sample="clip", samples="clips", prompts="captions", form="Motion"),
    "tune": Words(sample="tune", samples="tunes", prompts="captions", form="Form of the music", shown="To listen to"),
    "sound": Words(
        sample="recording",
        samples="recordings",
        prompts="captions",
        form="Loudness and length",
        shown="To listen to",
    ),
}

DIMENSIONS = {"VQ": "visual quality", "MQ": "motion quality", "TA": "text alignment"}
"""What the dimensions of VideoAlign are called in full."""


def spelt(dimension: str) -> str:
    """A dimension as people read it: `MQ (motion quality)`."""
    return f"{dimension} ({DIMENSIONS[dimension]})" if dimension in DIMENSIONS else dimension
