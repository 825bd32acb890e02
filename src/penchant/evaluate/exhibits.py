"""Exhibits: what a reader may look at, beside the numbers: pictures here, texts in `passages`, clips in
`reels`, music in `players`."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from penchant.errors import PenchantError
from penchant.evaluate.figures import number
from penchant.evaluate.markup import Markup, el
from penchant.evaluate.passages import TextPair, TextRow
from penchant.evaluate.players import PlayerRow
from penchant.evaluate.reels import ClipPair, ClipRow
from penchant.evaluate.samples import fitted, flat, open_picture
from penchant.sampling.samplers import Modality

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST_SIDE = 512
"""Larger pictures are scaled down to this: a page shows them at half of it, a fine screen at all of it."""

PIXEL_ART = 128
"""Pictures up to this side are kept lossless and enlarged without smoothing, so that every pixel can be judged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture (in memory or a file), the model it came from, and the judge's score of it, if any."""

    image: Image | str | Path
    label: str
    score: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageRow:
    """Pictures of one prompt and seed from several models, the base first.

    `preferred` is the index of the picture that the judge prefers, None for a tie or where nobody judged.
    """

    modality: ClassVar[Modality] = "picture"

    prompt: str
    seed: int
    pictures: tuple[Picture, ...]
    preferred: int | None = None

    def __post_init__(self) -> None:
        if not self.pictures or (self.preferred is not None and not 0 <= self.preferred < len(self.pictures)):
            raise PenchantError(
                f"picture {self.preferred} of {len(self.pictures)} cannot be the preferred one.", field="preferred"
            )

    def figure(self) -> Markup:
        """The pictures as a <figure> that needs nothing but itself."""
        cells = [_cell(picture, self.prompt, index == self.preferred) for index, picture in enumerate(self.pictures)]
        caption = el(
            "figcaption",
            el("span", self.prompt, dir="auto", class_="prompt"),
            el("span", f"seed {self.seed}", class_="seed"),
        )
        pictures = el("div", *cells, class_="pictures", style=f"--n:{len(cells)}")
        return el("figure", pictures, caption, class_="exhibit" if len(cells) <= 2 else "exhibit broad")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePair:
    """The base's and a policy's picture of the same prompt and seed; the judge prefers the higher score."""

    modality: ClassVar[Modality] = "picture"

    prompt: str
    seed: int
    before: Picture
    after: Picture

    def row(self) -> ImageRow:
        """The pair as a row of two."""
        first, second = self.before.score, self.after.score
        preferred = None if first is None or second is None or first == second else int(second > first)
        return ImageRow(prompt=self.prompt, seed=self.seed, pictures=(self.before, self.after), preferred=preferred)

    def figure(self) -> Markup:
        """The pair as a <figure>."""
        return self.row().figure()


Exhibit = ImagePair | ImageRow | TextPair | TextRow | ClipPair | ClipRow | PlayerRow


def data_uri(image: Image | str | Path) -> tuple[str, int, int]:
    """The picture as a data: address, and its width and height; lossless PNG where it is small, else WebP.

    Raises:
        MediaError: a file that is no picture, see `penchant.evaluate.samples.open_picture`.
    """
    picture = open_picture(image) if isinstance(image, str | Path) else flat(image)
    if max(picture.size) > LONGEST_SIDE:
        picture = fitted(picture, LONGEST_SIDE)
    buffer = BytesIO()
    if max(picture.size) <= PIXEL_ART:
        kind = "png"
        picture.save(buffer, format="PNG", optimize=True)
    else:
        kind = "webp"
        picture.save(buffer, format="WEBP", quality=88, method=4)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", *picture.size


def _cell(picture: Picture, prompt: str, preferred: bool) -> Markup:
    address, width, height = data_uri(picture.image)
    image = el(
        "img",
        src=address,
        alt=f"{picture.label}: {prompt}",
        width=width,
        height=height,
        class_="crisp" if max(width, height) <= PIXEL_ART else None,
    )
    name = el("span", picture.label, el("span", " preferred by the judge", class_="spoken") if preferred else None)
    score = None if picture.score is None else el("span", number(picture.score), class_="score")
    return el(
        "div", image, el("p", name, score, class_="label"), class_="picture preferred" if preferred else "picture"
    )
