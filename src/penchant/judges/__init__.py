"""Judges: anything that scores samples, brought to one protocol."""

from __future__ import annotations

import json
from pathlib import Path

from penchant.errors import ModelError
from penchant.judges.base import HasFeatures, Judge

__all__ = ["HasFeatures", "Judge", "load"]


def load(address: str) -> Judge:
    """The judge at `address`: a transformers folder or `zoo:NAME`; `ADDRESS#LABEL` is one label of a classifier.

    Raises:
        ModelError: there is no such folder, or its class is no judge.
    """
    place, _, label = address.partition("#")
    folder, name = Path(place), Path(place).name
    if place.startswith("zoo:"):
        from penchant.assets import path

        name = place.removeprefix("zoo:")
        folder = path(name)
    if not (folder / "config.json").exists():
        raise ModelError("holds no model.", file=folder, remedy="give a transformers folder or `zoo:NAME`.")
    architecture = json.loads((folder / "config.json").read_text()).get("architectures", [""])[0]
    if not architecture.endswith("ForImageClassification"):
        from penchant.judges.dual_encoder import DualEncoder

        return DualEncoder(folder, name=name)
    from penchant.judges.classifier import Classifier, Label

    classifier = Classifier(folder, name=name)
    return Label(classifier, label) if label else classifier
