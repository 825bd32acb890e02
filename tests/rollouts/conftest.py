"""A tiny model, prompts and judges."""

from __future__ import annotations

from pathlib import Path

import online_fixtures
import pytest

from penchant.judges import JUDGES
from penchant.testing import build


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Path:
    return build("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def prompts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text("\n".join(online_fixtures.WORDS))
    return path


@pytest.fixture(autouse=True)
def judges(monkeypatch) -> None:
    for name, address in online_fixtures.JUDGES.items():
        monkeypatch.setitem(JUDGES, name, address)
