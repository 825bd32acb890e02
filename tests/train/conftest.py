from __future__ import annotations

from pathlib import Path

import pytest
from loop_fixtures import rows, write

from penchant.testing import build


@pytest.fixture(scope="session")
def sd15(tmp_path_factory) -> Path:
    return build("stable-diffusion", tmp_path_factory.mktemp("pipelines") / "sd15")


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory) -> Path:
    return build("stable-diffusion-xl", tmp_path_factory.mktemp("pipelines") / "sdxl")


@pytest.fixture(scope="session")
def sd3(tmp_path_factory) -> Path:
    return build("stable-diffusion-3", tmp_path_factory.mktemp("pipelines") / "sd3")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("pairs") / "pick.parquet", rows(7))
