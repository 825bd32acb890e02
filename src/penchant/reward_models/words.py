"""Words of prompts for the small networks: byte-level BPE trained on the captions, so that any prompt has tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor

from penchant.errors import ModelError

PAD, END = 0, 1
_FILE = "tokenizer.json"


@final
class Words:
    """A tokenizer; every prompt ends with `END` and is padded to a fixed length with `PAD`."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def train(cls, prompts: Sequence[str], size: int) -> Words:
        """Of at most `size` tokens; 256 bytes are always among them."""
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=["<pad>", "<end>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(sorted(set(prompts)), trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, folder: Path) -> Words:
        """What `save` wrote.

        Raises:
            ModelError: there is no tokenizer, or it cannot be read.
        """
        from tokenizers import Tokenizer

        try:
            return cls(Tokenizer.from_file(str(folder / _FILE)))
        # The reader knows one kind of error: Exception.
        except Exception as error:
            raise ModelError(
                f"cannot be read ({error}).", file=folder / _FILE, remedy="train the model again."
            ) from error

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json`."""
        self.tokenizer.save(str(folder / _FILE))

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def ids(self, prompts: Sequence[str], length: int) -> Int[Tensor, "N T"]:
        """Token ids, cut to `length` with the end, padded to it."""
        rows = [[*encoded.ids[: length - 1], END] for encoded in self.tokenizer.encode_batch(list(prompts))]
        return torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
