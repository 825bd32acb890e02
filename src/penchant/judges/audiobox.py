"""Audiobox-aesthetics (Tjandra et al., arXiv 2502.05139): four scores of any sound, without a reference or a prompt.

    content enjoyment, content usefulness, production complexity, production quality; each about 1 to 10

The model is the authors' class, out of their package; what stands around it is ours, as theirs needs torchaudio: one
channel at 16 kHz, windows of 10 s one behind the other, the last one filled up with silence that is masked, and the
mean of the windows by how much of each is sound.

Their code is licensed CC-BY 4.0 and stays in its package. Install it without its dependencies, or serve it from an
environment of its own (`docs/reward-server.md`): `pip install --no-deps audiobox_aesthetics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError
from penchant.feedback.sound import Sound
from penchant.judges.audio_rewards import resampled
from penchant.judges.base import Judge
from penchant.judges.packages import needed, version
from penchant.judges.published import device

RATE, SECONDS = 16_000, 10
_AXES = {
    "CE": "content enjoyment",
    "CU": "content usefulness",
    "PC": "production complexity",
    "PQ": "production quality",
}
_INSTALL = "--no-deps audiobox_aesthetics"


@final
class Audiobox(Judge):
    """The four axes of Audiobox-aesthetics; the prompt is not read."""

    name, dimensions = "audiobox", tuple(name.replace(" ", "-") for name in _AXES.values())

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: folder or hub address of the model; None is `facebook/audiobox-aesthetics`, which was not run here.

        Raises:
            ModelError: the package is not installed, or there is no model at `path`.
        """
        module = needed("audiobox_aesthetics.model.aes", install=_INSTALL)
        self.version = version("audiobox_aesthetics", None)
        source = path or "facebook/audiobox-aesthetics"
        try:
            model = module.AesMultiOutput.from_pretrained(source)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"is no Audiobox model ({str(error).splitlines()[0]}).", file=source, remedy="give config and weights."
            ) from error
        self.model: Any = model.eval().to(device())

    @torch.no_grad()
    def score(self, prompts: Sequence[str], samples: Sequence[Sound]) -> Float[np.ndarray, "N 4"]:
        """The four axes of each sound.

        Raises:
            ModelError: a sample is no `Sound`.
        """
        return np.array([self._one(sound, row) for row, sound in enumerate(samples)]).reshape(-1, len(_AXES))

    def _one(self, sound: Any, row: int) -> list[float]:
        if not isinstance(sound, Sound):
            raise ModelError(f"{self.name} hears sounds, not a {type(sound).__name__}.", row=row, remedy="give sounds.")
        wav_W1N, mask_W1N = windows(torch.from_numpy(resampled(sound, RATE)), RATE * SECONDS)
        found = self.model({"wav": wav_W1N.to(device()), "mask": mask_W1N.to(device())})
        share_W = mask_W1N.float().mean((1, 2))
        scales = self.model.target_transform
        return [
            float((found[axis].cpu() * scales[axis]["std"] + scales[axis]["mean"]).mul(share_W).sum() / share_W.sum())
            for axis in _AXES
        ]


def windows(samples_N: Float[Tensor, " N"], length: int) -> tuple[Tensor, Tensor]:
    """Windows [W, 1, length] one behind the other, silence behind the last one, and where they are sound.

    >>> wav, mask = windows(torch.ones(25), 10)
    >>> wav.shape, mask.sum((1, 2)).tolist()
    (torch.Size([3, 1, 10]), [10, 10, 5])
    """
    count = -(-len(samples_N) // length)
    wav = samples_N.new_zeros(count * length)
    wav[: len(samples_N)] = samples_N
    mask = torch.arange(count * length) < len(samples_N)
    return wav.view(count, 1, length), mask.view(count, 1, length)
