"""From a path to a loaded policy: where the folder is, what it holds, and nothing that needs pickle."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from penchant.assets import resolve
from penchant.errors import ModelError
from penchant.models.families import Family, family_of

if TYPE_CHECKING:
    from penchant.models.causal_lm import CausalLM
    from penchant.models.musicgen import MusicGen
    from penchant.models.pipeline_model import PipelineModel
    from penchant.models.spec import Policy

ATTENTION_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_TO_SAFETENSORS = "convert the weights to safetensors (load them where you trust them and save_pretrained again)."


def quiet() -> None:
    """Our own lines say how far a run is; the bars of the libraries would bury them."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()


def locate(path: str) -> str:
    """An existing folder as given, the folder of `zoo:NAME`, or a hub id unchanged.

    Raises:
        ModelError: it is none of the three.
    """
    if path.startswith("zoo:"):
        return resolve(path)
    folder = Path(path).expanduser()
    if folder.is_dir():
        return str(folder)
    if folder.is_file():
        remedy = _TO_SAFETENSORS if folder.suffix in PICKLED else "give the folder that holds model_index.json."
        raise ModelError("is a single file, not a pipeline folder.", file=path, remedy=remedy)
    if _HUB_ID.fullmatch(path):
        return path
    raise ModelError(
        "no such folder.", file=path, remedy="give a pipeline folder, a hub id like 'owner/name', or 'zoo:NAME'."
    )


def read_index(source: str) -> dict[str, Any]:
    """model_index.json of a folder or hub id.

    Raises:
        ModelError: there is none, or it names no pipeline class.
    """
    folder = Path(source)
    if folder.is_dir():
        index = folder / "model_index.json"
        if not index.is_file():
            pickles = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLED)
            remedy = _TO_SAFETENSORS if pickles else "give the folder that save_pretrained of a pipeline wrote."
            raise ModelError("holds no model_index.json.", file=source, remedy=remedy)
        try:
            found = json.loads(index.read_text())
        except json.JSONDecodeError as error:
            raise ModelError(f"is not JSON ({error}).", file=index) from error
    else:
        from diffusers import DiffusionPipeline

        try:
            found = DiffusionPipeline.load_config(source)
        except OSError as error:
            raise ModelError(
                "is no folder here and could not be read from the hub.",
                file=source,
                remedy="check the spelling and the network, or give a local folder.",
            ) from error
    if not isinstance(found, dict) or "_class_name" not in found:
        raise ModelError("names no pipeline class.", file=source, field="_class_name")
    return found


def refuse_pickles(source: str, index: dict[str, Any]) -> None:
    """Refuse a local folder in which a component's weights exist only as pickle.

    Raises:
        ModelError: naming the component.
    """
    folder = Path(source)
    for name, entry in index.items():
        part = folder / name
        if not isinstance(entry, list) or not part.is_dir():
            continue
        files = [f for f in part.iterdir() if f.is_file()]
        pickled = sorted(f.name for f in files if f.suffix in PICKLED)
        if pickled and not any(f.suffix == ".safetensors" for f in files):
            raise ModelError(f"has only pickled weights ({pickled[0]}).", file=part, remedy=_TO_SAFETENSORS)


def load_policy(policy: Policy) -> PipelineModel | CausalLM | MusicGen:
    """Load, freeze what does not train, attach the adapter. See `penchant.models.load`."""
    source = locate(policy.path)
    names = architectures(source)
    if "MusicgenForConditionalGeneration" in names:
        return _load_musicgen(policy, source)
    if policy.guidance != 1.0:
        raise ModelError(
            "guidance is part of the policy of music token models alone.",
            file=source,
            field="policy.guidance",
            remedy="leave it at 1, and set that of the likelihood, of rollouts or of the evaluation.",
        )
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        _refuse_seconds(policy, source)
        return _load_language_model(policy, source)
    index = read_index(source)
    family = family_of(index["_class_name"], name=policy.family, folder=source)
    if family.modality != "sound":
        _refuse_seconds(policy, source)
    refuse_pickles(source, index)
    pipeline = _load_pipeline(policy, source, index, family)
    model = family.adapter_class()(pipeline, policy)
    if policy.adapter is not None:
        model.load_lora(resolve(policy.adapter))
    elif policy.lora:
        model.add_lora(policy.lora, alpha=policy.lora_alpha, targets=policy.lora_targets or ATTENTION_TARGETS)
    if policy.gradient_checkpointing:
        model.bare.enable_gradient_checkpointing()
    return model


def _refuse_seconds(policy: Policy, source: str) -> None:
    if policy.seconds is not None:
        raise ModelError(
            "makes no sounds.", file=source, field="policy.seconds", remedy="leave it out, or use a music model."
        )


