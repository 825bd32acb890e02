"""The installed wheel works without the checkout: what we ship travels inside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, built from this checkout and unpacked by pip into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("penchant-*.whl")
    place = [*pip, "install", "--no-deps", "--no-index", "--target", str(folder / "site"), str(wheel)]
    subprocess.run(place, check=True, capture_output=True)
    return folder / "site"


def run(installed: Path, *words: str) -> str:
    """Python with the wheel first on its path, from a folder that is not the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=installed.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_the_wheel_that_is_imported(installed):
    assert run(installed, "-c", "import penchant; print(penchant.__file__)").startswith(str(installed))


def test_the_shipped_model_draws_from_the_wheel(installed):
    sheet = run(installed, "-m", "penchant", "sample", "zoo:emoji", "red heart", "--steps", "2").strip()
    assert (installed.parent / sheet).exists()


def test_everything_shipped_is_in_the_wheel(installed):
    code = "from penchant.assets import CONTENTS, path; print(len([path(name) for name in CONTENTS]))"
    assert int(run(installed, "-c", code)) >= 7


def test_notices_and_licence_travel_with_it(installed):
    (info,) = installed.glob("penchant-*.dist-info")
    assert {"LICENSE", "NOTICE"} <= {path.name for path in info.rglob("*")}
