"""Names of weights: equal bytes, equal name, whatever file or adapter wrapper they came in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


def fingerprint(named: Iterable[tuple[str, Tensor]], *context: object) -> str:
    """Hex digest of tensors (name, type, shape, bytes) and of whatever else decides what they compute."""
    digest = hashlib.blake2b("\x1f".join(str(part) for part in context).encode(), digest_size=16)
    for name, tensor in sorted(named, key=lambda item: item[0]):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        # One tensor at a time: a model of ten gigabytes is not copied to be named.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def base_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The module's weights as if no adapter had ever been injected into it."""
    for name, tensor in module.state_dict().items():
        if ".lora_" not in name:
            yield name.replace(".base_layer.", "."), tensor
