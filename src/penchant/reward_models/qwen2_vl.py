"""Qwen2-VL as a backbone: VideoReward's own (VideoAlign, arXiv 2501.13918, section 3.2, tables 11 and 12).

The vision tower with its merger trains in full, the language model through LoRA, and of the embeddings nothing but the
rows of the special tokens, which are parameters of their own beside the table.

Where we differ from the authors' code:

1. Frames go in as pictures, each with its own marks, through transformers' PIL image processor; the video processor
   needs torchvision. A frame fills both halves of its temporal patch, so a clip costs twice the tokens of the same
   frames as a video.
2. The rubric is in our own words (`penchant.reward_models.rubrics`), and a special token has no word in the tokenizer:
   a prompt that spells it, or any other token of the chat format, is read as letters.
3. Out of training the prefix that ends before the prompt is computed first and kept (keys and values), and the rest
   then attends to it; so a score before the prompt is bit-identical whatever the prompt's length.

Shapes: N rows, P positions of the prefix, L positions, W width, D special tokens, I pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from penchant.errors import ModelError
from penchant.models import lora
from penchant.reward_models.frames import as_clip, frame_indices
from penchant.reward_models.network import Backbone, BackboneSpec, Dimension, Tokens
from penchant.reward_models.rubrics import INTRODUCTION, SYSTEM, parts

# "All linear layers of the LM": table 11.
_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class Qwen2VL(BackboneSpec):
    """Which Qwen2-VL, and how much of a clip it sees.

    Attributes:
        path: folder or hub id of a Qwen2VLForConditionalGeneration.
        lora: rank of the language model's adapter; 64 in table 11.
        lora_alpha: numerator of its scale; 128 in table 11.
        fps: frames a second; 2 in the paper.
        least_frames: short clips give that many; 4 in the authors' code.
        most_frames: longer clips give that many.
        max_pixels: pixels of a frame, aspect kept; 448 x 448 in the paper.
        dtype: of the language model's frozen weights; what trains is float32.
        gradient_checkpointing: trade computation for memory.
    """

    cite: ClassVar[tuple[str, ...]] = ("wang2024qwen2vl", "hu2022lora")

    path: str = "Qwen/Qwen2-VL-2B-Instruct"
    lora: int = 64
    lora_alpha: float = 128.0
    fps: float = 2.0
    least_frames: int = 4
    most_frames: int = 24
    max_pixels: int = 448 * 448
    dtype: str = "bfloat16"
    gradient_checkpointing: bool = False

    def build(self, dimensions: Sequence[Dimension], *, prompts: Sequence[str], folder: Path | None) -> Backbone:
        return _Network(self, dimensions)


def _pretrained(spec: Qwen2VL) -> tuple[Any, Any, Any]:
    """Model, tokenizer and image processor.

    Raises:
        ModelError: there is none at `path`, or it is another model.
    """
    import transformers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    folder = Path(spec.path)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise ModelError("holds no safetensors weights.", file=spec.path, remedy="save it with safe_serialization.")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(spec.path)
        processor = Qwen2VLImageProcessorPil.from_pretrained(spec.path)
        whole: Any = transformers.Qwen2VLForConditionalGeneration.from_pretrained(
            spec.path, dtype=getattr(torch, spec.dtype), use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"could not be loaded ({str(error).splitlines()[0]}).",
            file=spec.path,
            field="backbone.path",
            remedy="give a folder or hub id of a Qwen2VLForConditionalGeneration.",
        ) from error
    processor.size = {"shortest_edge": processor.size["shortest_edge"], "longest_edge": spec.max_pixels}
    return whole.model, tokenizer, processor


@final
class _Network(Backbone):
    def __init__(self, spec: Qwen2VL, dimensions: Sequence[Dimension]) -> None:
        super().__init__()
        self.spec, self.dimensions = spec, tuple(dimensions)
        self.qwen, self.tokenizer, self.processor = _pretrained(spec)
        self.width = int(self.qwen.config.text_config.hidden_size)
        lora.add(self.qwen.language_model, rank=spec.lora, alpha=spec.lora_alpha, targets=_LINEAR)
        self.qwen.visual.float().requires_grad_(True)
        if spec.gradient_checkpointing:
            self.qwen.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        table = self.qwen.get_input_embeddings().weight.detach().float()
        # As transformers makes the rows of new words: around the mean of the old ones.
        self.special = nn.Parameter(table.mean(0) + table.std() * torch.randn(len(self.dimensions), self.width))
        self.early = [i for i, dimension in enumerate(self.dimensions) if not dimension.sees_prompt]
        self.late = [i for i, dimension in enumerate(self.dimensions) if dimension.sees_prompt]

    def prepare(self, sample: Any) -> dict[str, Tensor]:
        """`pixels` [patches, values] of all frames and `grid` [frames, 3], as the processor makes them."""
        clip, spec = as_clip(sample), self.spec
        most, least = spec.most_frames, spec.least_frames
        index = frame_indices(len(clip), clip.fps, rate=spec.fps, most=most, least=least)
        made = self.processor([Image.fromarray(clip.frames[i]) for i in index], return_tensors="pt")
        return {"pixels": made["pixel_values"], "grid": made["image_grid_thw"]}

    def collate(self, prompts: Sequence[str], prepared: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Ids of prefix and rest, each padded to the right; where each special token stands; the pictures."""
        before = [self._prefix(p["grid"]) for p in prepared]
        after = [self._rest(prompt) for prompt in prompts]
        P, R = (max(len(ids) for ids, _ in rows) for rows in (before, after))
        pad = self.tokenizer.pad_token_id
        ids = torch.full((len(prompts), P + R), pad)
        mask = torch.zeros(len(prompts), P + R, dtype=torch.bool)
        place = torch.empty(len(prompts), len(self.special), dtype=torch.long)
        for n, ((first, early), (second, late)) in enumerate(zip(before, after, strict=True)):
            ids[n, : len(first)], mask[n, : len(first)] = torch.tensor(first), True
            ids[n, P : P + len(second)], mask[n, P : P + len(second)] = torch.tensor(second), True
            if len(self.special):
                place[n, self.early] = torch.tensor(early, dtype=torch.long)
                place[n, self.late] = torch.tensor(late, dtype=torch.long) + P
        return {
            "ids": ids,
            "mask": mask,
            "place": place,
            "prefix": torch.tensor(P),
            "pixels": torch.cat([p["pixels"] for p in prepared]),
            "grid": torch.cat([p["grid"] for p in prepared]),
        }

    def _words(self, text: str) -> list[int]:
        """Ids of a text in which nothing is a special token."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def _marked(self, text: str) -> list[int]:
        """Ids of a text of ours, in which the marks of the chat format are themselves."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _with_tokens(self, texts: Sequence[str], ids: list[int], tokens: int) -> tuple[list[int], list[int]]:
        """`ids` followed by the texts, the first `tokens` of them each with a special token behind it."""
        place = []
        for k, text in enumerate(texts):
            ids = ids + self._words(text)
            if k < tokens:
                place.append(len(ids))
                # Any id: its embedding is replaced.
                ids = [*ids, self.tokenizer.pad_token_id, *self._words("\n\n")]
        return ids, place

    def _prefix(self, grid: Tensor) -> tuple[list[int], list[int]]:
        merged = self.qwen.config.vision_config.spatial_merge_size**2
        frames = [f"<|vision_start|>{'<|image_pad|>' * (int(row.prod()) // merged)}<|vision_end|>" for row in grid]
        opening = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{''.join(frames)}{INTRODUCTION}\n\n"
        before, _ = parts(self.dimensions, "")
        return self._with_tokens(before, self._marked(opening), len(self.early))

    def _rest(self, prompt: str) -> tuple[list[int], list[int]]:
        _, after = parts(self.dimensions, prompt)
        ids, place = self._with_tokens(after, [], len(self.late))
        return ids + self._marked("<|im_end|>\n<|im_start|>assistant\n"), place

    def forward(self, rows: Mapping[str, Tensor]) -> Tokens:
        ids, mask = rows["ids"], rows["mask"]
        embedded_NLW = self._embedded(rows)
        kinds = (ids == self.qwen.config.image_token_id).int()
        position, _ = self.qwen.get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=rows["grid"], attention_mask=mask
        )
        read = self._at_once if self.training else self._prefix_first
        state_NLW = read(embedded_NLW, mask.long(), position, int(rows["prefix"]))
        return Tokens(state_NLW=state_NLW, mask_NL=mask, place_ND=rows["place"])

    def _embedded(self, rows: Mapping[str, Tensor]) -> Float[Tensor, "N L W"]:
        """Words, pictures in the place of their marks, and the rows of the special tokens."""
        ids, place_ND = rows["ids"], rows["place"]
        embedded = self.qwen.get_input_embeddings()(ids)
        seen = torch.cat(self.qwen.get_image_features(rows["pixels"], rows["grid"], return_dict=True).pooler_output)
        picture = (ids == self.qwen.config.image_token_id)[:, :, None]
        embedded = embedded.masked_scatter(picture, seen.to(embedded.dtype))
        row = torch.arange(len(ids), device=ids.device)[:, None].expand_as(place_ND)
        special = self.special.to(embedded.dtype).expand(len(ids), -1, -1)
        return embedded.index_put((row, place_ND), special)

    def _at_once(self, embedded: Tensor, mask: Tensor, position: Tensor, prefix: int) -> Tensor:
        lm = self.qwen.language_model
        return lm(inputs_embeds=embedded, attention_mask=mask, position_ids=position, use_cache=False).last_hidden_state

    def _prefix_first(self, embedded: Tensor, mask: Tensor, position: Tensor, prefix: int) -> Tensor:
        lm = self.qwen.language_model
        first = lm(
            inputs_embeds=embedded[:, :prefix],
            attention_mask=mask[:, :prefix],
            position_ids=position[..., :prefix],
            use_cache=True,
        )
        second = lm(
            inputs_embeds=embedded[:, prefix:],
            attention_mask=mask,
            position_ids=position[..., prefix:],
            past_key_values=first.past_key_values,
            use_cache=True,
        )
        return torch.cat([first.last_hidden_state, second.last_hidden_state], 1)

    def keep(self, folder: Path) -> None:
        """Nothing: tokenizer and frozen weights stay where `path` says."""
