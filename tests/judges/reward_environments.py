"""Virtual environments that hold different versions of one package, made offline."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path


def wheel(folder: Path, version: str, code: str) -> Path:
    """A wheel of the package `tastes`, by hand: they are zip files."""
    file, info = folder / f"tastes-{version}-py3-none-any.whl", f"tastes-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tastes.py", code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tastes\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"tastes.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return file


def environment(folder: Path, package: Path) -> str:
    """The interpreter of a new virtual environment that holds one wheel."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--disable-pip-version-check", str(package)], check=True)
    return python
