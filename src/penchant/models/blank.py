"""What a generator's samples look like to its denoiser, found out by encoding one without content."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from penchant.feedback.clip import Clip
from penchant.feedback.sound import Sound
from penchant.models.pipeline_model import PipelineModel
from penchant.models.sound import SoundModel
from penchant.models.video import VideoModel


def blank(model: PipelineModel) -> dict[str, Tensor]:
    """Latents and micro-conditioning [1, ...] of a grey or silent sample of the model's own size."""
    if isinstance(model, SoundModel):
        rate, channels = model.audio()
        silence = Sound(samples=np.zeros((channels, model.samples), dtype=np.float32), rate=rate)
        return model.encode_samples([silence], ids=["blank"], flips=[False], seed=0)
    options = model.size_options()
    sample: Any = Image.new("RGB", (options["width"], options["height"]), "grey")
    if isinstance(model, VideoModel):
        frames = np.stack([np.asarray(sample)] * model.clip_size.frames)
        sample = Clip(frames=frames, fps=model.clip_size.fps)
    return model.encode_samples([sample], ids=["blank"], flips=[False], seed=0)
