"""What spoils a clip, in four levels each: its picture (visual quality, VQ) or its motion (motion quality, MQ).

Every corruption is a pure function of (frames, level, generator) on uint8 [F, H, W, 3]; level 1 is mild, 4 the
worst. Those of VQ do the same to every frame, so that they leave the motion alone; those of MQ move, repeat or reorder
whole frames, so that they leave the pictures alone.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from jaxtyping import UInt8

Frames = UInt8[np.ndarray, "F H W 3"]
Corruption = Callable[[Frames, int, np.random.Generator], Frames]
LEVELS = 4

_BLUR_RADIUS = (0.8, 1.3, 2.0, 3.0)
_NOISE = (10.0, 20.0, 34.0, 52.0)
_JPEG_QUALITY = (32, 16, 7, 2)
_COLOUR_LEFT = (0.6, 0.36, 0.16, 0.0)
_SHAKE = (1, 2, 3, 5)
_FROZEN_SHARE = (0.4, 0.6, 0.8, 1.0)
_HELD = (2, 3, 4, 5)
_SWAPS = (1, 2, 4, 8)


def blur(frames: Frames, level: int, rng: np.random.Generator) -> Frames:
    """Gaussian blur of 0.8 to 3 pixels."""
    from PIL import Image, ImageFilter

    # Drawn from no generator: a blur has no chance in it.
    del rng
    lens = ImageFilter.GaussianBlur(_BLUR_RADIUS[level - 1])
    return np.stack([np.asarray(Image.fromarray(frame).filter(lens)) for frame in frames])


def noise(frames: Frames, level: int, rng: np.random.Generator) -> Frames:
    """One pattern of Gaussian noise over all frames, like a dirty lens: noise that changes would look like motion."""
    pattern = rng.standard_normal(frames.shape[1:]) * _NOISE[level - 1]
    return (frames + pattern).round().clip(0, 255).astype(np.uint8)


def blocks(frames: Frames, level: int, rng: np.random.Generator) -> Frames:
    """JPEG at low quality, frame by frame: blocks and smeared colours."""
    from PIL import Image

    del rng
    out = []
    for frame in frames:
        file = BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=_JPEG_QUALITY[level - 1], subsampling=2)
        out.append(np.asarray(Image.open(file).convert("RGB")))
    return np.stack(out)


def fade(frames: Frames, level: int, rng: np.random.Generator) -> Frames:
    """Colours and contrast washed out; level 4 is a pale grey picture."""
    del rng
    left = _COLOUR_LEFT[level - 1]
    grey = frames.mean(-1, keepdims=True)
    paler = 255 - (255 - (grey + left * (frames - grey))) * (0.4 + 0.6 * left)
    return paler.round().clip(0, 255).astype(np.uint8)


def shuffle(frames: Frames, level: int, rng: np.random.Generator) -> Frames:
    """1 to 8 exchanges of two frames."""
    order = np.arange(len(frames))
    for _ in range(_SWAPS[level - 1]):
        a, b = rng.choice(len(frames), 2, replace=False)
        order[[a, b]] = order[[b, a]]
    # Exchanges can undo each other.
    return frames[order] if (order != np.arange(len(order))).any() else frames[np.roll(order, 1)]


def freeze(frames: Frames, level: int, rng: np.random.Generator) -> Frames:
    """The clip stands still for its last 40 to 100 %; a still clip is the well-known hack of video rewards."""
    del rng
    last = max(0, round(len(frames) * (1 - _FROZEN_SHARE[level - 1])) - 1)
    return frames[np.minimum(np.arange(len(frames)), last)]


def stutter(frames: Frames, level: int, rng: np.random.Generator) -> Frames:
    """Frames are dropped and their neighbours shown 2 to 5 times instead."""
    held = _HELD[level - 1]
    first = int(rng.integers(held))
    places = (np.arange(len(frames)) + first) // held * held - first
    return frames[places.clip(0)]


def shake(frames: Frames, level: int, rng: np.random.Generator) -> Frames:
    """Every frame is displaced by up to 1 to 5 pixels, what comes in is white."""
    reach, (length, height, width) = _SHAKE[level - 1], frames.shape[:3]
    out = np.full_like(frames, 255)
    for index, (down, right) in enumerate(rng.integers(-reach, reach + 1, (length, 2))):
        rows, columns = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
        from_rows = slice(max(0, -down), height + min(0, -down))
        from_columns = slice(max(0, -right), width + min(0, -right))
        out[index, rows, columns] = frames[index, from_rows, from_columns]
    return out


VISUAL: dict[str, Corruption] = {"blur": blur, "noise": noise, "blocks": blocks, "fade": fade}
MOTION: dict[str, Corruption] = {"shuffle": shuffle, "freeze": freeze, "stutter": stutter, "shake": shake}


def apply(kinds: dict[str, Corruption], kind: str, frames: Frames, level: int, rng: np.random.Generator) -> Frames:
    """The clip after the corruption `kind` at `level`; level 0 changes nothing."""
    return kinds[kind](frames, level, rng) if level else frames
