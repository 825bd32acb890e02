"""The emoji feedback: the generator's own samples labelled by scorer A, and the artists' pictures of one caption.

`samples.parquet` is simulated feedback: no person voted. Four samples a caption, of one model at several guidance
scales as in Pick-a-Pic, scored by the labeller; a caption's best and worst make its pair, a Pick-a-Pic row.
`artists.parquet` holds real drawings: the Fluent picture of a caption is preferred to Noto's or Twemoji's, a Pick-Style
row with a stated, not a voted, preference.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from penchant.feedback import Candidate, Group, Judgement, Media
from penchant.feedback.export import export_parquet
from penchant.likelihoods.randomness import generator
from penchant.zoo.emoji.data import Picture

# Two samples of the bare model, two guided ones.
GUIDANCES = (1.0, 1.0, 2.0, 3.0)


def artist_pairs(pictures: Sequence[Picture], *, preferred: str = "fluent") -> list[Group]:
    """One pair a training caption: the preferred artist's drawing against one other's, which of them by count."""
    by_caption: dict[str, dict[str, Picture]] = {}
    for picture in pictures:
        if picture.split == "train":
            by_caption.setdefault(picture.caption, {})[picture.style] = picture
    groups = []
    for caption, drawn in sorted(by_caption.items()):
        others = sorted(style for style in drawn if style != preferred)
        if preferred not in drawn or not others:
            continue
        other = others[int(generator(0, 0, caption, "artist").integers(len(others)))]
        groups.append(
            Group(
                prompt=caption,
                candidates=tuple(Candidate(media=Media.of(_webp(drawn[s].png)), model=s) for s in (preferred, other)),
                judgements=(Judgement(kind="pair", values=(1.0, 0.0), source="simulated:prefers-fluent"),),
            )
        )
    return groups


def sample_pairs(model: Any, judge: Any, captions: Sequence[str], *, steps: int) -> list[Group]:
    """Best against worst, by the judge's score, of a caption's samples at `GUIDANCES`."""
    groups = []
    for start in range(0, len(captions), 32):
        chunk = list(captions[start : start + 32])
        by_caption = list(zip(*(_candidates(model, chunk, i, steps=steps) for i in range(len(GUIDANCES))), strict=True))
        for caption, candidates in zip(chunk, by_caption, strict=True):
            scores = judge.score([caption] * len(candidates), [image for image, _ in candidates])[:, 0]
            picked = [candidates[int(np.argmax(scores))], candidates[int(np.argmin(scores))]]
            groups.append(
                Group(
                    prompt=caption,
                    candidates=tuple(candidate for _, candidate in picked),
                    judgements=(Judgement(kind="pair", values=(1.0, 0.0), source=f"simulated:{judge.name}"),),
                )
            )
    return groups


def _candidates(model: Any, captions: Sequence[str], place: int, *, steps: int) -> list[tuple[Any, Candidate]]:
    """The candidate in `place` of every caption: picture and record."""
    seeds = [int(generator(0, place, c, "candidate").integers(2**31)) for c in captions]
    images = model.generate(captions, seeds=seeds, steps=steps, guidance=GUIDANCES[place], batch_size=len(captions))
    name = f"emoji, guidance {GUIDANCES[place]:g}"
    return [
        (image, Candidate(media=Media.of(_encode(image)), model=name, seed=seed))
        for image, seed in zip(images, seeds, strict=True)
    ]


def write(groups: Sequence[Group], path: Path) -> int:
    """Writes pairs as a Pick-a-Pic-shaped Parquet file; the better one's side is drawn by count."""
    sided = [g.only((0, 1) if generator(0, 0, g.id, "side").integers(2) else (1, 0)) for g in groups]
    return export_parquet(sided, path)


def _encode(image: Any) -> bytes:
    out = BytesIO()
    image.save(out, "WEBP", quality=90, method=6)
    return out.getvalue()


def _webp(png: bytes) -> bytes:
    from PIL import Image

    return _encode(Image.open(BytesIO(png)).convert("RGB"))
