"""What judges from optional packages share: a missing one names its pip command, and weights have a version."""

from __future__ import annotations

import hashlib
import importlib
from importlib import metadata
from pathlib import Path
from typing import Any

from penchant.errors import ModelError


def needed(module: str, *, install: str) -> Any:
    """The module, imported.

    Args:
        module: its dotted name.
        install: what follows `pip install` to get it.

    Raises:
        ModelError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(f"'{module}' cannot be imported ({error}).", remedy=f"pip install {install}") from error


def version(distribution: str, weights: Path | None) -> str:
    """The version of an installed distribution; for weights from elsewhere, with the first digits of their sha256.

    Raises:
        ModelError: there is no such file of weights.
    """
    installed = metadata.version(distribution)
    return installed if weights is None else f"{installed}+{digest(weights)}"


def digest(file: Path) -> str:
    """The first 12 hexadecimal digits of the file's sha256.

    Raises:
        ModelError: there is no such file.
    """
    if not file.is_file():
        raise ModelError("there is no such file.", file=file, remedy="give the file of the weights, or leave it out.")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]
