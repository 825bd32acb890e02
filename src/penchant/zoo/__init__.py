"""The small real models and data that penchant ships, by name."""

from __future__ import annotations

from pathlib import Path

from penchant.errors import ModelError, nearest

_ROOT = Path(__file__).parent / "shipped"

# Name -> folder or file under `shipped/`; each has a card, README.md, beside or inside it.
CONTENTS = {
    "emoji": "emoji/pipeline",
    "emoji/labeller": "emoji/labeller",
    "emoji/judge": "emoji/judge",
    "emoji/style": "emoji/style",
    "emoji/samples": "emoji/samples.parquet",
    "emoji/artists": "emoji/artists.parquet",
    "emoji/prompts": "emoji/prompts.txt",
}


def path(name: str) -> Path:
    """Where the shipped model or data set `name` lies.

    Raises:
        ModelError: there is none of that name, or the installation lacks it.
    """
    if name not in CONTENTS:
        raise ModelError(f"the zoo has no '{name}'.", field="zoo", remedy=nearest(name, list(CONTENTS)))
    found = _ROOT / CONTENTS[name]
    if not found.exists():
        raise ModelError(
            "was not installed.", file=found, remedy="install penchant again, or run `penchant pretrain emoji`."
        )
    return found


def resolve(address: str) -> str:
    """`zoo:NAME` as a path, any other address unchanged."""
    return str(path(address.removeprefix("zoo:"))) if address.startswith("zoo:") else address
