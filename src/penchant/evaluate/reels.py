"""Clips to look at, side by side and in step, in a page where no script may run.

The frames of a clip stand beside one another in one picture, of which the style sheet shows a window that moves on in
as many steps as there are frames (`object-position`; a `transform` would keep all frames as a layer of their own). The
clips of a row have equally many frames at one rate and begin their animations in the same moment, so they show the same
time always; an animated picture could not promise that, and could not be stopped. Controls are plain inputs: a box that
pauses, one radio button that plays and one for each frame, so the arrow keys step through the clip. Who asked for less
motion sees the first frame, and plays by the same box.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from penchant.errors import PenchantError
from penchant.evaluate.figures import number
from penchant.evaluate.markup import Markup, el
from penchant.feedback.clip import Clip
from penchant.sampling.samplers import Modality

MOST_FRAMES = 48
"""Frames shown of a clip; longer ones are shown at a lower rate. More steps could not be hit with a pointer."""

LONGEST_SIDE = 256
"""Larger frames are scaled down to this: 48 of them stay below the widest WebP, 16383 pixels."""

PIXEL_ART = 128
"""Frames up to this side are kept lossless and enlarged without smoothing."""

_BORDER = 1  # pixels repeated at either side of a frame, lest its neighbour shows where a page scales by fractions


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """A clip, the model it came from, and the judge's score of it, if any."""

    clip: Clip
    label: str
    score: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipRow:
    """Clips of one prompt and seed from several models, the base first.

    `preferred` is the index of the clip that the judge prefers, None for a tie or where nobody judged.
    """

    modality: ClassVar[Modality] = "clip"

    prompt: str
    seed: int
    films: tuple[Film, ...]
    preferred: int | None = None

    def __post_init__(self) -> None:
        if not self.films or (self.preferred is not None and not 0 <= self.preferred < len(self.films)):
            raise PenchantError(
                f"clip {self.preferred} of {len(self.films)} cannot be the preferred one.", field="preferred"
            )

    def figure(self) -> Markup:
        """The clips as a <figure> that needs nothing but itself and `style`."""
        count, rate = timeline([film.clip for film in self.films])
        strips = [strip(film.clip, count, rate) for film in self.films]
        cells = [
            _cell(film, made, self.prompt, index == self.preferred)
            for index, (film, made) in enumerate(zip(self.films, strips, strict=True))
        ]
        parts = [self.prompt, str(self.seed), *(made.address for made in strips)]
        name = hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace"))
        caption = el(
            "figcaption",
            el("span", self.prompt, dir="auto", class_="prompt"),
            el("span", f"seed {self.seed}", class_="seed"),
        )
        pictures = el("div", *cells, class_="pictures", style=f"--n:{len(cells)}")
        return el(
            "figure",
            *_controls(f"reel-{name.hexdigest()[:12]}", count),
            pictures,
            caption,
            class_="exhibit clip" if len(cells) <= 2 else "exhibit clip broad",
            style=f"--frames:{count};--seconds:{count / rate:.6g}s",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipPair:
    """The base's and a policy's clip of the same prompt and seed; the judge prefers the higher score."""

    modality: ClassVar[Modality] = "clip"

    prompt: str
    seed: int
    before: Film
    after: Film

    def row(self) -> ClipRow:
        """The pair as a row of two."""
        first, second = self.before.score, self.after.score
        preferred = None if first is None or second is None or first == second else int(second > first)
        return ClipRow(prompt=self.prompt, seed=self.seed, films=(self.before, self.after), preferred=preferred)

    def figure(self) -> Markup:
        """The pair as a <figure>."""
        return self.row().figure()


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Frames beside one another as a data: address; the size is that of one frame."""

    address: str
    width: int
    height: int


def timeline(clips: Sequence[Clip]) -> tuple[int, float]:
    """How many frames, and how many a second, show all clips to the end of the longest one."""
    rate, seconds = max(clip.fps for clip in clips), max(clip.seconds for clip in clips)
    count = max(1, round(seconds * rate))
    return (count, rate) if count <= MOST_FRAMES else (MOST_FRAMES, MOST_FRAMES / seconds)


def strip(clip: Clip, count: int, rate: float) -> Strip:
    """What is on the screen at k / `rate`, k < `count`, as one picture; a clip that ended keeps its last frame."""
    from PIL import Image

    shown = np.minimum(np.floor(np.arange(count) / rate * clip.fps + 1e-4).astype(np.int64), len(clip) - 1)
    frames = [_fitted(clip.frames[index]) for index in shown]
    height, width, _ = frames[0].shape
    wide = np.concatenate([np.pad(f, ((0, 0), (_BORDER, _BORDER), (0, 0)), mode="edge") for f in frames], axis=1)
    buffer, small = BytesIO(), max(width, height) <= PIXEL_ART
    if small:
        Image.fromarray(wide).save(buffer, format="PNG", optimize=True)
    else:
        Image.fromarray(wide).save(buffer, format="WEBP", quality=85, method=4)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Strip(address=f"data:image/{'png' if small else 'webp'};base64,{encoded}", width=width, height=height)


def style() -> Markup:
    """The part of the style sheet that a pointer or key on a frame's button needs: which one it is."""
    # The pausing box and the playing button come before the frames' buttons.
    rules = [f".at:nth-of-type({k + 3}):checked~.pictures{{--at:{k}}}" for k in range(MOST_FRAMES)]
    return Markup("\n".join(rules))


def _fitted(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    scale = LONGEST_SIDE / max(frame.shape[:2])
    if scale >= 1:
        return frame
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def _controls(name: str, count: int) -> list[Markup]:
    """The inputs, before what they move: a style sheet looks only forwards."""

    def radio(column: int, kind: str, label: str) -> Markup:
        checked, place = kind == "run", f"grid-column:{column}"
        return el("input", type="radio", name=name, checked=checked, class_=kind, aria_label=label, style=place)

    return [
        el("input", type="checkbox", class_="hold", aria_label="Pause or play", style="grid-column:1"),
        radio(2, "run", "All frames, one after another"),
        *[radio(k + 3, "at", f"Frame {k + 1} of {count}") for k in range(count)],
        el("div", el("i"), class_="playhead", aria_hidden="true"),
    ]


def _cell(film: Film, made: Strip, prompt: str, preferred: bool) -> Markup:
    window = el(
        "img",
        src=made.address,
        alt=f"{film.label}: {prompt}",
        class_="film crisp" if max(made.width, made.height) <= PIXEL_ART else "film",
        style=f"--w:{made.width};--h:{made.height}",
    )
    name = el("span", film.label, el("span", " preferred by the judge", class_="spoken") if preferred else None)
    score = None if film.score is None else el("span", number(film.score), class_="score")
    label = el("p", name, score, class_="label")
    return el("div", window, label, class_="picture preferred" if preferred else "picture")
