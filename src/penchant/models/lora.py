"""Low-rank adapters: add, load, save as the ordinary folder of diffusers or peft, fold into the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from penchant.errors import ModelError, nearest

ADAPTER = "default"
WEIGHTS = "pytorch_lora_weights.safetensors"
# diffusers keeps no adapter of a second denoiser beside the first; in a file of its own it loads it with the option.
SECOND, SECOND_WEIGHTS = "transformer_2", "pytorch_lora_weights_2.safetensors"
PEFT_WEIGHTS, _PEFT_PREFIX = "adapter_model.safetensors", "base_model.model."


def add(module: Any, *, rank: int, alpha: float | None, targets: tuple[str, ...], seed: int = 0) -> None:
    """Inject an adapter whose product is zero at the start (Gaussian A, zero B) and freeze everything else.

    A is drawn from `seed`, not from the global stream, so that two loads are the same model.

    Raises:
        ModelError: no layer answers to `targets`.
    """
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    leaves = [name for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d | Conv1D)]
    for target in targets:
        if not any(leaf == target or leaf.endswith(f".{target}") for leaf in leaves):
            last = sorted({leaf.rsplit(".", 1)[-1] for leaf in leaves if not leaf.rsplit(".", 1)[-1].isdigit()})
            raise ModelError(f"no layer is named '{target}'.", field="lora_targets", remedy=nearest(target, last))
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type]
        init_lora_weights="gaussian",
        target_modules=list(targets),
    )
    module.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module.add_adapter(config, adapter_name=ADAPTER)
    _train_in_float32(module)


def adaptable(module: Any) -> Any:
    """The module itself, with the methods that diffusers gives to models that it knows adapters for.

    A few models lack them (Stable Audio's transformer); the class is the same but for these.
    """
    from diffusers.loaders import PeftAdapterMixin

    kind = type(module)
    if not isinstance(module, PeftAdapterMixin):
        module.__class__ = type(kind.__name__, (kind, PeftAdapterMixin), {"__module__": kind.__module__})
    return module


def scales(module: Any) -> list[float]:
    """What each adapter's product is multiplied by; the weights do not say it."""
    return [config.lora_alpha / config.r for config in getattr(module, "peft_config", {}).values()]


def load(pipeline: Any, component: str, folder: str) -> None:
    """Load saved LoRA weights into the denoiser as its trainable adapter.

    Raises:
        ModelError: the folder holds no safetensors LoRA weights, or they are of another model.
    """
    if not _knows_adapters(pipeline):
        return _load_folder(getattr(pipeline, component), folder)
    file = SECOND_WEIGHTS if component == SECOND else WEIGHTS
    if not Path(folder, file).is_file():
        raise ModelError(f"holds no {file}.", file=folder, remedy="give the folder that a LoRA run saved.")
    module = getattr(pipeline, component)
    options = {"load_into_transformer_2": True} if component == SECOND else {}
    pipeline.load_lora_weights(folder, weight_name=file, adapter_name=ADAPTER, use_safetensors=True, **options)
    if ADAPTER not in getattr(module, "peft_config", {}):
        raise ModelError("holds an adapter of another model.", file=folder, remedy="give the policy it was trained on.")
    module.requires_grad_(False)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    return _train_in_float32(module)


def load_peft(module: Any, folder: str) -> None:
    """Load an ordinary peft folder into a transformers model as its trainable adapter.

    Raises:
        ModelError: the folder holds no safetensors adapter, or it is of another model.
    """
    if not Path(folder, PEFT_WEIGHTS).is_file():
        raise ModelError(f"holds no {PEFT_WEIGHTS}.", file=folder, remedy="give the folder that a LoRA run saved.")
    try:
        module.load_adapter(folder, adapter_name=ADAPTER, is_trainable=True)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"holds an adapter of another model ({str(error).splitlines()[0]}).",
            file=folder,
            remedy="give the policy it was trained on.",
        ) from error
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    _train_in_float32(module)


def merged(module: Any) -> Any:
    """A copy of a transformers model with its adapter folded into its weights."""
    import copy

    from peft.tuners.tuners_utils import BaseTunerLayer

    whole = copy.deepcopy(module)
    for name, part in list(whole.named_modules()):
        if isinstance(part, BaseTunerLayer):
            part.merge()
            parent, _, leaf = name.rpartition(".")
            setattr(whole.get_submodule(parent), leaf, part.get_base_layer())
    del whole.peft_config
    whole._hf_peft_config_loaded = False
    return whole


def save(pipeline: Any, component: str, folder: str) -> None:
    """Write the adapter so that `pipe.load_lora_weights(folder)` reads it, alpha included; a second denoiser's with
    `weight_name=SECOND_WEIGHTS, load_into_transformer_2=True`. Of a pipeline that knows no adapters, an ordinary peft
    folder: `PeftModel.from_pretrained(pipe.transformer, folder)`.
    """
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    module = getattr(pipeline, component)
    if not _knows_adapters(pipeline):
        return _save_folder(module, folder)
    weights = convert_state_dict_to_diffusers(get_peft_model_state_dict(module, adapter_name=ADAPTER))
    metadata = module.peft_config[ADAPTER].to_dict()
    file, name = (SECOND_WEIGHTS, "transformer") if component == SECOND else (WEIGHTS, component)
    return pipeline.save_lora_weights(
        folder,
        weight_name=file,
        **{f"{name}_lora_layers": weights, f"{name}_lora_adapter_metadata": metadata},
    )


def _knows_adapters(pipeline: Any) -> bool:
    from diffusers.loaders.lora_base import LoraBaseMixin

    return isinstance(pipeline, LoraBaseMixin)


def _save_folder(module: Any, folder: str) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    Path(folder).mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(module, adapter_name=ADAPTER)
    named = {_PEFT_PREFIX + name: value.detach().cpu().contiguous() for name, value in weights.items()}
    save_file(named, Path(folder, PEFT_WEIGHTS), metadata={"format": "pt"})
    module.peft_config[ADAPTER].save_pretrained(folder)


def _load_folder(module: Any, folder: str) -> None:
    from peft import LoraConfig, set_peft_model_state_dict
    from safetensors.torch import load_file

    if not Path(folder, PEFT_WEIGHTS).is_file():
        raise ModelError(f"holds no {PEFT_WEIGHTS}.", file=folder, remedy="give the folder that a LoRA run saved.")
    weights = {k.removeprefix(_PEFT_PREFIX): v for k, v in load_file(Path(folder, PEFT_WEIGHTS)).items()}
    try:
        module.add_adapter(LoraConfig.from_pretrained(folder), adapter_name=ADAPTER)
        found: Any = set_peft_model_state_dict(module, weights, adapter_name=ADAPTER)
        strangers = list(found.unexpected_keys)
    except (RuntimeError, ValueError) as error:
        strangers = [str(error).splitlines()[0]]
    if strangers:
        raise ModelError(
            f"holds an adapter of another model ({strangers[0]}).",
            file=folder,
            remedy="give the policy it was trained on.",
        )
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    _train_in_float32(module)


def _train_in_float32(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
