"""TuneJury (Kim et al., arXiv 2606.17006) on sounds alone: a head over CLAP's embedding, learnt from people's votes.

    s(x) = MLP(CLAP audio embedding of x),   512 -> 1024 -> 512 -> 256 -> 128 -> 1

Between the layers stand batch normalisation and ReLU. This is `A1_clap_audio_only`, the head that its authors release
under Apache-2.0 (the others rest on encoders that are not for commercial use). It was trained by the pairwise logistic
loss on some 17,500 votes, so differences of two scores mean something and a score by itself little.

Where we differ: the authors embed with the `laion_clap` package and its checkpoint; here it is CLAP of transformers,
with the weights that LAION converted, and a long sound is embedded as the mean of its segments of 10 s, where that
package takes 10 s at random. The published head was not run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.feedback.sound import Sound
from penchant.judges.audio_rewards import ClapEars
from penchant.judges.base import Judge
from penchant.judges.published import checkpoint, device, fill, tensors

_FILE, _CLAP = "A1_clap_audio_only.pt", "laion/larger_clap_music"


@final
class TuneJury(Judge):
    """The preference of a crowd for a piece of music; the prompt is not read."""

    name, version, dimensions = "tunejury", "1", ("preference",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: file or folder of the head; a folder with a CLAP model (`config.json`) brings its own ears. None is
                the authors' head on the hub.

        Raises:
            ModelError: there is no such head, or it does not fit the CLAP model.
        """
        file, clap = checkpoint(path, repository="TuneJury/tunejury", name=_FILE, inputs=_CLAP)
        self.ears = ClapEars(clap)
        state = _own(tensors(file))
        width = int(self.ears.model.config.projection_dim)
        first = state.get("0.weight")
        if first is None or first.shape[1] != width:
            takes = "no features" if first is None else f"{first.shape[1]} features"
            raise ModelError(
                f"its head takes {takes}, CLAP gives {width}.",
                file=file,
                remedy=f"give the head that hears CLAP alone, {_FILE}.",
            )
        self.head = _network(state)
        fill(self.head, state, file=file)
        self.head.eval().to(device())

    @torch.no_grad()
    def score(self, prompts: Sequence[str], samples: Sequence[Sound]) -> Float[np.ndarray, "N 1"]:
        """One score a sound.

        Raises:
            ModelError: a sample is no `Sound`.
        """
        heard = torch.stack([self.ears.embedding(sound, judge=self.name, row=i) for i, sound in enumerate(samples)])
        return self.head(heard).double().cpu().numpy()


def _own(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layers by their number, however the file calls what they are in."""
    return {name.removeprefix("net."): value for name, value in state.items()}


def _network(state: Mapping[str, Any]) -> nn.Sequential:
    """Linear, normalised and cut at zero, as many times as the file has layers; the last one is linear alone."""
    layers = nn.Sequential()
    numbers = sorted(int(n.split(".")[0]) for n, v in state.items() if n.endswith(".weight") and v.dim() == 2)
    for number in numbers:
        high, wide = state[f"{number}.weight"].shape
        layers.append(nn.Linear(wide, high))
        if number != numbers[-1]:
            # Dropout holds a number in the file and does nothing here.
            layers.extend([nn.BatchNorm1d(high), nn.ReLU(), nn.Identity()])
    return layers
