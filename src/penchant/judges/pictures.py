"""Judges that measure pixels: no weights, no prompt. Of use for alarms and filters, and easy to exploit as rewards.

Both work on 8-bit RGB values as floats in [0, 255] and at the picture's own size: resizing would change what they
measure, so compare pictures of one size only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Float
from PIL import Image

from penchant.errors import ModelError
from penchant.judges.base import Judge

# ITU-R BT.601 luma, as PIL and OpenCV turn pictures grey.
_LUMA = np.array([0.299, 0.587, 0.114])


def _rgb(picture: Image.Image) -> Float[np.ndarray, "H W 3"]:
    return np.asarray(picture.convert("RGB"), dtype=np.float64)


def _no_weights(name: str, path: str | None) -> None:
    if path is not None:
        raise ModelError("has no weights.", file=path, remedy=f"name the judge alone: `{name}`.")


@final
class Sharpness(Judge):
    """Variance of the Laplacian of luminance, `Var[L * Y]` with `L = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]`.

    Y is unrounded luma in [0, 255], mirrored about its border pixels: the scale of
    `cv2.Laplacian(Y, cv2.CV_64F).var()`. Blur lowers it. Noise and compression artefacts raise it as detail does.
    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """

    name, version, dimensions = "sharpness", "1", ("sharpness",)

    def __init__(self, path: str | None = None) -> None:
        """
        Raises:
            ModelError: a path is given; there is nothing to load.
        """
        _no_weights(self.name, path)

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Variance of the Laplacian of each picture, in squared grey levels."""
        return np.array([[self._of(_rgb(sample) @ _LUMA)] for sample in samples]).reshape(-1, 1)

    def _of(self, luma: Float[np.ndarray, "H W"]) -> float:
        y = np.pad(luma, 1, mode="reflect")
        return float((y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:] - 4 * y[1:-1, 1:-1]).var())


@final
class Colourfulness(Judge):
    """The metric of Hasler and Suesstrunk, `sigma_rgyb + 0.3 mu_rgyb`.

    With `rg = R - G` and `yb = (R + G) / 2 - B` over the pixels, `sigma_rgyb = sqrt(sigma_rg^2 + sigma_yb^2)` and
    `mu_rgyb = sqrt(mu_rg^2 + mu_yb^2)`. Their viewers call 0 not, 33 moderately and 82 highly colourful.
    Source: "Measuring colourfulness in natural images", SPIE 5007, 2003, the metric M^(3).
    """

    name, version, dimensions = "colourfulness", "1", ("colourfulness",)

    def __init__(self, path: str | None = None) -> None:
        """
        Raises:
            ModelError: a path is given; there is nothing to load.
        """
        _no_weights(self.name, path)

    def score(self, prompts: Sequence[str], samples: Sequence[Image.Image]) -> Float[np.ndarray, "N 1"]:
        """Colourfulness of each picture, 0 for grey."""
        return np.array([[self._of(_rgb(sample))] for sample in samples]).reshape(-1, 1)

    def _of(self, rgb: Float[np.ndarray, "H W 3"]) -> float:
        red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
        rg, yb = red - green, (red + green) / 2 - blue
        return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))
