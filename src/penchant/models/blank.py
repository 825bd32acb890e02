"""What a generator's samples look like to its denoiser, found out by encoding one without content."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from penchant.feedback.clip import Clip
from penchant.models.pipeline_model import PipelineModel
from penchant.models.video import VideoModel


def blank(model: PipelineModel) -> dict[str, Tensor]:
    """Latents and micro-conditioning [1, ...] of a grey sample of the model's own size."""
    options = model.size_options()
    sample: Any = Image.new("RGB", (options["width"], options["height"]), "grey")
    if isinstance(model, VideoModel):
        frames = np.stack([np.asarray(sample)] * model.clip_size.frames)
        sample = Clip(frames=frames, fps=model.clip_size.fps)
    return model.encode_samples([sample], ids=["blank"], flips=[False], seed=0)
