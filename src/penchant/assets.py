"""`zoo:NAME`: where the small models and data that penchant ships lie. `zoo/` makes them; everybody may load them."""

from __future__ import annotations

from pathlib import Path

from penchant.errors import ModelError, nearest
from penchant.unpacked import UNPACKED

_ROOT = Path(__file__).parent / "zoo" / "shipped"

# Name -> folder or file; each family has a card, README.md, in its folder.
CONTENTS = {
    "emoji": "emoji/pipeline",
    "emoji/labeller": "emoji/labeller",
    "emoji/judge": "emoji/judge",
    "emoji/voter": "emoji/voter",
    "emoji/style": "emoji/style",
    "emoji/fluent": "emoji/fluent",
    "emoji/samples": "emoji/samples.parquet",
    "emoji/artists": "emoji/artists.parquet",
    "emoji/ranked": "emoji/ranked.parquet",
    "emoji/captions": "emoji/captions.txt",
    "emoji/prompts": "emoji/prompts.txt",
    "thinker": "thinker",
    "thinker/problems": "thinker/problems.jsonl",
    "thinker/held-out": "thinker/held_out.txt",
    "thinker/answers": "thinker/answers.jsonl",
    "thinker/thoughts": "thinker/thoughts.parquet",
    "clips": "clips/pipeline",
    "clips/captions": "clips/captions.txt",
    "clips/prompts": "clips/prompts.txt",
    "clips/footage": "clips/footage",
    "clips/drawn": "clips/drawn",
    "clips/reward": "clips/reward",
    "clips/judge": "clips/judge",
    "tunes": "tunes",
    "tunes/captions": "tunes/captions.txt",
    "tunes/held-out": "tunes/prompts.txt",
    "tunes/samples": "tunes/samples.parquet",
    "tunes/adherence": "tunes/adherence",
    "tunes/quality": "tunes/quality",
    "tunes/preference": "tunes/preference",
    "tunes/judge": "tunes/judge",
    "openers": "openers/prompts.txt",
    "openers/held-out": "openers/held_out.txt",
    "openers/ranked": "openers/ranked.parquet",
}


def path(name: str) -> Path:
    """Where the shipped model or data set `name` lies.

    Raises:
        ModelError: there is none of that name, or the installation lacks it.
    """
    if name in UNPACKED:
        return UNPACKED[name]()
    if name not in CONTENTS:
        raise ModelError(f"the zoo has no '{name}'.", field="zoo", remedy=nearest(name, [*CONTENTS, *UNPACKED]))
    found = _ROOT / CONTENTS[name]
    if not found.exists():
        raise ModelError("was not installed.", file=found, remedy="install penchant again.")
    return found


def resolve(address: str) -> str:
    """`zoo:NAME` as a path, any other address unchanged."""
    return str(path(address.removeprefix("zoo:"))) if address.startswith("zoo:") else address
