"""Models brought to the waist: one small adapter per family, chosen from what the folder says it is."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from penchant.models.spec import Policy

if TYPE_CHECKING:
    from penchant.models.adapter import ImageModel

__all__ = ["Policy", "load"]


def load(path: str | PathLike[str], *, lora: int = 0, **options: Any) -> ImageModel:
    """Load a pipeline as a policy; `model.spec` is the `Policy` it was loaded from.

    Args:
        path: a pipeline folder, a hub id, or `zoo:NAME`.
        lora: rank of the adapter to train; 0 trains every weight of the denoiser.
        options: the other fields of `Policy`.

    Raises:
        ModelError: no such folder, an unknown family or option, or weights that are not safetensors.
    """
    from dataclasses import fields

    from penchant.errors import ModelError, nearest

    known = [f.name for f in fields(Policy)]
    for name in options:
        if name not in known:
            raise ModelError(f"'{name}' is no option of a policy.", field=name, remedy=nearest(name, known))
    return Policy(path=fspath(path), lora=lora, **options).load()
