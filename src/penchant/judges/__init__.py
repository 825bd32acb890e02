"""Judges: anything that scores samples, brought to one protocol."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from penchant.assets import resolve
from penchant.errors import ModelError, nearest
from penchant.judges.base import HasFeatures, Judge, OneDimension

__all__ = ["JUDGES", "HasFeatures", "Judge", "load"]

# Name -> module and what makes the judge of the path of its weights (of the answers, of its model); None is their usual
# place.
JUDGES = {
    "pickscore": "penchant.judges.clip_rewards:PickScore",
    "hpsv2.1": "penchant.judges.clip_rewards:HPSv2",
    "clipscore": "penchant.judges.clip_rewards:CLIPScore",
    "aesthetic": "penchant.judges.clip_rewards:Aesthetic",
    "imagereward": "penchant.judges.image_reward:ImageReward",
    "mps": "penchant.judges.mps:MPS",
    "tunejury": "penchant.judges.tune_jury:TuneJury",
    "audiobox": "penchant.judges.audiobox:Audiobox",
    "vqascore": "penchant.judges.vqascore:VQAScore",
    "open-nsfw": "penchant.judges.open_nsfw:OpenNSFW",
    "rapidocr": "penchant.judges.text_rendering:TextRendering",
    "dynamic-degree": "penchant.judges.motion:DynamicDegree",
    "smoothness": "penchant.judges.motion:Smoothness",
    "steadiness": "penchant.judges.motion:Steadiness",
    "sharpness": "penchant.judges.pictures:Sharpness",
    "colourfulness": "penchant.judges.pictures:Colourfulness",
    "clap": "penchant.judges.audio_rewards:Clap",
    "minilm": "penchant.judges.minilm:MiniLM",
    "vader": "penchant.judges.vader:Vader",
    "tone": "penchant.judges.tone:Tone",
    "tune-rules": "penchant.judges.tune_rules:TuneRules",
    "language-model": "penchant.judges.language_model:language_model",
    "exact-match": "penchant.judges.verifiers:ExactMatch",
    "math-verify": "penchant.judges.verifiers:MathVerify",
    "reasoning-gym": "penchant.judges.verifiers:ReasoningGym",
}


def load(address: str) -> Judge:
    """The judge at `address`: `NAME` or `NAME:PATH` of `JUDGES`, the `http://` address of a reward server, a
    transformers folder, a reward model's folder, or `zoo:NAME`; `ADDRESS#LABEL` is one label of a classifier or one
    dimension of a judge that has several; a reward model's `#overall` is the mean of all.

    Raises:
        ModelError: there is no such judge or folder, or its class is no judge.
    """
    # The model behind a server is named after "#", too.
    whole = address.startswith("language-model:")
    place, _, dimension = (address, "", "") if whole else address.partition("#")
    name, _, path = place.partition(":")
    if name not in (*JUDGES, "http", "https"):
        return _folder(address)
    if name in JUDGES:
        module, _, attribute = JUDGES[name].partition(":")
        judge: Judge = getattr(importlib.import_module(module), attribute)(resolve(path) if path else None)
    else:
        from penchant.judges.served import Served

        judge = Served(url=place)
    return OneDimension(judge, dimension) if dimension else judge


def _folder(address: str) -> Judge:
    place, _, label = address.partition("#")
    folder, name = Path(place), Path(place).name
    if place.startswith("zoo:"):
        from penchant.assets import path

        name = place.removeprefix("zoo:")
        folder = path(name)
    if not (folder / "config.json").exists():
        remedy = nearest(address, list(JUDGES))
        raise ModelError("holds no model.", file=folder, remedy=f"give a folder, `zoo:NAME` or a judge; {remedy}")
    architecture = json.loads((folder / "config.json").read_text()).get("architectures", [""])[0]
    if architecture == "RewardNetwork":
        from penchant.judges.reward_model import load_reward_model

        return load_reward_model(folder, name=name, dimension=label or None)
    if not architecture.endswith("ForImageClassification"):
        from penchant.judges.dual_encoder import DualEncoder

        return DualEncoder(folder, name=name)
    from penchant.judges.classifier import Classifier, Label

    classifier = Classifier(folder, name=name)
    return Label(classifier, label) if label else classifier
