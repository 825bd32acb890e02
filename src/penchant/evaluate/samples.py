"""Sample folders and contact sheets: samples by prompt and seed, on disk, and pictures side by side.

A sample folder holds lossless PNG files (animated ones of clips), WAV files, or texts in UTF-8, and a manifest.json
that names prompt, seed and SHA-256 of each; it is written whole or not at all (the manifest comes last), and checked
when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from penchant.errors import MediaError, PenchantError

if TYPE_CHECKING:
    from PIL.Image import Image

    from penchant.feedback.clip import Clip
    from penchant.feedback.sound import Sound

FORMAT = "penchant-samples/1"
MAX_PIXELS = 64_000_000
"""Largest picture that is decoded; a small file can claim far more."""

_CAPTION_LINES = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One picture, and the prompt and seed that it was drawn from."""

    suffix: ClassVar[str] = ".png"

    prompt: str
    seed: int
    image: Image

    def data(self) -> bytes:
        """The file's content."""
        buffer = BytesIO()
        flat(self.image).save(buffer, format="PNG")
        return buffer.getvalue()

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it beside prompt and seed."""
        return {}

    @classmethod
    def read(cls, entry: Mapping[str, Any], data: bytes) -> Sample:
        """The sample of a manifest's entry and its file."""
        return cls(prompt=str(entry["prompt"]), seed=int(entry["seed"]), image=open_picture(BytesIO(data)))


