"""What the card says of the clip generator: do its clips show their captions, do they move, how well are they decoded.

The eye that reads clips here learnt beside the text encoder and no loss of the generator ever saw it; but it knows the
captions from the same animations, so what it recognises is what was drawn, not what people would name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from penchant.feedback.clip import Clip
from penchant.zoo.clips.data import FPS, Footage, motion
from penchant.zoo.clips.text import Reader


def measure(model: Any, reader: Reader, loops: Sequence[Footage], *, guidances: Sequence[float]) -> dict[str, Any]:
    """Of the captions that the generator knows, by guidance scale; and of the real clips, as they are and decoded.

    Args:
        model: the generator, a video model.
        reader: text encoder and eye.
        loops: the real clips of the known captions.
        guidances: guidance scales, one seed a caption each.

    Returns:
        By name, "recognised" (the own caption first of all known ones) and "motion" (grey levels, see `data.motion`),
        and for the autoencoder the "error" in grey levels.
    """
    captions = [loop.caption for loop in loops]
    real = [Clip(frames=loop.window(0), fps=FPS) for loop in loops]
    latents = model.encode_clips(real, ids=captions)["latents"]
    decoded = model.decode_latents(latents)
    pairs = zip(real, decoded, strict=True)
    error = float(np.mean([np.abs(a.frames.astype(float) - b.frames).mean() for a, b in pairs]))
    found: dict[str, Any] = {"real": _told(real, captions, reader), "decoded": _told(decoded, captions, reader)}
    found["decoded"] = {**found["decoded"], "error": error}
    for scale in guidances:
        clips = model.generate(captions, seeds=range(len(captions)), steps=20, guidance=scale, batch_size=16)
        found[f"guidance {scale:g}"] = _told(clips, captions, reader)
    return found


@torch.no_grad()
def _told(clips: Sequence[Clip], captions: Sequence[str], reader: Reader) -> Mapping[str, float]:
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
    nearest = reader.logits(frames, captions).argmax(1)
    right = float((nearest == torch.arange(len(captions))).float().mean())
    return {"recognised": right, "motion": float(np.mean([motion(clip.frames) for clip in clips]))}
