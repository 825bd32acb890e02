"""Tiny real pipelines of every family, built once for the session, without any download."""

from __future__ import annotations

import copy
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import numpy as np
import pytest
from model_fixtures import RESOLUTION
from PIL import Image

import penchant
from penchant.models.families import FAMILIES

PICTURE_FAMILIES = [name for name, family in FAMILIES.items() if family.modality == "picture"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from penchant.testing import build

    root = tmp_path_factory.mktemp("tiny")
    return {name: build(name, root / name) for name in PICTURE_FAMILIES}


@pytest.fixture(params=PICTURE_FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(family: str, folders: dict[str, Path]) -> Path:
    return folders[family]


@pytest.fixture(scope="session")
def _loaded() -> dict:
    return {}


@pytest.fixture
def load(folder: Path, _loaded: dict):
    """Load the family's tiny pipeline with options; what was loaded before is copied, which is much faster."""

    def inner(**options):
        key = (folder, *sorted(options.items()))
        if key not in _loaded:
            _loaded[key] = penchant.load(str(folder), resolution=RESOLUTION, **options)
        return copy.deepcopy(_loaded[key])

    return inner


@pytest.fixture
def shared(load, folder: Path, _loaded: dict):
    """The family's tiny model itself: for tests that leave it as it is."""
    load()
    return _loaded[(folder,)]


@pytest.fixture
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(48, 40), (33, 70), (32, 32)]
    return [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for h, w in sizes]
