"""`Policy`, the description of the model to align; `penchant.models.load` makes it one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from penchant.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Which model to align, and which of its weights.

    Attributes:
        path: a pipeline folder of diffusers, a folder of a transformers causal language model or of MusicGen, a hub id,
            or `zoo:NAME` for a model that we ship.
        lora: rank of the adapter; 0 trains every weight (of the denoiser).
        lora_alpha: numerator of the adapter's scale alpha / rank; None means alpha = rank, a scale of 1.
        lora_targets: layers that get an adapter. None means, for images and video, the four attention projections (what
            the diffusers Diffusion-DPO scripts, the MaPO LoRA script and Flow-DPO train), for text and music tokens
            every linear layer but the heads.
        adapter: folder (or `zoo:NAME`) with saved LoRA weights to continue from or to sample with; its rank is its
            own, so `lora` stays 0.
        dtype: type of the frozen weights and of the computation. Weights that train stay in float32, because the
            learning rates of this field round to nothing in bfloat16.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.
        vae_path: another VAE, e.g. one that does not overflow in half precision.
        variant: file variant inside the folder, e.g. "fp16".
        family: "auto" reads it from model_index.json; otherwise a name of `penchant.models.families.FAMILIES`.
        resolution: side in pixels of training and sampling, for clips the height; None means the model's own.
        width: width of clips in pixels; None means `resolution` if that is given, else the model's own.
        frames: frames of a clip; None means the model's own.
        fps: frames a second of clips; None means the model's own.
        seconds: length of sounds; None means the model's own.
        guidance: scale of classifier-free guidance that is part of a music token model's policy: rollouts are drawn and
            candidates scored with it, at twice the cost. 1 is the conditional branch alone.
        chat: whether texts go through the tokenizer's chat template: if there is one ("auto"), always, or never.
        notation: what completions are when they are no plain texts: "tune", music in the words of
            `penchant.feedback.tune`. They are then judged and shown as music.
        max_prompt: longest prompt in tokens; what is over loses its beginning (for music its end), and is counted. None
            for no limit.
        max_completion: longest completion in tokens; what is over loses its end, and is counted. None for no limit.
    """

    path: str
    lora: int = 0
    lora_alpha: float | None = None
    lora_targets: tuple[str, ...] | None = None
    adapter: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_checkpointing: bool = False
    vae_path: str | None = None
    variant: str | None = None
    family: str = "auto"
    resolution: int | None = None
    width: int | None = None
    frames: int | None = None
    fps: float | None = None
    seconds: float | None = None
    guidance: float = 1.0
    chat: Literal["auto", "template", "plain"] = "auto"
    notation: Literal["tune"] | None = None
    max_prompt: int | None = None
    max_completion: int | None = None

    def __post_init__(self) -> None:
        if self.lora < 0:
            raise ModelError(f"a LoRA rank of {self.lora} is negative.", field="lora", remedy="use 0 for none.")
        if self.lora and self.adapter is not None:
            raise ModelError(
                "a saved adapter brings its own rank.", field="lora", remedy="leave lora at 0 to continue from adapter."
            )
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ModelError(
                f"unknown dtype '{self.dtype}'.", field="dtype", remedy="use float32, bfloat16 or float16."
            )
        if self.chat not in ("auto", "template", "plain"):
            raise ModelError(f"no chat is '{self.chat}'.", field="chat", remedy="use auto, template or plain.")
        if self.notation not in (None, "tune"):
            raise ModelError(
                f"no notation is '{self.notation}'.", field="notation", remedy="use tune, or leave it out."
            )
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ModelError(f"no sound lasts {self.seconds} s.", field="seconds", remedy="use more than 0, or None.")
        if not 0 <= self.guidance < float("inf"):
            raise ModelError("not a guidance scale.", field="guidance", remedy="use 1 for none.")
        for name in ("max_prompt", "max_completion"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ModelError(f"{limit} tokens are none.", field=name, remedy="use 1 or more, or None.")