def architectures(source: str) -> tuple[str, ...]:
    """The classes that the configuration of a transformers model names; none for anything else.

    Raises:
        ModelError: its config.json is no JSON.
    """
    folder = Path(source)
    if folder.is_dir():
        config = folder / "config.json"
        if (folder / "model_index.json").is_file() or not config.is_file():
            return ()
        try:
            return tuple(map(str, json.loads(config.read_text()).get("architectures") or ()))
        except json.JSONDecodeError as error:
            raise ModelError(f"is not JSON ({error}).", file=config) from error
    from transformers import AutoConfig

    try:
        return tuple(AutoConfig.from_pretrained(source).architectures)
    except (OSError, ValueError, TypeError):
        return ()


def _load_language_model(policy: Policy, source: str) -> CausalLM:
    from transformers import AutoModelForCausalLM

    from penchant.models.causal_lm import CausalLM

    trains_in_full = policy.lora == 0 and policy.adapter is None
    dtype = torch.float32 if trains_in_full else getattr(torch, policy.dtype)
    bare, tokenizer = _of_transformers(AutoModelForCausalLM, policy, source, dtype)
    return _adapted(CausalLM(bare, tokenizer, policy), policy)


def _load_musicgen(policy: Policy, source: str) -> MusicGen:
    from transformers import MusicgenForConditionalGeneration

    from penchant.models.musicgen import MusicGen

    # The codec's weights stay in float32; what need not, the adapter narrows.
    bare, tokenizer = _of_transformers(MusicgenForConditionalGeneration, policy, source, torch.float32)
    return _adapted(MusicGen(bare, tokenizer, policy), policy)


def _of_transformers(kind: Any, policy: Policy, source: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model and its tokenizer.

    Raises:
        ModelError: there are no safetensors weights, or something is missing.
    """
    from transformers import AutoTokenizer

    folder = Path(source)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        remedy = _TO_SAFETENSORS if any(f.suffix in PICKLED for f in folder.iterdir()) else "give a whole folder."
        raise ModelError("holds no safetensors weights.", file=source, remedy=remedy)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        return kind.from_pretrained(source, dtype=dtype, variant=policy.variant, use_safetensors=True), tokenizer
    except (OSError, ValueError) as error:
        raise ModelError(
            f"could not be loaded ({str(error).splitlines()[0]}).", file=source, remedy="give model and tokenizer."
        ) from error


_Tokens = TypeVar("_Tokens", "CausalLM", "MusicGen")


def _adapted(model: _Tokens, policy: Policy) -> _Tokens:
    """With the policy's adapter, and what saves memory."""
    if policy.adapter is not None:
        model.load_lora(resolve(policy.adapter))
    elif policy.lora:
        model.add_lora(policy.lora, alpha=policy.lora_alpha, targets=policy.lora_targets)
    if policy.gradient_checkpointing:
        model.bare.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _load_pipeline(policy: Policy, source: str, index: dict[str, Any], family: Family) -> Any:
    import diffusers
    from diffusers.utils import is_torchsde_available

    dtype = getattr(torch, policy.dtype)
    trains_in_full = policy.lora == 0 and policy.adapter is None
    dtypes = {
        "default": dtype,
        # The encoder's posterior overflows in half precision, and a latent is encoded once.
        "vae": torch.float32,
        family.component: torch.float32 if trains_in_full else dtype,
    }
    # A second denoiser trains like the first; an index names what a folder lacks as [null, null].
    if family.second is not None and index.get(family.second, [None])[0] is not None:
        dtypes[family.second] = dtypes[family.component]
    options: dict[str, Any] = {"torch_dtype": dtypes, "use_safetensors": True}
    if policy.variant is not None:
        options["variant"] = policy.variant
    if "safety_checker" in index:
        # A filter after the decoder is no part of the likelihood, and would blank samples that a judge is to see.
        options |= {"safety_checker": None, "requires_safety_checker": False}
    if family.modality == "sound" and not is_torchsde_available():
        # Its solver needs a package of its own; ours does without.
        options["scheduler"] = None
    try:
        if policy.vae_path is not None:
            options["vae"] = _load_vae(policy.vae_path, getattr(diffusers, index["vae"][1]))
        with warnings.catch_warnings():
            # `torch_dtype` is what every supported diffusers knows; older ones would ignore its new name `dtype`.
            warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
            return getattr(diffusers, family.pipeline).from_pretrained(source, **options)
    except OSError as error:
        raise ModelError(
            f"could not be loaded ({str(error).splitlines()[0]}).",
            file=source,
            remedy=f"check the variant; if the weights are pickled, {_TO_SAFETENSORS}",
        ) from error


def _load_vae(path: str, kind: Any) -> Any:
    inner = Path(path) / "vae"
    folder = str(inner) if inner.is_dir() else path
    return kind.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=True)
