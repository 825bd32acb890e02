"""What a generator's samples look like to its denoiser, found out by encoding one without content."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from penchant.feedback.clip import Clip
from penchant.models.pipeline_model import PipelineModel


def blank(model: PipelineModel) -> dict[str, Tensor]:
    """Latents and micro-conditioning [1, ...] of a grey sample of the model's own size."""
    options = model.size_options()
    sample: Any = Image.new("RGB", (options["width"], options["height"]), "grey")
    if "num_frames" in options:
        frames = np.stack([np.asarray(sample)] * options["num_frames"])
        sample = Clip(frames=frames, fps=getattr(model, "clip_size").fps)  # noqa: B009
    return model.encode_samples([sample], ids=["blank"], flips=[False], seed=0)
