"""Tiny video models, clips and batches that the video tests share."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch

import penchant
from penchant.feedback.clip import Clip
from penchant.likelihoods import Diffusion, FlowMatching
from penchant.testing.video import BUILDERS, SIZES, save, tiny_cogvideox, tiny_wan
from penchant.types import CandidateBatch

VARIANTS = {
    **{name: (lambda build=build: build(0)) for name, build in BUILDERS.items()},
    "wan-experts": lambda: tiny_wan(experts=True),
    "wan-per-token": lambda: tiny_wan(per_token=True, unipc=True),
    "cogvideox-1.5": lambda: tiny_cogvideox(in_time=2),
}
STEPS = 4


class Tiny:
    """Folders and loaded models of all variants; what was loaded before is copied, which is much faster."""

    def __init__(self, root: Path) -> None:
        self.root, self.loaded = root, {}

    def folder(self, name: str) -> Path:
        folder = self.root / name
        if not folder.exists():
            family = name if name in SIZES else name.split("-")[0]
            save(VARIANTS[name](), folder, size=SIZES[family])
        return folder

    def shared(self, name: str, **options):
        """A model for tests that leave it as it is."""
        key = (name, *sorted(options.items()))
        if key not in self.loaded:
            self.loaded[key] = penchant.load(str(self.folder(name)), **options)
        return self.loaded[key]

    def load(self, name: str, **options):
        """A model of one's own."""
        return copy.deepcopy(self.shared(name, **options))


def clips(count: int = 3, *, frames: int = 24, fps: float = 12.0) -> list[Clip]:
    """Noise of several sizes."""
    rng, sizes = np.random.default_rng(0), [(40, 36), (33, 50), (32, 32)]
    return [
        Clip(frames=rng.integers(0, 255, (frames, *sizes[i % 3], 3), dtype=np.uint8), fps=fps) for i in range(count)
    ]


def rows(model, prompts=("a red cat", "two dogs", "rain")):
    """Noisy latents, times, condition and candidates of three rows; the times lie on both sides of a boundary."""
    latents = model.encode_clips(clips(len(prompts)), ids=[str(i) for i in range(len(prompts))])["latents"]
    time = [0.1, 0.5, 0.95][: len(prompts)] if model.prediction == "velocity" else [10, 500, 950]
    return latents, torch.tensor(time), model.encode_prompts(list(prompts)), {}


def likelihood_of(model, *, steps: int = STEPS) -> Diffusion | FlowMatching:
    """What scores the model, with times all over the path."""
    if model.prediction == "velocity":
        return FlowMatching(steps=steps, time="uniform", shift=1.0)
    return Diffusion(steps=steps)


def pairs(model, groups: int = 2) -> CandidateBatch:
    """Pairs of clips, the first preferred."""
    given = clips(2 * groups)
    latents = model.encode_clips(given, ids=[str(i) for i in range(len(given))])["latents"]
    prompts = tuple(f"prompt {b}" for b in range(groups))
    return CandidateBatch(
        group_ids=tuple(f"g{b}" for b in range(groups)),
        sample_ids=tuple((f"s{b}0", f"s{b}1") for b in range(groups)),
        prompts=prompts,
        candidates={"latents": latents.unflatten(0, (groups, 2))},
        condition=model.encode_prompts(prompts),
        scores_BK=torch.tensor([[1.0, 0.0]]).repeat(groups, 1),
        mask_BK=torch.ones(groups, 2, dtype=torch.bool),
    )


def sampled(pipeline, model, **options) -> torch.Tensor:
    """Latents of one prompt, as the pipeline gives them."""
    # Weights read from a file lie in memory as the file has them, and kernels may sum those in another order.
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                parameter.data = parameter.data.clone()
    pipeline.set_progress_bar_config(disable=True)
    given = {
        "generator": torch.Generator().manual_seed(0),
        "num_inference_steps": 2,
        "output_type": "latent",
        **model.size_options(),
        **options,
    }
    return pipeline("a red cat", **given).frames