@dataclass(frozen=True, kw_only=True)
class TextSample:
    """One text, the prompt and seed that it was drawn from, its tokens if counted, and whether it ended by itself."""

    suffix: ClassVar[str] = ".txt"

    prompt: str
    seed: int
    text: str
    tokens: int | None = None
    finished: bool = True

    def data(self) -> bytes:
        """The file's content; a lone surrogate, which UTF-8 cannot say, becomes a question mark."""
        return self.text.encode("utf-8", "replace")

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it beside prompt and seed."""
        return {"tokens": self.tokens, "finished": self.finished}

    @classmethod
    def read(cls, entry: Mapping[str, Any], data: bytes) -> TextSample:
        """The sample of a manifest's entry and its file."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MediaError(f"not UTF-8 ({error}).", remedy="give UTF-8.") from error
        return cls(
            prompt=str(entry["prompt"]),
            seed=int(entry["seed"]),
            text=text,
            tokens=entry.get("tokens"),
            finished=bool(entry.get("finished", True)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipSample:
    """One clip, and the prompt and seed that it was drawn from; kept as animated PNG, which browsers play."""

    suffix: ClassVar[str] = ".apng"

    prompt: str
    seed: int
    clip: Clip

    def data(self) -> bytes:
        """The file's content, lossless."""
        from penchant.feedback.video_files import encode_clip

        return encode_clip(self.clip)

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it beside prompt and seed."""
        return {"frames": len(self.clip), "fps": self.clip.fps}

    @classmethod
    def read(cls, entry: Mapping[str, Any], data: bytes) -> ClipSample:
        """The sample of a manifest's entry and its file."""
        from penchant.feedback.video_files import decode_clip

        return cls(prompt=str(entry["prompt"]), seed=int(entry["seed"]), clip=decode_clip(data)[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class SoundSample:
    """One sound, and the prompt and seed that it was drawn from; kept as WAV of 32-bit floats."""

    suffix: ClassVar[str] = ".wav"

    prompt: str
    seed: int
    sound: Sound

    def data(self) -> bytes:
        """The file's content, lossless but for what lies beyond full scale."""
        from penchant.feedback.audio_encoding import encode_sound

        return encode_sound(self.sound)

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it beside prompt and seed."""
        return {"seconds": self.sound.seconds, "rate": self.sound.rate}

    @classmethod
    def read(cls, entry: Mapping[str, Any], data: bytes) -> SoundSample:
        """The sample of a manifest's entry and its file."""
        from penchant.feedback.audio_files import decode_sound

        # What a model made is read back whatever it is: silence too.
        sound, _ = decode_sound(data, min_seconds=0, floor=0)
        return cls(prompt=str(entry["prompt"]), seed=int(entry["seed"]), sound=sound)


AnySample = TypeVar("AnySample", Sample, TextSample, ClipSample, SoundSample)
Kept = Sample | TextSample | ClipSample | SoundSample
_KINDS: dict[str, type[Kept]] = {kind.suffix: kind for kind in (Sample, TextSample, ClipSample, SoundSample)}


def open_picture(source: str | Path | BytesIO) -> Image:
    """A decoded RGB picture; transparency is laid on white.

    Raises:
        MediaError: not a PNG, JPEG or WebP, damaged, or larger than `MAX_PIXELS`.
    """
    from PIL import Image

    name = None if isinstance(source, BytesIO) else source
    try:
        with Image.open(source, formats=("PNG", "JPEG", "WEBP")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise MediaError(
                    f"{picture.width} x {picture.height} pixels are over the cap of {MAX_PIXELS}.", file=name
                )
            picture.load()
            return flat(picture)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"not a readable picture: {error}.", file=name, remedy="give a PNG, JPEG or WebP.") from error


def flat(picture: Image) -> Image:
    """The picture as RGB, transparency laid on white."""
    from PIL import Image

    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def save_samples(folder: str | Path, samples: Sequence[AnySample], *, made_by: Mapping[str, str] | None = None) -> Path:
    """Write samples as PNG, animated PNG, WAV or text files and a manifest; returns the manifest's path.

    Args:
        folder: made where it is missing; a folder that has a manifest already is refused.
        samples: in the order in which they are to be read again.
        made_by: what to remember of their making (model, sampler, guidance), as strings.

    Raises:
        PenchantError: the folder has a manifest, or a (prompt, seed) comes twice.
    """
    folder = Path(folder)
    manifest = folder / "manifest.json"
    if manifest.exists():
        raise PenchantError("this folder holds samples already.", file=folder, remedy="choose another folder.")
    by_key(samples)
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for index, sample in enumerate(samples):
        name, data = f"{index:05d}{sample.suffix}", sample.data()
        (folder / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        entry = {"file": name, "prompt": sample.prompt, "seed": sample.seed, "sha256": digest}
        entries.append(entry | sample.facts())
    partial = manifest.with_suffix(".partial")
    content = {"format": FORMAT, "made_by": dict(made_by or {}), "samples": entries}
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return partial.replace(manifest)


def load_samples(folder: str | Path) -> tuple[Kept, ...]:
    """The samples of a folder, in the order of its manifest.

    Raises:
        PenchantError: there is no manifest, or it is not of this format.
        MediaError: a file is missing, lies outside the folder, was altered, or cannot be decoded.
    """
    manifest = Path(folder) / "manifest.json"
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PenchantError("there is no manifest.json.", file=folder, remedy="give a sample folder.") from error
    except json.JSONDecodeError as error:
        raise PenchantError(f"not JSON: {error.msg}.", file=manifest) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PenchantError(f"not a manifest of format {FORMAT}.", file=manifest, field="format")
    return tuple(_load(entry, manifest, row) for row, entry in enumerate(content.get("samples", [])))


def _load(entry: dict, manifest: Path, row: int) -> Kept:
    try:
        name, digest, _, _ = entry["file"], entry["sha256"], str(entry["prompt"]), int(entry["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise PenchantError(
            f"a sample needs file, prompt, seed and sha256 ({error}).", file=manifest, row=row
        ) from error
    path = manifest.parent / str(name)
    kind = _KINDS.get(path.suffix)
    if kind is None or Path(str(name)).name != name or path.is_symlink() or not path.is_file():
        raise MediaError(f"'{name}' is not a file of this folder.", file=manifest, row=row, field="file")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise MediaError("the sample is not the one that was saved.", file=path, remedy="sample it again.")
    return kind.read(entry, data)


def by_key(samples: Sequence[AnySample]) -> dict[tuple[str, int], AnySample]:
    """Samples by (prompt, seed).

    Raises:
        PenchantError: a (prompt, seed) comes twice.
    """
    found: dict[tuple[str, int], AnySample] = {}
    for row, sample in enumerate(samples):
        key = (sample.prompt, sample.seed)
        if key in found:
            raise PenchantError(f"prompt {sample.prompt!r} with seed {sample.seed} comes twice.", row=row)
        found[key] = sample
    return found


def paired(base: Sequence[AnySample], policy: Sequence[AnySample]) -> tuple[tuple[AnySample, AnySample], ...]:
    """(base, policy) samples of the same prompt and seed, in the order of the base.

    Raises:
        PenchantError: one side lacks a (prompt, seed) of the other.
    """
    before, after = by_key(base), by_key(policy)
    if before.keys() != after.keys():
        prompt, seed = sorted(before.keys() ^ after.keys())[0]
        side = "policy" if (prompt, seed) in before else "base"
        raise PenchantError(
            f"the {side} has no sample of prompt {prompt!r} with seed {seed}.",
            remedy="sample both with the same prompts and seeds.",
        )
    return tuple((before[key], after[key]) for key in before)


def pixel_grid(samples: Sequence[Sample]) -> np.ndarray:
    """Pixels uint8 [P, S, H, W, 3]: prompts in order of appearance, seeds ascending.

    Raises:
        PenchantError: prompts differ in their seeds, or pictures in their size.
    """
    found = by_key(samples)
    prompts = list(dict.fromkeys(sample.prompt for sample in samples))
    seeds = sorted({sample.seed for sample in samples})
    if len(found) != len(prompts) * len(seeds):
        raise PenchantError(
            f"{len(found)} samples are not {len(prompts)} prompts x {len(seeds)} seeds.",
            remedy="sample every prompt with the same seeds.",
        )
    sizes = {sample.image.size for sample in samples}
    if len(sizes) != 1:
        raise PenchantError(f"the pictures have {len(sizes)} different sizes.", remedy="resize them to one.")
    return np.stack([np.stack([np.asarray(flat(found[p, s].image)) for s in seeds]) for p in prompts])


def contact_sheet(images: Sequence[Image], captions: Sequence[str], columns: int = 4, tile: int = 256) -> Image:
    """Pictures in rows, each fitted into a square tile with its caption under it, on white.

    Args:
        images: in reading order.
        captions: one for each picture; three lines are shown at most.
        columns: pictures in a row.
        tile: side of a tile in pixels.

    Raises:
        PenchantError: no pictures, a caption missing, or a size below one.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not images or len(images) != len(captions) or columns < 1 or tile < 1:
        raise PenchantError(
            f"{len(images)} pictures, {len(captions)} captions, {columns} columns, tiles of {tile} pixels: no sheet.",
            remedy="give one caption for each picture, and sizes of one or more.",
        )
    size = max(10, tile // 18)
    font, gap, line = ImageFont.load_default(size=size), max(4, tile // 24), round(1.35 * size)
    row_height = tile + _CAPTION_LINES * line + 2 * gap
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (gap + columns * (tile + gap), gap + rows * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = gap + index % columns * (tile + gap), gap + index // columns * row_height
        small = fitted(flat(image), tile)
        sheet.paste(small, (left + (tile - small.width) // 2, top + (tile - small.height) // 2))
        for number, text in enumerate(_wrapped(caption, tile, lambda t: draw.textlength(t, font=font))):
            draw.text((left, top + tile + gap // 2 + number * line), text, fill=(70, 70, 70), font=font)
    return sheet


def clip_sheet(clips: Sequence[Clip], captions: Sequence[str], columns: int = 4, tile: int = 256) -> Clip:
    """A contact sheet that moves, at the first clip's rate; a clip that ends sooner stays at its last frame.

    The arguments and what is raised are those of `contact_sheet`.
    """
    from PIL import Image

    from penchant.feedback.clip import Clip

    sheets = [
        contact_sheet([Image.fromarray(clip.frames[min(i, len(clip) - 1)]) for clip in clips], captions, columns, tile)
        for i in range(max((len(clip) for clip in clips), default=1))
    ]
    return Clip(frames=np.stack([np.asarray(sheet) for sheet in sheets]), fps=clips[0].fps)


def fitted(image: Image, side: int) -> Image:
    """The picture with its longer side equal to `side`; small ones are enlarged without smoothing."""
    from PIL import Image

    scale = side / max(image.size)
    if scale == 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _wrapped(caption: str, width: float, length: Callable[[str], float]) -> list[str]:
    """The caption in lines no longer than `width`, the last one ending in an ellipsis where it was cut."""
    words, lines = caption.split(), [""]
    for position, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if length(longer) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) < _CAPTION_LINES:
            lines.append(word)
        else:
            lines[-1] += " " + " ".join(words[position:])
            break
    return [_cut(line, width, length) for line in lines]


def _cut(line: str, width: float, length: Callable[[str], float]) -> str:
    if length(line) <= width:
        return line
    while line and length(line + "...") > width:
        line = line[:-1]
    return line.rstrip() + "..."
