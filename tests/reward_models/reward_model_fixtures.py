"""Small real clips and annotated pairs: shipped drawings that pan, and spoilt copies of them. Labels are simulated."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

from penchant.assets import resolve
from penchant.feedback import export_groups, read
from penchant.feedback.clip import Clip
from penchant.feedback.groups import Candidate, Group, Judgement, Media
from penchant.feedback.media import decode_image
from penchant.feedback.video_files import encode_clip
from penchant.recipe import Training
from penchant.reward_models.losses import BradleyTerryTies
from penchant.reward_models.network import Dimension
from penchant.reward_models.transformer import VideoTransformer
from penchant.reward_training import Annotations, RewardRecipe

SIDE, FRAMES = 16, 6
VQ, TA = Dimension(name="VQ"), Dimension(name="TA", sees_prompt=True)
MQ = Dimension(name="MQ")
TINY = VideoTransformer(
    side=SIDE, frames=FRAMES, patch=8, span=3, width=32, layers=2, heads=2, vocabulary=300, words=8, prior=None
)


@cache
def drawings(count: int) -> tuple[tuple[str, Image.Image], ...]:
    """The first shipped drawings with their captions."""
    groups = read(resolve("zoo:emoji/artists"), limit=count)
    return tuple((g.prompt, decode_image(g.candidates[0].media.bytes())[0]) for g in groups if g.candidates[0].media)


def panned(picture: Image.Image, *, reach: int = 6) -> Clip:
    """A drawing that passes from left to right."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    frames = [np.roll(np.asarray(small), round(reach * (i / (FRAMES - 1) - 0.5)), axis=1) for i in range(FRAMES)]
    return Clip(frames=np.stack(frames), fps=6.0)


def blurred(clip: Clip) -> Clip:
    """Worse to look at, moving alike."""
    soft = [np.asarray(Image.fromarray(f).filter(ImageFilter.GaussianBlur(2))) for f in clip.frames]
    return Clip(frames=np.stack(soft), fps=clip.fps)


def candidate(clip: Clip) -> Candidate:
    return Candidate(media=Media.of(encode_clip(clip)))


def pair(
    prompt: str, first: Clip, second: Clip, labels: dict[str, tuple[float, float]], split: str | None = None
) -> Group:
    """A group of two with one simulated label a dimension."""
    return Group(
        prompt=prompt,
        candidates=(candidate(first), candidate(second)),
        judgements=tuple(
            Judgement(kind="pair", dimension=name, values=values, source="simulated:test")
            for name, values in labels.items()
        ),
        split=split,
    )


A, B, SAME = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)


def spoilt_pairs(count: int) -> list[Group]:
    """Pairs of a clip and its blurred copy, in both orders, and ties of a clip with its mirror image in time."""
    groups = []
    for i, (caption, picture) in enumerate(drawings(count)):
        clip = panned(picture)
        turned = Clip(frames=np.ascontiguousarray(clip.frames[::-1]), fps=clip.fps)
        split = ("train", "train", "train", "validation", "test")[i % 5]
        sides = (clip, blurred(clip)) if i % 2 else (blurred(clip), clip)
        groups.append(pair(caption, *sides, {"VQ": A if i % 2 else B, "TA": SAME}, split))
        if i % 3 == 0:
            groups.append(pair(caption, clip, turned, {"VQ": SAME, "TA": SAME}, split))
    return groups


def written(groups: list[Group], path: Path) -> str:
    export_groups(groups, path)
    assert pq.read_metadata(path).num_rows == len(groups)
    return str(path)


def recipe(path: str, out: Path, *, steps: int, save_every: int = 0, **options: object) -> RewardRecipe:
    """A small run on a feedback file."""
    train = Training(steps=steps, batch_size=16, lr=3e-3, warmup=5, ema=0.9, save_every=save_every, flip=True)
    settings = {"dimensions": (VQ, TA), "loss": BradleyTerryTies(), "backbone": TINY, "threads": 1, **options}
    return RewardRecipe(name="test", feedback=Annotations(path=path), out=str(out), train=train, **settings)  # type: ignore[arg-type]


def png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
