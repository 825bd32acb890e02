"""The text encoder of the clip generator: a small UMT5 that learnt, beside a small eye, which caption names what.

Wan reads captions with a frozen UMT5; ours is frozen too once it can tell the captions apart. Only the text half of the
pair is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penchant.zoo.clips.autoencoder import pixels
from penchant.zoo.clips.training import Run, Schedule
from penchant.zoo.clips.windows import Loops

WIDTH, WORDS, VOCABULARY = 96, 20, 1280
SCHEDULE = Schedule(steps=600, lr=2e-3, batch=64)


def tokenizer(captions: Sequence[str]) -> Any:
    """A byte-level BPE tokenizer trained on the captions, with T5's special tokens: pad 0, eos 1, unknown 2."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(unk_token=None))
    core.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    pad, end, unknown = specials = ["<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=specials, initial_alphabet=alphabet)
    core.train_from_iterator(captions, trainer)
    core.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 1)])
    names = {"pad_token": pad, "eos_token": end, "unk_token": unknown}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=WORDS, **names)


def encoder() -> Any:
    """UMT5EncoderModel, two layers of width 96."""
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            d_kv=24,
            d_ff=192,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
    )


class _Eye(nn.Module):
    """Clip features [N, WIDTH]: what the frames show, and how much it changes over time."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 24, 48, WIDTH)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.GELU()]
        self.frames = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.out = nn.Linear(8 * WIDTH, WIDTH)

    def forward(self, clips: Tensor) -> Tensor:
        batch, length = clips.shape[0], clips.shape[2]
        features = self.frames(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, length))
        return self.out(torch.cat([features.mean(1), features.std(1)], -1))


def tokens(words: Any, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids and mask, [N, WORDS] each."""
    rows = words(list(captions), padding="max_length", truncation=True, max_length=WORDS, return_tensors="pt")
    return rows.input_ids, rows.attention_mask


def states(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """What the denoiser attends to, [N, WORDS, WIDTH]: zero behind a caption's end, as WanPipeline makes it."""
    return model(ids, mask).last_hidden_state * mask[..., None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """Text encoder and eye side by side: which caption a clip shows."""

    words: Any
    encoder: Any
    eye: nn.Module
    scale: nn.Parameter

    def logits(self, clips: Tensor, captions: Sequence[str]) -> Tensor:
        """How well uint8 clips [N, F, H, W, 3] fit captions: scaled cosines [N, captions]."""
        ids, mask = tokens(self.words, captions)
        pooled = states(self.encoder, ids, mask).sum(1) / mask.sum(1, keepdim=True)
        features = self.eye(pixels(clips))
        return self.scale.exp() * F.normalize(features, dim=-1) @ F.normalize(pooled, dim=-1).T


def train(
    words: Any, captions: Sequence[str], loops: Loops, folder: Path, schedule: Schedule = SCHEDULE
) -> tuple[Reader, float]:
    """Trains encoder and eye on the captions and their loops by a symmetric contrastive loss (Radford et al. 2021).

    Returns:
        Both with their averaged parameters, and the seconds of this call.
    """
    torch.manual_seed(schedule.seed)
    reader = Reader(words=words, encoder=encoder().train(), eye=_Eye().train(), scale=nn.Parameter(torch.tensor(2.0)))
    parameters = [*reader.encoder.parameters(), *reader.eye.parameters(), reader.scale]

    def loss_of(generator: torch.Generator) -> Tensor:
        clips, rows = loops.draw(schedule.batch, generator)
        table, own = reader.logits(clips, [captions[i] for i in rows.tolist()]), torch.arange(len(rows))
        return (F.cross_entropy(table, own) + F.cross_entropy(table.T, own)) / 2

    seconds = Run(parameters, schedule, folder / "text.safetensors").train(loss_of)
    reader.encoder.eval()
    return reader, seconds
