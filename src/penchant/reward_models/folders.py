"""A reward model as a folder: `config.json`, `model.safetensors`, and what its backbone keeps beside them.

`config.json` names the dimensions, the pooling, the backbone with its sizes, and the constants that bring every score
to mean 0 and deviation 1 on the validation split. The weights are those that train: of an adapted model the frozen ones
stay where `backbone.path` says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from penchant.errors import ModelError
from penchant.reward_models.backbones import BACKBONES
from penchant.reward_models.network import BackboneSpec, Dimension, Pooling, RewardNetwork

ARCHITECTURE = "RewardNetwork"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Mean and deviation of each dimension's raw scores, on samples that took no part in training."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, score_ND: Float[np.ndarray, "N D"]) -> Normalisation:
        """The constants of some raw scores; a dimension that never varies is only shifted."""
        std = score_ND.std(0)
        return cls(mean=tuple(score_ND.mean(0).tolist()), std=tuple(np.where(std > 0, std, 1.0).tolist()))

    def __call__(self, score_ND: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
        """(score - mean) / deviation."""
        return (score_ND - np.asarray(self.mean)) / np.asarray(self.std)


@dataclass(frozen=True, kw_only=True)
class RewardModelFolder:
    """What a folder holds beside weights."""

    dimensions: tuple[Dimension, ...]
    pooling: Pooling
    backbone: BackboneSpec
    normalisation: Normalisation


def save(folder: Path, network: RewardNetwork, about: RewardModelFolder) -> None:
    """Writes the folder; `config.json` last, so that a folder which has one is whole.

    Raises:
        ModelError: a weight is not finite.
    """
    from safetensors.torch import save_file

    weights = {name: p.detach().cpu().contiguous() for name, p in network.named_parameters() if p.requires_grad}
    if broken := [name for name, weight in weights.items() if not weight.isfinite().all()]:
        raise ModelError(f"{broken[0]} is not finite.", file=folder, remedy="train with a lower rate.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CONFIG).unlink(missing_ok=True)
    save_file(weights, folder / _WEIGHTS)
    network.backbone.keep(folder)
    kind = next(name for name, spec in BACKBONES.items() if isinstance(about.backbone, spec))
    config = {
        "architectures": [ARCHITECTURE],
        "dimensions": [asdict(dimension) for dimension in about.dimensions],
        "pooling": about.pooling,
        "backbone": {"kind": kind, **asdict(about.backbone)},  # type: ignore[call-overload]
        "normalisation": asdict(about.normalisation),
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def built(
    backbone: BackboneSpec,
    dimensions: Sequence[Dimension],
    pooling: Pooling,
    *,
    prompts: Sequence[str] = (),
    folder: Path | None = None,
) -> RewardNetwork:
    """A network with fresh weights from PyTorch's generator; see `BackboneSpec.build`."""
    special = dimensions if pooling == "special" else ()
    return RewardNetwork(backbone.build(special, prompts=prompts, folder=folder), dimensions, pooling)


def read_config(folder: Path) -> RewardModelFolder:
    """What `config.json` says.

    Raises:
        ModelError: there is none, or it was not written by `save`.
    """
    try:
        config = json.loads((folder / _CONFIG).read_text())
        if config["architectures"] != [ARCHITECTURE]:
            raise ModelError(f"holds a {config['architectures']}, no reward model.", file=folder / _CONFIG)
        sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in config["backbone"].items()}
        found = RewardModelFolder(
            dimensions=tuple(Dimension(**row) for row in config["dimensions"]),
            pooling=config["pooling"],
            backbone=BACKBONES[str(sizes.pop("kind"))](**sizes),
            normalisation=Normalisation(**{k: tuple(v) for k, v in config["normalisation"].items()}),
        )
        _require(found)
        return found
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"is no description of a reward model ({error}).",
            file=folder / _CONFIG,
            remedy="give the `model` folder of a run of penchant train-reward.",
        ) from error


def _require(found: RewardModelFolder) -> None:
    D = len(found.dimensions)
    if D < 1 or len(found.normalisation.mean) != D or len(found.normalisation.std) != D:
        raise ValueError(f"{D} dimensions and other numbers of constants")
    if found.pooling not in get_args(Pooling):
        raise ValueError(f"no pooling '{found.pooling}'")
    if (
        not np.isfinite([*found.normalisation.mean, *found.normalisation.std]).all()
        or min(found.normalisation.std) <= 0
    ):
        raise ValueError("constants that are not finite, or a deviation that is not positive")


def load(folder: Path, *, device: str | torch.device = "cpu") -> tuple[RewardNetwork, RewardModelFolder]:
    """The network in float32, ready to score, and what belongs to it.

    Raises:
        ModelError: a part of the folder is missing, altered, or of another model.
    """
    about = read_config(folder)
    with torch.random.fork_rng(devices=[]):
        network = built(about.backbone, about.dimensions, about.pooling, folder=folder)
    restore(network, folder)
    return network.to(device).eval(), about


def restore(network: RewardNetwork, folder: Path) -> None:
    """Puts the weights of `folder` into a network of its kind.

    Raises:
        ModelError: they cannot be read, or are of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot be read ({error}).", file=folder / _WEIGHTS, remedy="copy the folder again."
        ) from error
    wanted = {name: p for name, p in network.named_parameters() if p.requires_grad}
    wrong = wanted.keys() ^ weights.keys()
    wrong |= {name for name in wanted.keys() & weights.keys() if wanted[name].shape != weights[name].shape}
    if wrong:
        raise ModelError(
            f"{sorted(wrong)[0]} is missing, unknown or of another shape.",
            file=folder / _WEIGHTS,
            remedy="give weights and config.json of one run.",
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(weights[name])


@torch.no_grad()
def scores(
    network: RewardNetwork, prompts: Sequence[str], samples: Sequence[Any], *, batch: int = 32
) -> Float[Tensor, "N D"]:
    """Raw scores of (prompt, sample) rows, on the CPU, a batch at a time; the network is in evaluation mode."""
    device, backbone, found = network.head.weight.device, network.backbone, []
    for start in range(0, len(samples), batch):
        prepared = [backbone.prepare(sample) for sample in samples[start : start + batch]]
        rows = backbone.collate(prompts[start : start + batch], prepared)
        found.append(network({name: value.to(device) for name, value in rows.items()}).cpu())
    return torch.cat(found) if found else torch.empty(0, len(network.dimensions))
