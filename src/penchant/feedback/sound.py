"""`Sound`: audio in memory, what music models make and what judges of music listen to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from penchant.errors import MediaError


@dataclass(frozen=True, kw_only=True, eq=False)
class Sound:
    """Samples at a fixed rate.

    Attributes:
        samples: amplitudes of C channels (1 or 2); 1 is full scale, and what lies beyond it is clipped when written.
        rate: samples a second.

    Raises:
        MediaError: no sample, another type or number of channels, or a rate that is not positive.
    """

    samples: Float[np.ndarray, "C N"]
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.shape[0] not in (1, 2) or self.samples.shape[1] < 1:
            raise MediaError(
                f"a sound cannot have samples of shape {self.samples.shape}.", remedy="give [channels, samples]."
            )
        if self.samples.dtype != np.float32:
            raise MediaError(f"a sound cannot have samples of {self.samples.dtype}.", remedy="give float32 in [-1, 1].")
        if self.rate < 1:
            raise MediaError(f"a sound cannot have {self.rate} samples a second.", remedy="give a positive rate.")

    def __len__(self) -> int:
        return self.samples.shape[1]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.samples.shape[1] / self.rate

    def mono(self) -> Float[np.ndarray, " N"]:
        """The mean of the channels."""
        return self.samples.mean(0)
