"""A tiny real pipeline and a tiny real preference file with good and bad rows."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from penchant.likelihoods import Diffusion, FlowMatching
from penchant.models import Policy
from penchant.objectives import DPO
from penchant.recipe import Preferences, Recipe, Training


def jpeg(rng: np.random.Generator) -> bytes:
    """A small random picture."""
    pixels = (rng.random((6, 6, 3)) * 255).astype("uint8")
    out = BytesIO()
    Image.fromarray(pixels).resize((80, 72)).save(out, "JPEG")
    return out.getvalue()


def rows(count: int) -> list[dict[str, Any]]:
    """Good Pick-a-Pic rows; winners on both sides."""
    rng = np.random.default_rng(0)
    return [
        {
            "caption": f"prompt {i % 5}",
            "jpg_0": jpeg(rng),
            "jpg_1": jpeg(rng),
            "label_0": float(i % 2),
            "label_1": 1.0 - i % 2,
            "has_label": True,
            "model_0": "a",
            "model_1": "b",
        }
        for i in range(count)
    ]


def write(path: Path, found: list[dict[str, Any]]) -> Path:
    """The rows as Parquet."""
    pq.write_table(pa.Table.from_pylist(found), path)
    return path


def bad_rows() -> list[dict[str, Any]]:
    """Ten rows of which one is a tie (2), one a truncated picture (3), one empty (4), one unlabelled (6)."""
    found = rows(10)
    found[2] |= {"label_0": 0.5, "label_1": 0.5}
    found[3]["jpg_0"] = found[3]["jpg_0"][:100]
    found[4]["caption"] = "  "
    found[6]["label_0"] = None
    return found


def recipe(pipeline: Path, pairs: Path, out: Path, *, flow: bool = False, lora: int = 2, **train: Any) -> Recipe:
    """A short DPO run."""
    options = {"steps": 6, "batch_size": 3, "lr": 1e-3, "precision": "no"} | train
    return Recipe(
        name="tiny",
        policy=Policy(path=str(pipeline), lora=lora),
        likelihood=FlowMatching() if flow else Diffusion(),
        objective=DPO(beta=100.0),
        feedback=Preferences(path=str(pairs)),
        train=Training(**options),
        out=str(out),
        threads=1,
    )
