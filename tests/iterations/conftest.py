"""What the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest
from rollout_fixtures import WORDS

from penchant.testing import build


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Path:
    return build("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def prompts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text("\n".join(f"About {word}." for word in WORDS))
    return path


@pytest.fixture(scope="session")
def others(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "others.txt"
    path.write_text("\n".join(f"And {word}?" for word in WORDS))
    return path


@pytest.fixture(autouse=True)
def late_letters(monkeypatch):
    from penchant.judges import JUDGES

    monkeypatch.setitem(JUDGES, "late", "rollout_fixtures:Late")
