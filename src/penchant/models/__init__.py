"""Models brought to the waist: one small adapter per family, chosen from what the folder says it is."""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

from penchant.models.spec import Policy

__all__ = ["Policy", "load"]


def load(policy: str | PathLike[str] | Policy, **options: Any) -> Any:
    """The loaded model, on the CPU, with its adapter if one is asked for: an `ImageModel`, a `VideoModel`, or a
    `CausalLM` where the folder holds a causal language model. `model.spec` is its `Policy`.

    Args:
        policy: a `Policy`; or a pipeline folder, a hub id, or `zoo:NAME`.
        options: with a path, the other fields of `Policy` (`lora=16`).

    Raises:
        ModelError: no such folder, an unknown family or option, or weights that are not safetensors.
    """
    from dataclasses import fields, replace

    from penchant.errors import ModelError, nearest
    from penchant.models.loading import load_policy

    known = [f.name for f in fields(Policy)]
    for name in options:
        if name not in known:
            raise ModelError(f"'{name}' is no option of a policy.", field=name, remedy=nearest(name, known))
    if isinstance(policy, Policy):
        return load_policy(replace(policy, **options))
    return load_policy(Policy(path=fspath(policy), **options))
